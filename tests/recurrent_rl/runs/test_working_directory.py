"""Where a run's files lie when an environment changes the working directory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from recurrent_rl.agents.policy import load_policy
from recurrent_rl.errors import UserError
from recurrent_rl.runs.callbacks import Callback, TrainingState
from recurrent_rl.runs.folder import RunFolder
from recurrent_rl.runs.training import resume, train
from tests.recurrent_rl.cli.commands import TINY, ended
from tests.recurrent_rl.runs.small_runs import config


class Moves(gym.Env[Any, Any]):
    """Goes into another folder, as some do where their assets lie."""

    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)
    fails = False

    def __init__(self) -> None:
        Path("assets").mkdir(exist_ok=True)
        os.chdir("assets")

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(2, np.float32), {}

    def step(self, action: int) -> Any:
        self.steps += 1
        if Moves.fails:
            raise UserError("It fails.")
        return np.zeros(2, np.float32), float(action), self.steps % 10 == 0, False, {}


def test_a_run_stays_in_its_folder_when_an_environment_changes_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Moves, "fails", False)

    class Saves(Callback):
        def on_iteration(self, state: TrainingState) -> None:
            assert Path.cwd() != tmp_path
            state.policy.save(state.run_dir / "mine.safetensors")
            Moves.fails = state.iteration == 3 and state.config.total_timesteps == 768

    settings = config(Path("runs"), None, eval_interval=256, eval_episodes=4, save_interval=256)
    with pytest.raises(UserError, match=r"resume\('runs/tests\S+-Moves__lstm__0__\S+', cal"):
        train(settings, env=Moves, progress=False, callbacks=[Saves()])
    Moves.fails = False  # from here on
    assert Path.cwd() == tmp_path
    (run_dir,) = Path("runs").iterdir()
    assert RunFolder(run_dir).load_config().log_dir == "runs"
    result = resume(run_dir, env=Moves, total_timesteps=1024, progress=False, callbacks=[Saves()])
    assert (result.resumed_from, result.run_dir) == (384, tmp_path / run_dir)
    assert result.policy_path == tmp_path / run_dir / "policy.safetensors"
    assert result.best_policy_path == tmp_path / run_dir / "best_policy.safetensors"
    assert load_policy(result.policy_path).summary["timesteps"] == 1024
    evaluated = RunFolder(run_dir).load_evaluation()
    assert evaluated is not None
    assert evaluated.timesteps == 1024
    names = {path.name for path in RunFolder(run_dir).files()}
    assert {"mine.safetensors", "best_policy.safetensors"} <= names
    assert "policy_000000001024.safetensors" in names
    assert not list(tmp_path.glob("assets/**/*.safetensors"))
    again = config(Path("runs"), None, init_from=run_dir, total_timesteps=128)
    other = train(again, env=Moves, progress=False)
    assert (other.run_dir.parent, other.best_policy_path) == (tmp_path / "runs", None)


def test_the_commands_name_the_short_path_and_find_the_run_though_an_environment_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    name = f"{Moves.__module__}:Moves"
    status, out, err = ended(["train", name, *TINY, "--eval-interval=256"], capsys)
    assert status == 0, err
    (run_dir,) = Path("runs").iterdir()
    assert f"Policy:    {run_dir}/policy.safetensors\nBest:      {run_dir}/best_policy" in out
    RunFolder(run_dir).evaluation.unlink()
    status, _, err = ended(["evaluate", str(run_dir), "--episodes=4", "-q"], capsys)
    assert status == 0, err
    assert RunFolder(tmp_path / run_dir).evaluation.exists()
