"""How far ahead to look: discounts and lambdas where the reward follows at once, and where not.

    python benchmarks/learning/discount.py  # all, then the table and docs/discount.png
    python benchmarks/learning/discount.py --tasks CountRecall-Medium --seeds 3
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

from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.config import TrainConfig
from recurrent_rl.experiments.comparison import markdown
from recurrent_rl.process import available_cores

RESULTS = ROOT / "benchmarks" / "results" / "discount.jsonl"
K = 1_000
TASKS = {
    "CountRecall-Easy": ("gru-matrix", 600 * K),
    "CountRecall-Medium": ("gru-matrix", 800 * K),
    "Concentration-Easy": ("gru-matrix", 600 * K),
    "HigherLower-Easy": ("gru-rotor", 600 * K),
    "MultiarmedBandit-Easy": ("gru-rotor", 600 * K),
}
"""The memory, and the steps of training."""
WAYS = ((0.99, 0.8), (0.9, 0.5), (0.7, 0.5), (0.5, 0.5))
"""Gamma and lambda."""


Row = dict[str, Any]


def measure(task: str, way: tuple[float, float], seed: int) -> Row:
    """The row of one training."""
    (memory, steps), (gamma, gae_lambda) = TASKS[task], way
    config = TrainConfig(
        f"recurrent_rl/{task}-v0",
        total_timesteps=steps,
        seed=seed,
        gamma=gamma,
        gae_lambda=gae_lambda,
        agent=AgentConfig(memory=memory),
    )
    at, returns = curve_of(config)
    return {
        "task": task,
        "memory": memory,
        "steps": steps,
        "gamma": gamma,
        "lambda": gae_lambda,
        "seed": seed,
        "code": commit(),
        "over_training": round(over_training(at, returns), 4),
        "last": round(float(returns[-(-9 * len(returns) // 10) :].mean()), 4),
    }


def table(rows: list[Row]) -> str:
    """Markdown: a row for each task, means over seeds."""
    lines = []
    for task, (memory, steps) in TASKS.items():
        cells = []
        for gamma, gae_lambda in WAYS:
            found = rows_of(rows, task, (gamma, gae_lambda))
            mean, last = (
                f"{np.mean([row[name] for row in found] or [np.nan]):.3f}"
                for name in ("over_training", "last")
            )
            cells.append(f"{mean} ({last}), {len(found)}" if found else "")
        lines.append([task, memory, f"{steps / 1e6:g} M", *cells])
    ways = [f"gamma {gamma:g}, lambda {gae_lambda:g}; seeds" for gamma, gae_lambda in WAYS]
    return markdown(["task", "memory", "steps", *ways], lines)


def rows_of(rows: list[Row], task: str, way: tuple[float, float]) -> list[Row]:
    return [row for row in rows if (row["task"], (row["gamma"], row["lambda"])) == (task, way)]


def draw(rows: list[Row]) -> None:
    """A mark for each training; the tasks that have some."""
    there = [task for task in TASKS if any(row["task"] == task for row in rows)]
    figure, (axes,) = panels(1, max(1, len(there)), size=(7.5, 2.2))
    names = [f"gamma {gamma:g}, lambda {gae_lambda:g}" for gamma, gae_lambda in WAYS]
    for axis, task in zip(axes, there, strict=False):
        found = [rows_of(rows, task, way) for way in WAYS]
        parts = {"over the whole training": "over_training", "over its last tenth": "last"}
        dots(
            axis,
            names,
            {part: [[row[name] for row in way] for way in found] for part, name in parts.items()},
        )
        axis.set_title(task, fontsize=9)
        axis.set_xlabel("mean return", fontsize=8)
    legend(figure, axes[0])
    save(figure, "discount")


def of_row(row: Row) -> tuple[str, tuple[float, float], int]:
    """What `measure` was called with."""
    return row["task"], (row["gamma"], row["lambda"]), row["seed"]


def main() -> None:
    parser = arguments(__doc__, seeds=1, jobs=available_cores())
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    given = parser.parse_args()
    wanted = [
        (task, way, seed) for seed, task, way in product(range(given.seeds), given.tasks, WAYS)
    ]
    todo = [] if given.table else wanted
    rows = measure_all(RESULTS, measure, todo, of_row, given.jobs)
    print(table(rows))
    draw(rows)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
