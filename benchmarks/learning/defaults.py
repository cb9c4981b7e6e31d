"""Which memory and which lambda are the default: on seventeen tasks, all else alike.

    python benchmarks/learning/defaults.py  # all runs, then the table and docs/defaults.png
    python benchmarks/learning/defaults.py --tasks CartPole Recall --seeds 3  # that begin so
    python benchmarks/learning/defaults.py --table  # those of what there is

Of short trainings, with seeds that no published row has, are shown the mean return over the whole
training, so that what learns sooner stands higher, and that of the policy it ends with. Scores are
normalised from the best memoryless return, or that of random actions, to the best that any of these
runs reached. Finished runs leave a line each in benchmarks/results/defaults.jsonl; what is there is
not done again.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np
from figures import dots, legend, panels, save
from jobs import ROOT, arguments, commit, do, merged, over_training, read_rows, write_rows
from numpy.typing import NDArray

from recurrent_rl.experiments.benchmark import plan
from recurrent_rl.experiments.comparison import markdown, task_name
from recurrent_rl.experiments.job import Job
from recurrent_rl.experiments.results import load_evaluated_run
from recurrent_rl.experiments.suites import Suite, ours

RESULTS = ROOT / "benchmarks" / "results" / "defaults.jsonl"
OUT = ROOT / "runs" / "defaults"
FIRST_SEED = 200
WAYS = (("gru-rotor", 0.8), ("gru-rotor", 0.9), ("gru-rotor", 0.95), ("gru-matrix", 0.9))
"""Memory and lambda."""
KEY = ("task", "memory", "lambda", "seed")
K = 1_000
TASKS = (
    (ours("RepeatPrevious-Easy", 150 * K), -0.5),
    (ours("TMaze", 150 * K, length=50), 0.0),
    (ours("Recall", 250 * K, distance=64), -0.5),
    (ours("CartPole-NoVelocity", 100 * K), 40.0),
    (ours("Pendulum-NoVelocity", 100 * K), -1200.0),
    (ours("MountainCar-NoVelocity", 300 * K), -40.0),
    (ours("RepeatFirst-Medium", 600 * K), -0.5),
    (ours("Autoencode-Easy", 300 * K), -0.5),
    (ours("CountRecall-Easy", 400 * K), -0.92),
    (ours("HigherLower-Easy", 600 * K), 0.497),
    (ours("MultiarmedBandit-Easy", 600 * K), 0.0),
    (ours("NoisyPositionOnlyCartPole-Medium", 400 * K), 0.11),
    (ours("Concentration-Easy", 400 * K), -0.2),
    (ours("Ladder", 500 * K, horizon=256, bits=4), 0.0),
    (ours("PositionOnlyCartPole-Easy", 1_000 * K), 0.1),
    (ours("PositionOnlyCartPole-Medium", 1_000 * K), 0.1),
    (ours("PositionOnlyCartPole-Hard", 1_000 * K), 0.1),
)
"""Tasks with their steps, and what is had there without memory or by random actions."""


Row = dict[str, Any]


def jobs_of(seeds: int, episodes: int, names: list[str]) -> list[Job]:
    """The runs, seeds outermost."""
    suite = Suite("defaults", tuple(task for task, _ in TASKS)).only(names)
    jobs = []
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        for task in suite.tasks:
            for memory, gae_lambda in WAYS:
                jobs += plan(
                    dataclasses.replace(suite, tasks=(task,)),
                    OUT,
                    memories=[memory],
                    seeds=1,
                    episodes=episodes,
                    settings={"seed": seed, "gae_lambda": gae_lambda, "memory_interval": None},
                    name=f"{gae_lambda}-{seed}",
                )
    return jobs


def row_of(job: Job) -> Row:
    """What is kept of a finished run."""
    run = load_evaluated_run(job.run_dir)
    return dict(zip(KEY, key_of(job), strict=True)) | {
        "code": commit(),
        "over_training": round(over_training(run.steps, run.returns), 4),
        "last": round(run.evaluation.deterministic.mean_return, 4),
        "best": round(float(run.returns.max()), 4),
    }


def keep(jobs: list[Job]) -> list[Row]:
    """Write the rows of finished runs in place of older ones; returns all."""
    rows = merged(RESULTS, (row_of(job) for job in jobs if job.done), *KEY)
    write_rows(RESULTS, rows)
    return rows


def key_of(job: Job) -> tuple[Any, ...]:
    config = job.config
    return task_name(config), config.agent.memory, config.gae_lambda, config.seed


MEASURES = {"over training": "over_training", "at the end": "last"}
"""What is shown of a run, and its name in a row."""


class Scored(NamedTuple):
    """A task, and its returns: an entry for each of `WAYS`, a mean over seeds; NaN of none."""

    name: str
    seeds: list[int]
    means: dict[str, NDArray[np.float64]]
    """By the names of `MEASURES`."""
    scores: dict[str, NDArray[np.float64]]


def scored(rows: list[Row]) -> list[Scored]:
    """The tasks that have rows."""
    found = []
    for task, floor in TASKS:
        own = [row for row in rows if row["task"] == task.name]
        ways = [[row for row in own if (row["memory"], row["lambda"]) == way] for way in WAYS]
        if own:
            best = max(row["best"] for row in own)
            means = {
                shown: np.array([np.mean([row[name] for row in way] or [np.nan]) for way in ways])
                for shown, name in MEASURES.items()
            }
            scores = {shown: (mean - floor) / (best - floor) for shown, mean in means.items()}
            found.append(Scored(task.name, [len(way) for way in ways], means, scores))
    return found


def names_of_ways() -> list[str]:
    return [f"{memory}, λ {gae_lambda}" for memory, gae_lambda in WAYS]


def table(tasks: list[Scored]) -> str:
    """Markdown: returns by task, and below the scores' means, of the ways that have all tasks."""
    lines = []
    for task in tasks:
        returns = zip(*(task.means[shown] for shown in MEASURES), task.seeds, strict=True)
        cells = [
            f"{over:.3g}; {last:.3g} ({seeds})" if seeds else "" for over, last, seeds in returns
        ]
        lines.append([task.name, *cells])
    if tasks:
        overall = [np.mean([task.scores[shown] for task in tasks], axis=0) for shown in MEASURES]
        means = zip(*overall, strict=True)
        cells = ["" if np.isnan(over) else f"{over:.3f}; {last:.3f}" for over, last in means]
        lines.append(["mean of the scores", *cells])
    return markdown(["task", *names_of_ways()], lines)


def draw(tasks: list[Scored]) -> None:
    """The scores."""
    figure, (axes,) = panels(1, 2, size=(9, 4.2))
    for axis, shown in zip(axes, MEASURES, strict=True):
        series = {
            name: [[task.scores[shown][number]] for task in tasks]
            for number, name in enumerate(names_of_ways())
        }
        dots(axis, [task.name for task in tasks], series)
        axis.set_xlim(-0.5, 1.25)
        axis.set_xlabel(f"score {shown}", fontsize=8)
    axes[1].set_yticklabels([])  # as on the left
    legend(figure, axes[0])
    save(figure, "defaults")


def main() -> None:
    parser = arguments(__doc__, seeds=1, episodes=100)
    parser.add_argument("--tasks", nargs="+", default=[], metavar="TASK")
    given = parser.parse_args()
    there = {tuple(row[name] for name in KEY) for row in read_rows(RESULTS)}
    jobs = jobs_of(given.seeds, given.episodes, given.tasks)
    jobs = [job for job in jobs if key_of(job) not in there]
    try:
        if not given.table:
            do(jobs)
    finally:
        rows = keep(jobs)
    tasks = scored(rows)
    print(table(tasks))
    draw(tasks)


if __name__ == "__main__":
    main()
