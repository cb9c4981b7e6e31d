"""An exported policy in C: what it refuses, how it plays from its reset, and how it is compiled."""

import ctypes
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.export import c_files
from recurrent_rl.agents.export.graph import Program
from recurrent_rl.agents.export.record import listing_of
from recurrent_rl.agents.export.step import ExportError
from recurrent_rl.agents.policy import Policy
from tests.agents.export.test_export import make
from tests.agents.export.test_native import NEEDS_COMPILER, compiled, written

VECTOR = spaces.Box(-5, 5, (2,))


@pytest.fixture
def files_of(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The files of an agent, whose step is recorded: a trace takes seconds."""

    def files(agent: ActorCritic) -> dict[str, bytes]:
        listing = listing_of(agent, batch=1)
        monkeypatch.setattr(c_files, "lower", lambda program: listing)
        return c_files.files(Program(None, listing.signature, agent))  # type: ignore[arg-type]

    return files


@NEEDS_COMPILER
def test_c_tells_which_input_it_refuses(files_of: Any) -> None:
    observation = spaces.Dict(a=spaces.Discrete(5, start=2), b=VECTOR)
    agent = make(observation, spaces.MultiDiscrete([2, 3]), memory="rnn", previous_reward=True)
    run = c_files.runner(files_of(agent))
    fields = listing_of(agent, batch=1).signature.inputs
    good = {f.name: np.ones([int(n or 1) for n in f.shape], f.dtype) for f in fields}
    good |= {"obs_a": np.array([3]), "episode_start": np.zeros(1, bool)}
    start = {"episode_start": np.ones(1, bool)}
    run(good)
    refused: list[tuple[int, dict[str, Any]]] = [
        (1, {"obs_b": [[1, np.nan]]}),
        (1, {"obs_b": [[-np.inf, 1]]}),
        (1, {"previous_reward": [np.nan]}),
        (2, {"obs_a": [7]}),
        (2, {"obs_a": [1]}),
        (3, {"action_mask": [[1, 1, 0, 0, 0]]}),
        (3, {"action_mask": [[0, 0, 1, 1, 1]]}),
    ]
    for status, wrong in refused:
        with pytest.raises(ExportError, match=f"status {status}"):
            run(good | {name: np.asarray(x) for name, x in wrong.items()})
    run(good | start | {"previous_reward": np.array([np.nan])})  # not read there


@NEEDS_COMPILER
def test_c_plays_from_its_reset_as_the_policy_does(files_of: Any, tmp_path: Path) -> None:
    """With keys that would end a comment of the header, or begin one in it."""
    agent = make(spaces.Dict({"a*": spaces.Dict({"*b": VECTOR})}), memory="gru")
    source = written(files_of(agent), tmp_path)
    compiled(source, ("-O1", "-shared", "-fPIC"), tmp_path / "policy.so")
    library = ctypes.CDLL(str(tmp_path / "policy.so"))
    state = ctypes.create_string_buffer(b"\xff" * 4096)
    actor, untold = (Policy(agent).actor() for _ in range(2))
    played, expected, without = [], [], []
    for t, seen in enumerate(np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)):
        if t % 10 == 0:
            library.policy_reset(state)
            actor.reset()
        mask, action = np.ones(4, np.uint8), np.zeros(1, np.int64)
        arrays = (x.ctypes.data_as(ctypes.c_void_p) for x in (seen, mask, action))
        assert library.policy_step(state, *arrays) == 0
        played.append(action.item())
        expected.append(int(actor.act({"a*": {"*b": seen}})))
        without.append(int(untold.act({"a*": {"*b": seen}})))
    assert played == expected
    assert expected != without
    taken = re.search(r"int policy_step\((.*)\);", (tmp_path / "policy.h").read_text())
    assert taken
    assert [one.startswith("const ") for one in taken[1].split(", ")] == [False, True, True, False]


def test_the_compiler_is_the_one_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "mine")
    monkeypatch.setattr(shutil, "which", lambda name: name if name in ("mine", "clang") else None)
    assert c_files.compiler() == "mine"
    monkeypatch.delenv("CC")
    assert c_files.compiler() == "clang"
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ExportError, match=r"Install gcc or .*variable CC"):
        c_files.compiler()


@NEEDS_COMPILER
def test_what_does_not_compile_is_told_with_the_compilers_words() -> None:
    content = {c_files.HEADER: b"", c_files.SOURCE: b"int x = ;\n", c_files.SIGNATURE: b"{}"}
    with pytest.raises(ExportError, match=r"does not compile the export: .*error"):
        c_files.runner(content)


def test_what_c_lacks_is_refused_with_the_name_of_the_part(
    files_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(*_: Any) -> Any:
        raise ExportError("No such thing.")

    agent = make(spaces.Box(-5, 5, (3,)), memory="none")
    monkeypatch.setattr(c_files, "written", refusing)
    with pytest.raises(ExportError, match=r"^No such thing\.$"):
        files_of(agent)
    monkeypatch.setattr(
        "recurrent_rl.agents.export.own_parts.own_parts", lambda config: {"encoder": "x:Mine"}
    )
    with pytest.raises(ExportError, match=r"thing\. The policy has your encoder 'x:Mine'\."):
        files_of(agent)
