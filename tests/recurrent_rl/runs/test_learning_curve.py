"""What a run returned while it was trained, and what is said of what it lost since."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import gymnasium as gym
import numpy as np
import pytest
from torch.utils.tensorboard import SummaryWriter

from recurrent_rl.runs.callbacks import TrainingState
from recurrent_rl.runs.evaluation_result import Evaluation
from recurrent_rl.runs.folder import RunFolder
from recurrent_rl.runs.learning_curve import what_was_lost
from recurrent_rl.runs.training import resume, train
from tests.recurrent_rl.runs.small_runs import config

FELL, NEEDS_CHANCE = "mean return in training was", "drawn as in training the policy returned"


@pytest.mark.parametrize(
    ("returns", "evaluated", "noise", "told"),
    [
        ([20, 200, 500, 400, 100], 100, 1.0, f"{FELL} 500 after 3,000 steps, and fell to 100"),
        ([20, 40, 500, 400, 300], 300, 1.0, ""),  # less than half of what was gained
        ([20, 200, 500, 400, 490], 500, 1.0, ""),
        ([-0.1, 0.1, 0.3, 0, -0.2], -0.2, 0.2, ""),  # nothing but noise
        ([-0.1, 0.1, 0.3, 0, -0.2], -0.2, math.nan, f"{FELL} 0.3"),  # of one episode
        ([500, 400, 100, 50, 20], 20, 1.0, f"{FELL} 400"),  # the first is of few episodes
        ([-0.5, -0.5, 0, 0.5, 0.88], 0.27, 0.06, ""),
        ([-0.5, -0.5, 0, 0.5, 0.88], -0.1, 0.06, f"{NEEDS_CHANCE} 0.88, and -0.1"),
        ([-0.5, -0.5, 0, 0.5, 0.88], -0.1, 0.4, ""),
        ([500], 0, 1.0, ""),
        ([], 0, 1.0, ""),
    ],
)
def test_what_was_lost_since_training_is_told_from_noise(
    returns: list[float], evaluated: float, noise: float, told: str, tmp_path: Path
) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        for number, mean in enumerate(returns):
            step = 1_000 * (number + 1)
            writer.add_scalar("rollout/ep_rew_mean", mean, step)
            writer.add_scalar("rollout/ep_len_mean", 15, step)
    found = SimpleNamespace(mean=evaluated, ci95=(evaluated - noise, evaluated + noise))
    said = what_was_lost(RunFolder(tmp_path), cast(Evaluation, found)) or ""
    assert told in said
    assert bool(told) == bool(said)


class PaysForATime(gym.Env[Any, Any]):
    """Pays what a callback sets for each step."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)
    paid = 0.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: int) -> Any:
        self.steps += 1
        return np.zeros(1, np.float32), self.paid, self.steps % 2 == 0, False, {}


@pytest.mark.parametrize("progress", [False, True])
def test_train_notes_what_was_lost_and_says_it_with_progress(
    progress: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def pay(state: TrainingState) -> None:
        monkeypatch.setattr(PaysForATime, "paid", float(4 < state.iteration < 16))

    monkeypatch.setattr(PaysForATime, "paid", 0.0)
    settings = config(tmp_path, None, total_timesteps=128 * 24, eval_episodes=20)
    result = train(settings, PaysForATime, progress=progress, callbacks=[pay])
    (told,) = result.notes
    assert told.startswith("The mean return in training was 2 after")
    assert told.endswith("train with --eval-interval N (eval_interval).")
    assert capsys.readouterr().out.count(told) == progress
    assert resume(result.run_dir, env=PaysForATime, progress=False).notes == ()
