"""How far each memory remembers, how much, and why: by horizon, by bits, the gradient by lag.

    python benchmarks/learning/ladder.py  # all runs, then the tables and docs/ladder.png
    python benchmarks/learning/ladder.py --memories gru-matrix gru  # some memories
    python benchmarks/learning/ladder.py --tasks "Ladder, horizon 1024"  # tasks that begin so
    python benchmarks/learning/ladder.py --table  # those of the rows there are

The runs are those of `recurrent-rl benchmark ladder` and `recurrent-rl benchmark capacity` with
gamma and lambda of 0.5, as in the preset, since what is asked is paid at once. In the figure: the
return over the horizon with four bits, where 0 is guessing and 1 is every bit right; the return
over the number of bits, asked for after 256 steps, where there are such runs; how much of the
gradient of a step's loss is left so many steps earlier (TensorBoard's memory/gradient_norm_lag_*),
the median over training on the rung of four bits and 64 steps. Finished runs leave a line each in
benchmarks/results/ladder.jsonl.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from figures import MARKERS, legend, panels, save
from jobs import ROOT, arguments, do, keep, row_of, run_of, suite_jobs

from recurrent_rl.experiments.comparison import Comparison, task_name
from recurrent_rl.experiments.job import Job
from recurrent_rl.experiments.presets import AT_ONCE
from recurrent_rl.experiments.results import EvaluatedRun, learning_curve
from recurrent_rl.experiments.suites import SUITES

MEMORIES = SUITES["ladder"].memories
RESULTS = ROOT / "benchmarks" / "results" / "ladder.jsonl"
RUNG = 64
"""The horizon whose gradients are shown; its episodes fit into a sequence."""
LAGS = (2, 4, 8, 16, 32, 64)
EPISODES = {256: 28, 1024: 8}
"""By horizon, the episodes of a rollout in these rows, in 4 minibatches: as fill 8,192 steps. The
defaults have 32 since, with which a GRU returned 0.907 at the horizon of 1,024 (seed 0)."""
PANELS = {
    "ladder": ("horizon", "how far", "steps to remember four bits for"),
    "capacity": ("bits", "how much", "bits, for 256 steps"),
}
"""Suites: what of the environment grows in them, and how their panel is called."""


def sized(job: Job) -> Job:
    """The run with rollouts of as many episodes as the rows there are."""
    if (episodes := EPISODES.get(job.config.env.env_kwargs["horizon"])) is None:
        return job
    config = dataclasses.replace(job.config, num_envs=episodes, num_minibatches=4)
    return dataclasses.replace(job, config=config)


def argument(run: EvaluatedRun, name: str) -> int:
    """Of the run's environment: `horizon` or `bits`."""
    return int(run.config.env.env_kwargs[name])


def with_gradients(job: Job) -> dict[str, Any]:
    """What is kept of a run: for each of the lags also the share of the gradient that is left."""
    tags = [f"memory/gradient_norm_lag_{lag:03d}" for lag in LAGS]
    curves = [learning_curve(job.run_dir, tag)[1] for tag in tags]
    return row_of(job) | {"gradients": [float(np.median(c)) if len(c) else None for c in curves]}


def draw(runs: list[EvaluatedRun], gradients: dict[str, list[float]]) -> None:
    """One line a memory, mean over seeds; `gradients` are those of each run's folder name."""
    shown: list[tuple[list[EvaluatedRun], str, str, str]] = []
    for suite, (name, title, label) in PANELS.items():
        tasks = {task.name for task in SUITES[suite].tasks}
        of_suite = [run for run in runs if task_name(run.config) in tasks]
        if len({argument(run, name) for run in of_suite}) > 1:
            shown.append((of_suite, name, title, label))
    figure, (axes,) = panels(1, len(shown) + 1, size=(4.2 * (len(shown) + 1), 3.4))
    for number, memory in enumerate(MEMORIES):
        own = {run.path.name for run in runs if run.config.agent.memory == memory}
        if not own:
            continue
        style = {"color": f"C{number}", "marker": MARKERS[number % len(MARKERS)], "label": memory}
        for axis, (of_suite, name, *_) in zip(axes, shown, strict=False):
            found = [run for run in of_suite if run.path.name in own]
            sizes = sorted({argument(run, name) for run in found})
            returns = [
                np.mean([mean_return(run) for run in found if argument(run, name) == size])
                for size in sizes
            ]
            axis.plot(sizes, returns, markersize=5, alpha=0.85, **style)
        shares = [
            gradients[run.path.name]
            for run in runs
            if (argument(run, "horizon"), argument(run, "bits")) == (RUNG, 4)
            and run.path.name in own
        ]
        if shares:  # lag 1 is the unit
            axes[-1].plot([1, *LAGS], [1, *np.mean(shares, axis=0)], markersize=5, **style)
    for axis, (_, _, title, label) in zip(axes, shown, strict=False):
        axis.set(xlabel=label, ylabel="return (1: every bit right)")
        axis.set_title(title, fontsize=10)
    axes[-1].set(xlabel="steps back", ylabel="gradient left", yscale="log")
    axes[-1].set_title(f"gradient by lag, horizon {RUNG}", fontsize=10)
    for axis in axes:
        axis.set_xscale("log", base=2)
    legend(figure, axes[0])
    save(figure, "ladder")


def mean_return(run: EvaluatedRun) -> float:
    return run.evaluation.deterministic.mean_return


def main() -> None:
    parser = arguments(__doc__, SUITES["ladder"].seeds, episodes=500)
    parser.add_argument("--memories", nargs="+", default=MEMORIES)
    parser.add_argument("--tasks", nargs="+", default=[""], metavar="TASK")
    given = parser.parse_args()
    much = given.seeds, given.episodes
    found = [
        job
        for suite in PANELS
        for memory in given.memories
        for job in suite_jobs(suite, *much, memory, AT_ONCE, "at-once")
        if task_name(job.config).startswith(tuple(given.tasks))
    ]
    jobs = list({job.run_dir.name: job for job in found}.values())  # one task is of both suites
    try:
        if not given.table:
            do([sized(job) for job in jobs])
    finally:
        rows = keep(jobs, RESULTS, with_gradients)
    # With the settings that were asked for, so that sizes by horizon are no methods of their own.
    runs = [run_of(rows[job.run_dir.name], job) for job in jobs if job.run_dir.name in rows]
    if runs:
        print(Comparison(runs).table(lambda cell: cell.shown("deterministic")))
        gradients = {name: row["gradients"] for name, row in rows.items()}
        draw(runs, gradients)


if __name__ == "__main__":
    main()
