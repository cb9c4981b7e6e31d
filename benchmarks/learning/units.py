"""Whether learning depends on the reward's unit, and what the critic's first weights do to it.

    python benchmarks/learning/units.py  # rows that are not there, tables and docs/units.png
    python benchmarks/learning/units.py --table  # those of the rows there are

Two starts of the critic's last layer: zero, as it is, and orthogonal of gain 1, as it was. First
RepeatPrevious-Easy with its rewards times 1e-6 to 1e6, then the tasks of `study.py` with their own
rewards. Shown is the mean return over the whole training, in the task's unit.

Each run is one line of benchmarks/results/units.jsonl, and is not run again.
"""

from __future__ import annotations

import json
import sys
import time
from itertools import product
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from figures import dots, legend, panels, save
from jobs import ROOT, arguments, read_rows
from study import TASKS

import recurrent_rl.envs  # noqa: F401 (registers them)
from recurrent_rl.config import TrainConfig
from recurrent_rl.envs.repeat_previous import RepeatPrevious
from recurrent_rl.experiments.comparison import markdown
from recurrent_rl.trainer import Trainer
from recurrent_rl.vector_env.config import EnvConfig

RESULTS = ROOT / "benchmarks" / "results" / "units.jsonl"
UNITS = (1e-6, 1.0, 1e6)
STEPS = 100_000
STARTS = ("zero", "gain 1")
NAMES = {"zero": "zero", "gain 1": "values of size 1"}
ID = "RepeatPreviousInUnits-v0"


class InUnits(RepeatPrevious):
    """RepeatPrevious-Easy with every reward in another unit."""

    def __init__(self, num_envs: int, unit: float) -> None:
        super().__init__(num_envs, num_decks=1, k=4)
        self.unit = unit

    def _advance(self, actions: Any) -> Any:
        rewards, terminated, truncated = super()._advance(actions)
        return rewards * self.unit, terminated, truncated


def score(config: TrainConfig, start: str) -> float:
    """The mean return over the steps of training."""
    trainer = Trainer(config)
    if start == "gain 1":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            torch.nn.init.orthogonal_(trainer.agent.critic.weight)
    returns = []
    while not trainer.done:
        returns.append(trainer.iterate().get("rollout/ep_rew_mean", np.nan))
    trainer.close()
    return float(np.nanmean(returns))


def plan(seeds: int) -> list[tuple[dict[str, Any], TrainConfig]]:
    """What each row says of itself, and its settings."""
    rows: list[tuple[dict[str, Any], TrainConfig]] = []
    for seed in range(seeds):
        for unit, start in product(UNITS, STARTS):
            env = EnvConfig(env_kwargs={"unit": unit})
            config = TrainConfig(ID, seed=seed, total_timesteps=STEPS, env=env)
            about = {"task": "RepeatPrevious-Easy", "unit": unit, "start": start, "seed": seed}
            rows.append((about, config))
        for task, start in product(TASKS, STARTS):
            about = {"task": task.name, "unit": None, "start": start, "seed": seed}
            rows.append((about, task.config(seed=seed)))
    return rows


def main() -> None:
    given = arguments(__doc__, seeds=3, episodes=0).parse_args()
    gym.register(ID, vector_entry_point=lambda **arguments: InUnits(**arguments))
    there = read_rows(RESULTS)
    if not given.table:
        for about, config in plan(given.seeds):
            if any(about.items() <= row.items() for row in there):
                continue
            began = time.monotonic()
            row = {**about, "score": score(config, about["start"]) / (about["unit"] or 1.0)}
            with RESULTS.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(row, f"{time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
            there.append(row)
    by_unit = [row for row in there if row["unit"] is not None]
    shown = [[NAMES[start], *(cell(by_unit, start, unit=u) for u in UNITS)] for start in STARTS]
    print(markdown(["critic starts at", *(f"rewards x {u:g}" for u in UNITS)], shown), "\n")
    rest = [row for row in there if row["unit"] is None]
    names = [task.name for task in TASKS]
    shown = [[NAMES[start], *(cell(rest, start, task=name) for name in names)] for start in STARTS]
    print(markdown(["critic starts at", *names], shown))
    draw(there)


def draw(rows: list[dict[str, Any]]) -> None:
    """A mark for each seed, in the tasks' own units; the pole's returns are 200 times as large."""
    figure, (axes,) = panels(1, 2, size=(7.5, 2.4), width_ratios=(3, 2))
    places: list[list[dict[str, Any]]] = [[{"unit": unit} for unit in UNITS], []]
    labels = [[f"RepeatPrevious-Easy x {unit:g}" for unit in UNITS], []]
    for task in TASKS:
        side = int(task.name.startswith("CartPole"))
        places[side].append({"task": task.name, "unit": None})
        labels[side].append(task.name)
    for axis, of_axis, names in zip(axes, places, labels, strict=True):
        series = {f"critic starts at {NAMES[start]}": start for start in STARTS}
        found = {
            label: [scores_of(rows, start, **what) for what in of_axis]
            for label, start in series.items()
        }
        dots(axis, names, found)
        axis.set_xlabel("mean return over training", fontsize=8)
    legend(figure, axes[0])
    save(figure, "units")


def scores_of(rows: list[dict[str, Any]], start: str, **what: Any) -> list[float]:
    """Of each seed."""
    wanted = {"start": start, **what}
    return [row["score"] for row in rows if wanted.items() <= row.items()]


def cell(rows: list[dict[str, Any]], start: str, **what: Any) -> str:
    """Mean and range over seeds."""
    scores = scores_of(rows, start, **what)
    return f"{np.mean(scores):.3g} ({min(scores):.3g} to {max(scores):.3g})" if scores else ""


if __name__ == "__main__":
    main()
