"""Benchmarks beside other libraries give this one the same work as the others."""

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
from gymnasium.vector import SyncVectorEnv

from recurrent_rl.config import TrainConfig
from recurrent_rl.vector_env.vectorize import make_vector_env

RUNNERS = Path(__file__).parents[1] / "benchmarks" / "peers" / "runners"


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The runner of this library."""
    for name in ("common", "recurrent_rl_runner"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "path", [str(RUNNERS), *sys.path])
    return importlib.import_module("recurrent_rl_runner")


def config_of(runner: Any, *arguments: str) -> TrainConfig:
    """The settings of a run with these arguments."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["runner", *arguments])
        args: argparse.Namespace = runner.common.parse_args("", runner.VARIANTS)
    config: TrainConfig = runner.config_of(args)
    return config


def test_the_same_python_environment_is_stepped_one_by_one(runner: Any) -> None:
    """Gymnasium has CartPole in NumPy too, in a tenth of the time."""
    config = config_of(runner, "--env", "python", "--num-envs", "3")
    assert config.env_id is not None
    env = make_vector_env(config.env_id, 3, config.env)
    assert isinstance(env.unwrapped, SyncVectorEnv)
    env.close()


@pytest.mark.parametrize("variant", ["default", "best", "bfloat16", "workers"])
def test_a_speed_run_makes_every_pass(runner: Any, variant: str) -> None:
    """The others do; this library would end passes early by the KL divergence."""
    assert config_of(runner, "--variant", variant).target_kl is None
    assert config_of(runner, "--stop-at-return", "450").target_kl == TrainConfig.target_kl


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The benchmark itself."""
    monkeypatch.setattr(sys, "path", [str(RUNNERS.parent), *sys.path])
    monkeypatch.delitem(sys.modules, "peers", raising=False)
    return importlib.import_module("peers")


def row(kind: str, contender: str, seed: int, **more: Any) -> dict[str, Any]:
    return {
        **{"kind": kind, "contender": contender, "group": "64", "env": "batch", "seed": seed},
        **{"threads": 1, "peak_memory_mb": 1.0, "learning_rate": 1e-3},
        **more,
    }


def test_the_table_says_what_is_missing(peers: Any) -> None:
    """A round that failed, and the limit within which a return was not reached."""
    speeds = [
        row("speed", name, seed, steps_per_second=100.0)
        for name, seeds in (("recurrent-rl", 3), ("skrl", 2))
        for seed in range(seeds)
    ]
    late = row("return", "skrl", 0, reached=False, seconds=57.4)
    table = peers.table([*speeds, late], "batch")
    assert "| 64 | recurrent-rl | 1 | 100 | 1.00" in table
    assert "| 64 | skrl | 1 | 100 (2 of 3 rounds) | 1.00" in table
    assert "not reached in 57 s" in table
