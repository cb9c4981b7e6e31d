"""How far each memory remembers, and why: return by horizon beside the gradient by lag.

    python benchmarks/learning/ladder.py  # all runs, then the table and docs/ladder.png
    python benchmarks/learning/ladder.py --table  # those of the runs there are

The runs are those of `recurrent-rl benchmark ladder`. Left, the return over the horizon: 0 is
guessing, 1 is every bit right. Right, from the same runs, how much of the gradient of a step's loss
is left so many steps earlier (TensorBoard's memory/gradient_norm_lag_*), the median over training
on the rung of 64 steps.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
from jobs import ROOT, arguments, do, suite_jobs

from recurrent_rl.experiments.comparison import Comparison
from recurrent_rl.experiments.results import Run, learning_curve, load_run
from recurrent_rl.experiments.suites import SUITES

mpl.use("Agg")
from matplotlib import pyplot as plt

SUITE = SUITES["ladder"]
RUNG = 64
"""The horizon whose gradients are shown; its episodes fit into a sequence."""
LAGS = (2, 4, 8, 16, 32, 64)


def horizon(run: Run) -> int:
    return int(run.config.env.env_kwargs["horizon"])


def gradients(run: Run) -> list[float]:
    """For each of the lags, the share of the gradient that is left: the median over training."""
    tags = [f"memory/gradient_norm_lag_{lag:03d}" for lag in LAGS]
    return [float(np.median(learning_curve(run.path, tag)[1])) for tag in tags]


def draw(runs: list[Run], path: Path) -> None:
    """Return by horizon, and beside it the gradient by lag; one line a memory, mean over seeds."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained")
    for number, memory in enumerate(SUITE.memories):
        own = [run for run in runs if run.config.agent.memory == memory]
        if not own:
            continue
        style = {"color": f"C{number}", "marker": "o", "markersize": 4, "label": memory}
        steps = sorted({horizon(run) for run in own})
        returns = [
            np.mean([run.evaluation.deterministic.mean_return for run in own if horizon(run) == h])
            for h in steps
        ]
        left.plot(steps, returns, **style)
        if shares := [gradients(run) for run in own if horizon(run) == RUNG]:
            right.plot([1, *LAGS], [1, *np.mean(shares, axis=0)], **style)  # lag 1 is the unit
    left.set(xlabel="steps to remember four bits for", ylabel="return (1: every bit right)")
    right.set(xlabel="steps back", ylabel="gradient left", yscale="log")
    right.set_title(f"gradient by lag, horizon {RUNG}", fontsize=10)
    left.set_title("how far each memory remembers", fontsize=10)
    for axis in (left, right):
        axis.set_xscale("log", base=2)
        axis.grid(alpha=0.3)
    figure.legend(*left.get_legend_handles_labels(), loc="outside right center")
    figure.savefig(path, dpi=110)


def main() -> None:
    given = arguments(__doc__, SUITE.seeds, episodes=500).parse_args()
    jobs = suite_jobs("ladder", given.seeds, given.episodes)
    if not given.table:
        do(jobs)
    runs = [load_run(job.run_dir) for job in jobs if job.done]
    print(Comparison(runs).table(lambda cell: cell.shown("deterministic")))
    draw(runs, ROOT / "docs" / "ladder.png")


if __name__ == "__main__":
    main()
