"""The parts that an agent's settings name: found, imported, and told from the library's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.encoders import ENCODERS
from recurrent_rl.agents.heads import HEADS
from recurrent_rl.agents.importing import class_path, import_module, imported
from recurrent_rl.agents.memory.registry import MEMORIES
from recurrent_rl.agents.parts import Parts
from recurrent_rl.agents.settings import SettingError, check_choice

PARTS: dict[str, Parts[Any]] = {"memory": MEMORIES, "encoder": ENCODERS, "head": HEADS}
"""The parts that may be one's own, by the setting that names them."""


def found_parts(config: AgentConfig, given: Mapping[str, Any]) -> dict[str, Any]:
    """The parts that the config names; None where the library's go by the space.

    Modules are imported for it.

    Args:
        config: names them.
        given: classes in the place of what their names stand for in this process.

    Raises:
        SettingError: a part cannot be imported, or lacks its contract; or one is given where the
            config names the library's.
    """
    found: dict[str, Any] = {}
    for kind in given:
        check_choice("parts", kind, PARTS)
    for kind, parts in PARTS.items():
        name, own = getattr(config, kind), given.get(kind)
        if own is None:
            found[kind] = None if name is None else parts.named(name)
            continue
        parts.check(own)
        if not parts.is_own(name):
            library = "the library's own" if name is None else f"the library's {name}"
            raise SettingError(
                f"{kind} is given as {class_path(own)}, but the agent's is {library}. Leave "
                f"{kind} out."
            )
        found[kind] = own
    return found


def import_parts(paths: Iterable[str]) -> None:
    """Import what a user names, so that settings and files may name it too.

    Args:
        paths: modules, which register their parts, or classes as `module:Class`.

    Raises:
        SettingError: one cannot be imported, or is no part of an agent.
    """
    for path in paths:
        if ":" not in path:
            import_module(path, "--import")
            continue
        try:
            part = imported(path, "class")
        except SettingError as error:
            raise SettingError(f"--import {path}: {error}") from error
        kinds = [kind for kind, parts in PARTS.items() if parts.fault(part) is None]
        if not kinds:
            faults = "; ".join(f"as {kind}, {PARTS[kind].fault(part)}" for kind in PARTS)
            raise SettingError(f"--import is {path!r}, which is no part of an agent: {faults}.")
        PARTS[kinds[0]].take(path, part)


def own_parts(config: AgentConfig) -> dict[str, str]:
    """The names of the parts that are not the library's, by their setting."""
    names = {kind: getattr(config, kind) for kind in PARTS}
    return {kind: name for kind, name in names.items() if PARTS[kind].is_own(name)}
