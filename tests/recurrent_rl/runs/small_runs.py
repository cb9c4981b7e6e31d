"""What the tests of whole runs share: a small run, its weights, environments, and how it fails."""

import contextlib
import dataclasses
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch

from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.config import TrainConfig
from recurrent_rl.experiments.results import learning_curve
from recurrent_rl.runs.callbacks import AnyCallback, TrainingState
from recurrent_rl.trainer import Trainer


def config(
    tmp_path: Path, env_id: str | None = "recurrent_rl/TMaze-v0", **changes: Any
) -> TrainConfig:
    return dataclasses.replace(
        TrainConfig(
            env_id,
            log_dir=str(tmp_path),
            num_envs=8,
            num_steps=16,
            seq_len=8,
            total_timesteps=8 * 16 * 6,
            num_minibatches=2,
            update_epochs=2,
            memory_interval=2,
            eval_episodes=0,
            agent=AgentConfig("lstm", hidden_size=16, encoder_size=16),
        ),
        **changes,
    )


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: x.clone() for name, x in trainer.agent.state_dict().items()}


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


@contextlib.contextmanager
def registered(env: Callable[[], gym.Env[Any, Any]]) -> Iterator[str]:
    gym.register("Mine-v0", lambda **_: env(), disable_env_checker=True)
    try:
        yield "Mine-v0"
    finally:
        gym.registry.pop("Mine-v0")


def fail_at(at: int) -> AnyCallback:
    def callback(state: TrainingState) -> None:
        if state.timesteps == at:
            raise LookupError("no such dashboard")

    return callback


@contextmanager
def held_by_another(run_dir: Path, until: Path | None = None) -> Iterator[None]:
    """Another process holds the folder until there is this file; it is killed at the end."""
    holding = (
        "import pathlib, select, sys; from recurrent_rl.runs.folder import RunFolder\n"
        "with RunFolder(pathlib.Path(sys.argv[1])).locked():\n"
        "    print('held', flush=True)\n"
        "    while not (sys.argv[2] and pathlib.Path(sys.argv[2]).exists()):\n"
        "        if select.select([sys.stdin], [], [], 0.05)[0]: break"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holding, str(run_dir), str(until or "")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        try:
            yield
        finally:
            other.kill()


def files(run_dir: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(run_dir.iterdir())}


def evaluations(run_dir: Path) -> list[tuple[int, float]]:
    """Step and value of each mean return that an evaluation has logged."""
    steps, values = learning_curve(run_dir, "eval/mean_reward")
    return list(zip(steps.tolist(), values.tolist(), strict=True))
