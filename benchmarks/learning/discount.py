"""How far ahead to look: discounts and lambdas where the reward follows at once, and where not.

    python benchmarks/learning/discount.py  # all, then the table and docs/discount.png
    python benchmarks/learning/discount.py --tasks CountRecall Ladder --seeds 3  # that begin so
    python benchmarks/learning/discount.py --table  # those of what there is

Shown is the mean return over the whole of short trainings and, in brackets, over their last tenth.
Each training leaves a line in benchmarks/results/discount.jsonl; what is there is not done again.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import torch
from figures import dots, legend, panels, save
from jobs import ROOT, arguments, commit, curve_of, measure_all, over_training

from recurrent_rl.experiments.comparison import markdown
from recurrent_rl.experiments.suites import Task, ours
from recurrent_rl.process import available_cores

RESULTS = ROOT / "benchmarks" / "results" / "discount.jsonl"
K = 1_000
TASKS = (
    (ours("CountRecall-Easy", 600 * K), "gru-matrix"),
    (ours("CountRecall-Medium", 800 * K), "gru-matrix"),
    (ours("Concentration-Easy", 600 * K), "gru-matrix"),
    (ours("HigherLower-Easy", 600 * K), "gru-rotor"),
    (ours("MultiarmedBandit-Easy", 600 * K), "gru-rotor"),
    (ours("Ladder", 500 * K, horizon=256, bits=4), "gru-rotor"),
    (ours("Ladder", 500 * K, horizon=256, bits=4), "gru"),
    (ours("Recall", 1_000 * K, distance=1024), "gru"),
)
"""Tasks with their steps, and the memory."""
KEY = ("task", "memory", "gamma", "lambda", "seed")
WAYS = ((0.99, 0.8), (0.9, 0.5), (0.7, 0.5), (0.5, 0.5))
"""Gamma and lambda."""


Row = dict[str, Any]


def measure(name: str, memory: str, gamma: float, gae_lambda: float, seed: int) -> Row:
    """The row of one training."""
    task = next(task for task, _ in TASKS if task.name == name)
    settings: Row = {"gamma": gamma, "gae_lambda": gae_lambda, "agent": {"memory": memory}}
    at, returns = curve_of(task.config(seed=seed, **settings))
    return {
        "task": task.name,
        "memory": memory,
        "steps": task.total_timesteps,
        "gamma": gamma,
        "lambda": gae_lambda,
        "seed": seed,
        "code": commit(),
        "over_training": round(over_training(at, returns), 4),
        "last": round(float(returns[-(-9 * len(returns) // 10) :].mean()), 4),
    }


def table(rows: list[Row]) -> str:
    """Markdown: a row for each task that has some, means over seeds."""
    lines = []
    for task, memory in TASKS:
        cells = []
        for way in WAYS:
            found = rows_of(rows, task, memory, way)
            mean, last = (
                f"{np.mean([row[name] for row in found] or [np.nan]):.3f}"
                for name in ("over_training", "last")
            )
            cells.append(f"{mean} ({last}), {len(found)}" if found else "")
        if any(cells):
            lines.append([task.name, memory, f"{task.total_timesteps / 1e6:g} M", *cells])
    ways = [f"gamma {gamma:g}, lambda {gae_lambda:g}; seeds" for gamma, gae_lambda in WAYS]
    return markdown(["task", "memory", "steps", *ways], lines)


def rows_of(rows: list[Row], task: Task, memory: str, way: tuple[float, float]) -> list[Row]:
    wanted = task.name, memory, *way
    return [row for row in rows if key_of(row)[:-1] == wanted]


def key_of(row: Row) -> tuple[Any, ...]:
    """What `measure` was called with."""
    return tuple(row[name] for name in KEY)


def draw(rows: list[Row]) -> None:
    """A mark for each training; the tasks that have some."""
    there = [what for what in TASKS if any(rows_of(rows, *what, way) for way in WAYS)]
    height = -(-len(there) // 2)
    figure, axes = panels(max(1, height), 2, size=(7.5, 1.6 * height + 0.6), sharey=True)
    names = [f"gamma {gamma:g}, lambda {gae_lambda:g}" for gamma, gae_lambda in WAYS]
    for axis, (task, memory) in zip(axes.flat, there, strict=False):
        found = [rows_of(rows, task, memory, way) for way in WAYS]
        parts = {"over the whole training": "over_training", "over its last tenth": "last"}
        dots(
            axis,
            names,
            {part: [[row[name] for row in way] for way in found] for part, name in parts.items()},
        )
        axis.set_title(f"{task.name} ({memory})", fontsize=9)
        axis.set_xlabel("mean return", fontsize=8)
    for axis in axes.flat[len(there) :]:
        axis.set_visible(False)
    legend(figure, axes[0, 0])
    save(figure, "discount")


def main() -> None:
    parser = arguments(__doc__, seeds=1, jobs=available_cores())
    parser.add_argument("--tasks", nargs="+", default=[""], metavar="TASK")
    given = parser.parse_args()
    tasks = [what for what in TASKS if what[0].name.startswith(tuple(given.tasks))]
    wanted = [
        (task.name, memory, *way, seed)
        for seed, (task, memory), way in product(range(given.seeds), tasks, WAYS)
    ]
    todo = [] if given.table else wanted
    rows = measure_all(RESULTS, measure, todo, key_of, given.jobs)
    print(table(rows))
    draw(rows)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
