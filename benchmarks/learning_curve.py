"""Draw the learning curves of the runs that memory_worth.py has made, to docs/learning_curve.png.

python benchmarks/learning_curve.py
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib as mpl
import numpy as np
from memory_worth import MEMORIES, TASKS

from recurrent_rl.results import learning_curve

mpl.use("Agg")
from matplotlib import pyplot as plt

COLOURS = {"none": "#888888", "rnn": "#d95f02", "lstm": "#1b6ca8", "gru": "#1b9e77"}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/memory_worth"))
    parser.add_argument("--out", type=Path, default=Path("docs/learning_curve.png"))
    asked = parser.parse_args()
    lines = (asked.runs / "results.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]

    figure, axes = plt.subplots(1, len(TASKS), figsize=(4 * len(TASKS), 3.2))
    for axis, task in zip(axes, TASKS, strict=True):
        for memory in MEMORIES:
            curves = [
                learning_curve((asked.runs / row["policy"]).parent)
                for row in rows
                if row["task"] == task and row["memory"] == memory
            ]
            start = max(steps[0] for steps, _ in curves)
            grid = np.linspace(start, min(steps[-1] for steps, _ in curves), 120)
            values = np.stack([np.interp(grid, steps, returns) for steps, returns in curves])
            colour = COLOURS[memory]
            axis.plot(grid / 1e6, values.mean(axis=0), color=colour, label=memory)
            axis.fill_between(
                grid / 1e6,
                *np.quantile(values, (0, 1), axis=0),
                color=colour,
                alpha=0.2,
                linewidth=0,
            )
        axis.set_title(task, fontsize=10)
        axis.set_xlabel("million steps")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("episode return (mean, range over seeds)")
    axes[0].legend(title="memory", fontsize=8)
    figure.tight_layout()
    figure.savefig(asked.out, dpi=110)
    print(f"wrote {asked.out}")


if __name__ == "__main__":
    main()
