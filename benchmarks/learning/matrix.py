"""Which matrix memory: heads, sizes, the delta rule, normalisation and read-out, one at a time.

    python benchmarks/learning/matrix.py  # every variant, then the table and docs/matrix.png
    python benchmarks/learning/matrix.py --variants "no content" "delta rule"  # some
    python benchmarks/learning/matrix.py --only CartPole-NoVelocity --seeds 4  # of one measurement
    python benchmarks/learning/matrix.py --table  # those of what there is

Each variant is a change to `gru-matrix`, in benchmarks/learning/variants.py. It is taught the
probes of benchmarks/learning/probes.py, and trained by PPO on six tasks, where the figure is the
mean return over the whole training, so that what learns sooner stands higher. Each measurement
leaves a line in benchmarks/results/matrix_study.jsonl; what is there is not done again.
"""

from __future__ import annotations

import time
from itertools import product
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from figures import dots, legend, panels, save
from jobs import ROOT, arguments, curve_of, measure_all, over_training
from probes import PROBES, accuracy
from variants import MATRICES

from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.config import TrainConfig
from recurrent_rl.experiments.comparison import markdown
from recurrent_rl.process import available_cores, computing, keeping_freed_memory

RESULTS = ROOT / "benchmarks" / "results" / "matrix_study.jsonl"
UPDATES = {
    "delay of 64": 200,
    "104 cards in reverse": 200,
    "26 pairs": 500,
    "count of 4 kinds": 500,
    "count of 13 kinds": 500,
}
STEPS = {
    "RepeatPrevious-Hard": 400_000,
    "Autoencode-Easy": 300_000,
    "CountRecall-Easy": 600_000,
    "Concentration-Easy": 400_000,
    "Pendulum-NoVelocity": 100_000,
    "CartPole-NoVelocity": 100_000,
}
LAMBDA = 0.8


def measure(variant: str, what: str, seed: int) -> dict[str, Any]:
    """One figure: the share of right answers at a probe, or the mean return over training."""
    began = time.monotonic()
    if what in UPDATES:
        with computing(1), keeping_freed_memory():
            figure = accuracy(PROBES[what], variant, 128, UPDATES[what], seed)
    else:
        figure = trained(seed, variant, what)
    seconds = round(time.monotonic() - began)
    row = {"variant": variant, "what": what, "seed": seed, "seconds": seconds}
    return row | {"figure": round(figure, 4)}


def trained(seed: int, variant: str, task: str) -> float:
    """The mean return over the whole training."""
    config = TrainConfig(
        f"recurrent_rl/{task}-v0",
        total_timesteps=STEPS[task],
        seed=seed,
        gae_lambda=LAMBDA,
        agent=AgentConfig(memory=variant),
    )
    return over_training(*curve_of(config))


def figures_of(rows: list[dict[str, Any]], variant: str, what: str) -> list[float]:
    """One for each seed."""
    return [row["figure"] for row in rows if (row["variant"], row["what"]) == (variant, what)]


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a column for each variant that has rows, the mean over seeds of each figure."""
    variants = [one for one in MATRICES if any(row["variant"] == one for row in rows)]
    lines = []
    for what in (*UPDATES, *STEPS):
        found = [figures_of(rows, variant, what) for variant in variants]
        lines.append([what, *(f"{np.mean(figures):.3f}" if figures else "" for figures in found)])
    return markdown(["task", *variants], lines)


def draw(rows: list[dict[str, Any]]) -> None:
    """A mark for each seed: with fixed and learnt angles, and two control tasks beside others."""
    figure, (axes,) = panels(1, 3, size=(7.5, 2.4), width_ratios=(3, 2, 2))
    recall, control = list(STEPS)[:4], list(STEPS)[4:]
    ways = {"gru-matrix": "gru-matrix", "learnt angles": "the same, angles learnt"}
    found = {label: [figures_of(rows, way, task) for task in recall] for way, label in ways.items()}
    dots(axes[0], recall, found)
    variants = ["gru-matrix", "gru-rotor", "gru"]
    for axis, task in zip(axes[1:], control, strict=True):
        dots(axis, variants, {"": [figures_of(rows, variant, task) for variant in variants]})
        axis.set_title(task, fontsize=9)
    for axis in axes:
        axis.set_xlabel("mean return over training", fontsize=8)
    legend(figure, axes[0])
    save(figure, "matrix")


def main() -> None:
    parser = arguments(__doc__, seeds=1, jobs=available_cores())
    parser.add_argument("--variants", nargs="+", choices=MATRICES, default=list(MATRICES))
    parser.add_argument("--only", nargs="+", choices=[*UPDATES, *STEPS], default=[*UPDATES, *STEPS])
    given = parser.parse_args()
    wanted = [
        (variant, what, seed)
        for seed, variant, what in product(range(given.seeds), given.variants, given.only)
    ]
    todo = [] if given.table else wanted
    rows = measure_all(RESULTS, measure, todo, itemgetter("variant", "what", "seed"), given.jobs)
    print(table(rows))
    draw(rows)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
