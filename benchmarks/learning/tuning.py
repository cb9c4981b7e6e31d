"""What a search for settings gains over the defaults, and in how many trials: three tasks.

    python benchmarks/learning/tuning.py  # all, some 20 minutes of one free core, then the table
    python benchmarks/learning/tuning.py --table  # of what there is

Each task is searched once, around the defaults, in short runs; then the best settings and the
defaults are trained with the same fresh seeds. A finished search leaves a line in
benchmarks/results/tuning.jsonl; what is there is not done again, and a search that was stopped goes
on where it was.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import numpy as np
from jobs import ROOT, arguments, commit, merged, read_rows, write_rows

from recurrent_rl.experiments.comparison import markdown
from recurrent_rl.experiments.statistics import shown_mean
from recurrent_rl.experiments.suites import Task, ours
from recurrent_rl.experiments.tuning.search import tune
from recurrent_rl.experiments.tuning.space import shown_value

RESULTS = ROOT / "benchmarks" / "results" / "tuning.jsonl"
TRIALS = 20
K = 1_000
TASKS = (
    ours("Pendulum-NoVelocity", 50 * K),
    ours("RepeatPrevious-Medium", 50 * K),
    ours("CartPole-NoVelocity", 20 * K),
)


def measure(task: Task, seeds: int) -> dict[str, Any]:
    """The row of one task."""
    config = dataclasses.replace(task.config(), threads=1, memory_interval=None)
    storage = ROOT / "runs" / "tuning" / f"{task.name}.journal"
    before = os.times().user
    found = tune(config, trials=TRIALS, storage=storage, confirm_seeds=seeds)
    assert found.best is not None
    confirmed = found.confirmation  # None where no settings did better than the defaults
    states = [one.state for one in found.trials]
    (given,) = (one.score for one in found.trials if one.is_given)
    return {
        "task": task.name,
        "steps": task.total_timesteps,
        "trials": len(states),
        "pruned": states.count("pruned"),
        "failed": states.count("failed"),
        "best_trial": found.best.number,
        "best_settings": found.best.settings,
        "scores": {"given": given, "best": found.best.score},
        "finals": {one.trial.number: one.returns.round(4).tolist() for one in found.finalists},
        "seeds": list(confirmed.seeds) if confirmed else [],
        "given": confirmed.given.round(4).tolist() if confirmed else [],
        "best": confirmed.best.round(4).tolist() if confirmed else [],
        "importances": {name: round(x, 3) for name, x in found.importances.items()},
        "cpu_seconds": round(os.times().user - before),
        "code": commit(),
    }


def table() -> str:
    """The rows as Markdown."""
    lines = []
    for row in read_rows(RESULTS):
        given, best = np.array(row["given"]), np.array(row["best"])
        means = map(shown_mean, (given, best, best - given)) if row["seeds"] else ("-",) * 3
        settings = ", ".join(f"{k} {shown_value(v)}" for k, v in row["best_settings"].items())
        lines.append(
            (
                f"{row['task']}, {row['steps']:,} steps",
                f"{row['trials']} ({row['pruned']} pruned)",
                *means,
                f"trial {row['best_trial']}: {settings}",
            )
        )
    head = ("task", "trials", "defaults", "best found", "difference", "settings")
    return markdown(head, lines)


def main() -> None:
    given = arguments(__doc__, seeds=5).parse_args()
    done = {row["task"] for row in read_rows(RESULTS)}
    if not given.table:
        for task in TASKS:
            if task.name not in done:
                write_rows(RESULTS, merged(RESULTS, [measure(task, given.seeds)], "task"))
    print(table())


if __name__ == "__main__":
    main()
