"""What a strict type checker says of a user's program."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import recurrent_rl

ROOT = Path(__file__).resolve().parents[1]
TRAINING = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
PROGRAM = """
import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import recurrent_rl
from recurrent_rl import (
    ActionHead, Actor, AgentConfig, AnyCallback, Distribution, Environment, FastActor, Memory,
    MemoryState, Policy, Rollout, StopSignals, TrainConfig, TrainResult, TuneResult, Trainer,
)
from torch import Tensor, nn

class MineState(NamedTuple):
    h: Tensor

class Mine(Memory):
    state_type = MineState

    def __init__(self, input_size: int, hidden_size: int, num_layers: int) -> None:
        super().__init__(input_size, hidden_size)
        self.cell = nn.GRUCell(input_size, hidden_size)

    def initial_state(self, batch: int) -> MineState:
        return MineState(self.cell.weight_ih.new_zeros(1, batch, self.output_size))

    def step(
        self, x: Tensor, state: MineState, episode_start: Tensor | None = None
    ) -> tuple[Tensor, MineState]:
        state = self.reset(state, episode_start)
        h: Tensor = self.cell(x, state.h[0])
        return h, MineState(h[None])

    def unroll(
        self, x: Tensor, state: MineState, episode_start: Tensor | None = None
    ) -> tuple[Tensor, MemoryState]:
        return super().unroll(x, state, episode_start)

    def gates(self, x: Tensor, state: MineState) -> dict[str, Tensor]:
        return {}

class Features(nn.Module):
    pass

class Head(ActionHead):
    def forward(
        self, features: Tensor, mask: Tensor | None = None, previous: Tensor | None = None
    ) -> Distribution:
        return super().forward(features, mask, previous)

def run(
    config: TrainConfig, env: Environment, callbacks: Sequence[AnyCallback], stop: StopSignals
) -> TrainResult:
    found: TuneResult = recurrent_rl.tune(config, env, stop=stop)
    with Trainer(config, env) as trainer:
        trainer.iterate()
    return recurrent_rl.train(found.config or config, env, callbacks=callbacks, stop=stop)

def largest(rollout: Rollout) -> float:
    return float(rollout.rewards.max())

def players(policy: Policy) -> tuple[Actor, FastActor]:
    policy.export("x", "onnx")
    return policy.actor(False, seed=0), policy.actor(True, seed=0, runner="fast")

config = AgentConfig(memory=Mine, encoder=Features, head=Head)
config = AgentConfig("lstm", 64, encoder="mine:Features", head=None)
config = dataclasses.replace(config, memory=Mine)
memory: str = config.memory
encoder: str | None = config.encoder
policy = recurrent_rl.load_policy("policy.safetensors")
name: str = {0: "left", 1: "right"}[policy.predict(0)[0]]  # of a Discrete space: a number
path: str = str(recurrent_rl.train(TrainConfig("CartPole-v1", agent=config)).policy_path)
policy = recurrent_rl.load_policy(path)
"""
MISTAKES = {
    "AgentConfig(memory=nn.GRU)": 'expected "str | type[Memory]"',
    "AgentConfig(memory=Mine(1, 1, 1))": 'expected "str | type[Memory]"',
    "AgentConfig(head=Features)": 'expected "str | type[ActionHead] | None"',
    "AgentConfig(hidden_sise=64)": 'Unexpected keyword argument "hidden_sise" for "AgentConfig"',
    "recurrent_rl.trian(TrainConfig())": 'Module has no attribute "trian"',
    'policy.export("x", to="onxx")': """expected "Literal['onnx', 'torch', 'c', 'c-int8', """,
    'policy.actor(True, 0, "fast")': 'No overload variant of "actor"',
}


def test_a_type_checker_is_told_of_the_public_names_what_use_finds() -> None:
    tree = ast.parse(Path(recurrent_rl.__file__).read_text())
    imported = {
        alias.name: node.module.removeprefix("recurrent_rl.")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("recurrent_rl.")
        for alias in node.names
        if node.module is not None and alias.asname == alias.name
    }
    assert imported == recurrent_rl._HOMES


def test_every_public_name_is_in_the_reference() -> None:
    pages = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md"))
    shown = set(re.findall(r"^\.\. auto\w+:: recurrent_rl\.(\S+)$", pages, re.MULTILINE))
    homes = recurrent_rl._HOMES.items()
    assert [name for name, home in homes if not shown & {name, f"{home}.{name}"}] == []


@pytest.mark.slow
def test_a_strict_type_checker_takes_a_users_program_and_finds_its_mistakes(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    program = tmp_path / "program.py"
    (callbacks,) = re.findall(r"^```python\n([^`]*class Diary[^`]*)```$", TRAINING, re.MULTILINE)
    program.write_text(PROGRAM + "\n".join(MISTAKES))
    diary = tmp_path / "diary.py"
    diary.write_text(callbacks)
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", str(program), str(diary)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    first = len(PROGRAM.splitlines()) + 1
    # Of the library's own lines `make types` tells, with the settings that they were written for.
    found = [line for line in run.stdout.splitlines() if str(tmp_path) in line and "error:" in line]
    for i, expected in enumerate(MISTAKES.values()):
        (line,) = [one for one in found if f"program.py:{first + i}:" in one]
        assert expected in line
    assert len(found) == len(MISTAKES), run.stdout
