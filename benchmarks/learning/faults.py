"""What training, and a check of the interface, show of an environment that has a fault.

    python benchmarks/learning/faults.py  # about ten minutes of one core, then the table
    python benchmarks/learning/faults.py --table  # of what there is

The environment is the corridor of docs/your-environment.md: a sign at the start says where to turn
after ten steps. Each training leaves a line in benchmarks/results/faults.jsonl; what is there is
not done again.
"""

from __future__ import annotations

from functools import cache
from operator import itemgetter
from tempfile import TemporaryDirectory
from typing import Any

import gymnasium as gym
import numpy as np
from jobs import ROOT, arguments, commit, measure_all

import recurrent_rl
from recurrent_rl.config import TrainConfig
from recurrent_rl.experiments.comparison import markdown
from recurrent_rl.process import available_cores

RESULTS = ROOT / "benchmarks" / "results" / "faults.jsonl"
STEPS, LENGTH, LIMIT = 60_000, 10, 40


class Corridor(gym.Env[Any, Any]):
    """Without a fault: 0 is forward, 1 left, 2 right, and turning at the end is paid 1 or -1."""

    def __init__(self) -> None:
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = gym.spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.sign = int(self.np_random.choice([-1, 1]))
        self.place = self.steps = 0
        self.owed = 0.0
        return self.observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        turned = action != 0 and self.place == LENGTH
        self.place = min(self.place + (action == 0), LENGTH)
        reward = self.paid(action) if turned else 0.0
        return self.observe(), reward, turned, self.steps >= LIMIT, {}

    def paid(self, action: Any) -> float:
        return 1.0 if (action == 1) == (self.sign == -1) else -1.0

    def observe(self) -> Any:
        shown = self.sign if self.place == 0 else 0
        return np.array([shown, self.place == LENGTH], np.float32)


class AnotherSign(Corridor):
    """The next episode's sign is drawn before the reward is computed."""

    def paid(self, action: Any) -> float:
        self.sign = int(self.np_random.choice([-1, 1]))
        return super().paid(action)


class Late(Corridor):
    """A step is paid what the step before it earned."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = super().step(action)
        self.owed, reward = reward, self.owed
        return observation, reward, terminated, truncated, info


class Clock(Corridor):
    """The sign is added to a number of seconds since 1970."""

    def observe(self) -> Any:
        return (super().observe() + np.array([1.7e9, 0])).astype(np.float32)


class LimitIsEnd(Corridor):
    """The time limit is reported as a termination."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, terminated or truncated, False, info


FAULTS: dict[str, type[Corridor]] = {
    "none": Corridor,
    "the reward compares the action with the next episode's sign": AnotherSign,
    "a reward is paid one step late, the last one never": Late,
    "a clock, 1.7 billion seconds, is added to the sign": Clock,
    "the time limit is reported as a termination": LimitIsEnd,
}


@cache
def findings(fault: str) -> set[str]:
    """What the check says of an environment."""
    return {one.what for one in recurrent_rl.check_env(FAULTS[fault], raise_faults=False)}


def measure(fault: str, seed: int) -> dict[str, Any]:
    """The row of one training."""
    with TemporaryDirectory() as folder:
        config = TrainConfig(total_timesteps=STEPS, seed=seed, log_dir=folder, threads=1)
        result = recurrent_rl.train(config, env=FAULTS[fault], progress=False)
    assert result.evaluation is not None
    return {
        "fault": fault,
        "seed": seed,
        "return": round(float(result.evaluation.mean), 4),
        "length": round(float(np.mean(result.evaluation.lengths)), 1),
        "found": sorted(findings(fault) - findings("none")),
        "code": commit(),
    }


def table(every: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = []
    for fault in FAULTS:
        rows = [row for row in every if row["fault"] == fault]
        returns = ", ".join(f"{row['return']:.2f}" for row in rows)
        lengths = ", ".join(f"{row['length']:.0f}" for row in rows)
        lines.append(
            (fault, "yes" if any(row["found"] for row in rows) else "no", returns, lengths)
        )
    head = ("fault", "found by the check", "return after training", "steps of an episode")
    return markdown(head, lines)


def main() -> None:
    given = arguments(__doc__, seeds=1, jobs=available_cores()).parse_args()
    wanted = [(fault, seed) for seed in range(given.seeds) for fault in FAULTS]
    todo = [] if given.table else wanted
    print(table(measure_all(RESULTS, measure, todo, itemgetter("fault", "seed"), given.jobs)))


if __name__ == "__main__":
    main()
