"""The packages of extras: what a missing one is told as, and that the extra brings it."""

from __future__ import annotations

import sys
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from recurrent_rl.agents.errors import UserError
from recurrent_rl.agents.export.step import ExportError
from recurrent_rl.agents.extras import PACKAGES, optional

OF_ENVIRONMENTS = {"box2d", "minigrid", "mujoco"}
"""Extras whose packages Gymnasium imports, not we."""


def brought() -> dict[str, set[str]]:
    """The packages of each extra, but for those of developers and of environments."""
    found: dict[str, set[str]] = {}
    for line in metadata.requires("recurrent-rl") or []:
        needed = Requirement(line)
        for extra in metadata.metadata("recurrent-rl").get_all("Provides-Extra") or []:
            if needed.marker is not None and needed.marker.evaluate({"extra": extra}):
                found.setdefault(extra, set()).add(canonicalize_name(needed.name))
    return {name: found[name] for name in found.keys() - OF_ENVIRONMENTS - {"dev"}}


def test_each_extra_brings_what_its_message_promises() -> None:
    promised: dict[str, set[str]] = {}
    for package in PACKAGES.values():
        promised.setdefault(package.extra, set()).add(package.name)
    promised["tune"] |= {"matplotlib", "scipy"}  # which a search needs beside its own
    known = brought()
    assert {name: known[name] - {"recurrent-rl"} for name in known} == promised


@pytest.mark.parametrize("module", PACKAGES)
def test_a_missing_package_is_told_with_its_extra(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = PACKAGES[module]
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ExportError) as refused:
        optional(module, "This", "do that", error=ExportError)
    assert str(refused.value) == (
        f"This needs {package.name}, which is not installed: "
        f"pip install 'recurrent-rl[{package.extra}]', or do that."
    )


def test_a_package_that_lacks_one_of_its_own_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    pytest.importorskip("scipy")
    with pytest.raises(UserError, match=r"cannot be imported \(.*-rl\[all\]"):
        optional("scipy.stats", "This", extra="all")
