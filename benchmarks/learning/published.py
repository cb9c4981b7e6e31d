"""Learning under partial observability beside the best published recurrent results.

    python benchmarks/learning/published.py  # all rows, then the tables
    python benchmarks/learning/published.py --tasks RepeatPrevious  # tasks that begin so
    python benchmarks/learning/published.py --tasks CountRecall --ways preset --seeds 3
    python benchmarks/learning/published.py --tasks CountRecall --ways gpu  # needs one
    python benchmarks/learning/published.py --table  # the tables of what there is

The runs are those of `recurrent-rl benchmark popgym` and `recurrent-rl benchmark control`, with one
recipe: the defaults. Many tasks are also run with a memory, settings or steps of their own
(`PRESETS`), and with these, or the defaults, on a GPU with many environments; the tables show all.
Finished runs leave a line each in benchmarks/results/published.jsonl. Of these the tables are made:
the best of each task is printed, all are written to benchmarks/results/published.md. So is
docs/published.png: learning curves of six tasks on which no published recurrent policy that we
found comes near. What has a line there is not done again. Policies stay in runs/benchmark-popgym
and runs/benchmark-control.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np
from figures import panels, save
from jobs import ROOT, arguments, commit, do, merged, read_rows, thinned, write_rows
from numpy.typing import NDArray

from recurrent_rl.config import TrainConfig
from recurrent_rl.experiments.benchmark import plan
from recurrent_rl.experiments.comparison import markdown, task_name
from recurrent_rl.experiments.job import Job
from recurrent_rl.experiments.presets import LARGE, PRESETS, M, Preset
from recurrent_rl.experiments.results import EvaluatedRun, learning_curve, load_evaluated_run
from recurrent_rl.experiments.statistics import with_interval
from recurrent_rl.experiments.suites import SUITES

RESULTS = ROOT / "benchmarks" / "results" / "published.jsonl"
ALL = RESULTS.with_suffix(".md")
"""The page of all tables."""
RETURNS = ("task", "best published, of at most", "ours", "trained for", "MMER", "final policy")
COSTS = ("task", "ours", "stochastic actions", "minutes", "above 0.95 after", "code")
"""The columns of the two tables of all rows; that of the best rows has the first."""

OLDER = "87949fa"
"""The code of rows that do not say it."""
PAGE = """\
# Beside published results: all rows

Written by `python benchmarks/learning/published.py --table`. [Results](../../docs/results.md) shows
the best of each task, and says what the columns are.

{}

What each row took. *minutes* are those of one core beside another run. *above 0.95 after* has the
steps and seconds of each seed, where the highest return is 1. *code* is the commit: rows of {older}
used λ = 0.95 and a critic that did not start at zero, and most of `gru-rotor` have not been made
again with today's defaults.

- Cores were shared, so minutes are upper bounds.
- Rows with `device cuda` are of an NVIDIA H200, on which three trainings ran at once.
- HigherLower, CountRecall and Concentration of code a97fab2 and fc9d652 began on 16 cores of an
  Intel Xeon.
- One row is not here, since only its printed figures are left: NoisyPositionOnlyCartPole-Medium
  with the defaults and 512 environments ended at 0.670 (stochastic actions: 0.661) after 15 M steps
  in 274 s, one seed.

{}
"""
SOLVED = 0.95
DRAWN = (
    *("RepeatPrevious-Hard", "Autoencode-Easy", "Autoencode-Medium", "Autoencode-Hard"),
    *("CountRecall-Medium", "CountRecall-Hard"),
)

Row = dict[str, Any]
KEY = ("task", "memory", "settings", "seed")


class Published(NamedTuple):
    """The best figure published for a recurrent agent, whose it is, and the task's ceiling."""

    figure: float
    by: str
    ceiling: str = ""
    way: str = "mmer"
    """Which of our figures is of its kind: the maximum over training, or the last policy's."""


# POPGym (Morad et al., ICLR 2023), appendix B, table 3: MMER after 15 M steps, mean of 3 trials.
# SHM: Stable Hadamard Memory (Le et al., ICLR 2025), 15 M steps; of Medium and Hard from memory, so
# only about right.
# In the paper's CountRecall the greatest count could not be answered, so that its ceilings were
# .964, .943 and .889; in the version that we play, POPGym's since 1.0, it can.
# The last three: RL Zoo's recurrent PPO within 100,000, 100,000 and 300,000 steps.
PUBLISHED = {
    "RepeatPrevious-Easy": Published(1.000, "GRU", "1"),
    "RepeatPrevious-Medium": Published(0.789, "LMU", "1"),
    "RepeatPrevious-Hard": Published(0.191, "LMU", "1"),
    "RepeatFirst-Easy": Published(1.000, "several", "1"),
    "RepeatFirst-Medium": Published(1.000, "GRU", "1"),
    "RepeatFirst-Hard": Published(0.969, "IndRNN", "1"),
    "Autoencode-Easy": Published(0.495, "SHM", "1"),
    "Autoencode-Medium": Published(-0.29, "SHM", "1"),
    "Autoencode-Hard": Published(-0.44, "SHM", "1"),
    "CountRecall-Easy": Published(0.509, "LSTM", "1"),
    "CountRecall-Medium": Published(-0.528, "GRU", "1"),
    "CountRecall-Hard": Published(-0.475, "GRU", "1"),
    "MultiarmedBandit-Easy": Published(0.631, "Elman", "≥ 0.723"),
    "MultiarmedBandit-Medium": Published(0.538, "GRU", "≥ 0.821"),
    "MultiarmedBandit-Hard": Published(0.516, "GRU", "≥ 0.858"),
    "HigherLower-Easy": Published(0.529, "several", "0.528"),
    "HigherLower-Medium": Published(0.513, "several", "0.516"),
    "HigherLower-Hard": Published(0.509, "several", "0.512"),
    "NoisyPositionOnlyCartPole-Easy": Published(0.995, "several"),
    "NoisyPositionOnlyCartPole-Medium": Published(0.659, "several"),
    "NoisyPositionOnlyCartPole-Hard": Published(0.404, "several"),
    "PositionOnlyCartPole-Easy": Published(1.000, "several", "1"),
    "PositionOnlyCartPole-Medium": Published(1.000, "several", "1"),
    "PositionOnlyCartPole-Hard": Published(1.000, "several", "1"),
    # Fast and Forgetful Memory (Morad et al., NeurIPS 2023), 15 M steps; POPGym's GRU. The ceiling
    # is what a perfect memory and greedy play reach, measured; for Medium no figure was found.
    "Concentration-Easy": Published(0.107, "FFM", "0.813"),
    "Concentration-Medium": Published(math.nan, "", "0.812"),
    "Concentration-Hard": Published(-0.829, "GRU", "0.696"),
    "CartPole-NoVelocity": Published(500.0, "LSTM", "500", way="deterministic"),
    "Pendulum-NoVelocity": Published(-217.9, "LSTM", way="deterministic"),
    "MountainCar-NoVelocity": Published(91.5, "LSTM", way="deterministic"),
}


DEFAULTS, PRESET, GPU = "defaults", "preset", "gpu"  # the latter two are in the names of such runs
MANY = LARGE | {"device": "cuda"}
"""What a GPU is given to do: 64 environments leave it idle."""


def jobs_of(
    tasks: list[str],
    ways: list[str],
    memory: str | None,
    steps: int | None,
    seeds: int,
    episodes: int,
) -> list[Job]:
    """The runs, seeds outermost."""
    jobs = []
    for name in ("popgym", "control"):
        suite = SUITES[name]
        for task in suite.tasks:
            if not task.name.startswith(tuple(tasks)):
                continue
            for way in ways:
                if (preset := preset_of(task.name, way)) is not None:
                    jobs += plan(
                        dataclasses.replace(suite, tasks=(task,)),
                        ROOT / "runs" / f"benchmark-{name}",
                        memories=[preset.memory or memory or suite.memories[0]],
                        seeds=seeds,
                        episodes=episodes,
                        settings=preset.settings,
                        name=None if way == DEFAULTS else way,
                        total_timesteps=steps or preset.steps,
                    )
    return sorted(jobs, key=lambda job: job.config.seed)


def preset_of(task: str, way: str) -> Preset | None:
    """What a task is run with, this way; None: it is not run so."""
    if way == DEFAULTS:
        return Preset({})
    preset = PRESETS.get(task)
    if way == PRESET:
        return preset
    preset = preset or Preset({})
    return preset._replace(settings=preset.settings | MANY, steps=15 * M)


def identity(config: TrainConfig) -> Row:
    """What tells a row from the others."""
    task = task_name(config)
    way = (config.name or "").partition("-")[0]
    preset = preset_of(task, way if way in (PRESET, GPU) else DEFAULTS)
    assert preset is not None
    text = [preset.text()] if preset.settings else []
    if preset.steps not in (None, config.total_timesteps):
        text.append(f"total_timesteps {config.total_timesteps:,}")
    return {
        "task": task,
        "memory": config.agent.memory,
        "settings": ", ".join(text),
        "seed": config.seed,
    }


def row_of(run: EvaluatedRun) -> Row:
    """What is kept of a run."""
    sampled = run.evaluation.stochastic
    _, seconds = learning_curve(run.path, "time/time_elapsed")
    return identity(run.config) | {
        "steps": run.evaluation.timesteps,
        "episodes": run.evaluation.episodes,
        "mmer": run.mmer,
        "deterministic": run.evaluation.deterministic.mean_return,
        "deterministic_ci95": run.evaluation.deterministic.ci95,
        "stochastic": sampled and sampled.mean_return,
        "stochastic_ci95": sampled and sampled.ci95,
        "code": commit(),
        "seconds": round(float(seconds[-1])),
        "first": first_above(run, seconds),
        "curve": thinned(run),
    }


def first_above(run: EvaluatedRun, seconds: NDArray[np.float64]) -> list[float] | None:
    """Steps and seconds until the mean return was first above 0.95, where the ceiling is 1."""
    above = np.flatnonzero(run.returns > SOLVED)
    if PUBLISHED[task_name(run.config)].ceiling != "1" or not len(above):
        return None
    return [int(run.steps[above[0]]), round(float(seconds[above[0]]))]


def keep(rows: list[Row]) -> None:
    """Write the rows beside those there are; a run made again takes the place of its old row."""
    order = list(PUBLISHED)
    kept = merged(RESULTS, rows, *KEY)
    kept.sort(key=lambda r: (order.index(r["task"]), *(r[name] for name in KEY[1:])))
    write_rows(RESULTS, kept)


def method_of(row: Row) -> str:
    """The memory, and the settings that are not the defaults."""
    return ", ".join(filter(None, (row["memory"], row["settings"])))


def cell(rows: list[Row], way: str) -> str:
    """Mean over seeds ± half of its 95 % interval; of one seed, that over its episodes."""
    return with_interval([row[way] for row in rows], rows[0][f"{way}_ci95"])


def of_task_and_method(rows: list[Row], task: str) -> dict[str, list[Row]]:
    """The rows of one task, by method, the defaults first."""
    of_task = sorted((r for r in rows if r["task"] == task), key=lambda r: str(r["settings"]))
    methods = dict.fromkeys(map(method_of, of_task))
    return {name: [row for row in of_task if method_of(row) == name] for name in methods}


def best_rows(rows: list[Row]) -> str:
    """A Markdown table with the best of each task: the method whose final policies return most."""
    lines = []
    for task, published in PUBLISHED.items():
        if found := of_task_and_method(rows, task):
            means = {m: np.mean([r["deterministic"] for r in found[m]]) for m in found}
            best = max(found, key=means.__getitem__)
            lines.append([task, *returns_of(found[best], published, best)])
    return markdown(RETURNS, lines).replace(r"\*\*", "**")  # the bold ones are ours


def all_rows(rows: list[Row]) -> str:
    """A Markdown page: what was reached, then what it took; six columns fit on a page."""
    returns, costs = [], []
    for task, published in PUBLISHED.items():
        for method, found in of_task_and_method(rows, task).items():
            returns.append([task, *returns_of(found, published, method)])
            costs.append([task, *costs_of(found, method)])
    tables = [markdown(RETURNS, returns).replace(r"\*\*", "**"), markdown(COSTS, costs)]
    return PAGE.format(*tables, older=OLDER)


def returns_of(rows: list[Row], published: Published, method: str) -> list[str]:
    """A line of the first table, without the task; bold is above the best published."""
    shown = {
        "mmer": f"{np.mean([row['mmer'] for row in rows]):.3f}",
        "deterministic": cell(rows, "deterministic"),
    }
    if np.mean([row[published.way] for row in rows]) > published.figure:
        shown[published.way] = f"**{shown[published.way]}**"
    best = f"{published.figure:g} ({published.by})" if published.by else "none found"
    if published.ceiling:
        best += f" of {published.ceiling}"
    seeds = f"{len(rows)} seed{'s' * (len(rows) > 1)}"
    return [best, method, f"{rows[0]['steps'] / 1e6:.2g} M, {seeds}", *shown.values()]


def costs_of(rows: list[Row], method: str) -> list[str]:
    """A line of the second table, without the task."""
    took = [row["seconds"] / 60 for row in rows if "seconds" in row]
    firsts = sorted(row["first"] for row in rows if row.get("first"))
    return [
        method,
        cell(rows, "stochastic"),
        f"{np.mean(took):.2g}" if took else "",
        "; ".join(f"{steps / 1e6:.2g} M, {seconds} s" for steps, seconds in firsts),
        ", ".join(sorted({row.get("code", OLDER) for row in rows})),
    ]


def draw(rows: list[Row]) -> None:
    """The learning curve of each seed, the best published figure and the ceiling."""
    figure, axes = panels(2, 3, size=(9, 4.6))
    for axis, task in zip(axes.flat, DRAWN, strict=True):
        published, preset = PUBLISHED[task], PRESETS[task]
        way = (task, preset.memory, preset.text())
        found = [row for row in rows if (row["task"], row["memory"], row["settings"]) == way]
        for row in found:
            curve = row["curve"]
            axis.plot(np.array(curve["steps"]) / 1e6, curve["returns"], color="C0")
        if found:
            axis.axhline(published.figure, color="black", linestyle="--")
            axis.axhline(float(published.ceiling), color="grey", linestyle=":")
        axis.set_title(task, fontsize=10)
        axis.set_xlabel("million steps")
    for row in axes:
        row[0].set_ylabel("return in training")
    save(figure, "published")


def main() -> None:
    parser = arguments(__doc__, seeds=1, episodes=1000)
    parser.add_argument("--tasks", nargs="+", default=[""], metavar="TASK")
    parser.add_argument(
        "--ways", nargs="+", choices=(DEFAULTS, PRESET, GPU), default=[DEFAULTS, PRESET]
    )
    parser.add_argument("--memory", help="by default each suite's first")
    parser.add_argument("--total-timesteps", type=int, help="instead of each task's own")
    given = parser.parse_args()
    jobs = jobs_of(
        *(given.tasks, given.ways, given.memory),
        *(given.total_timesteps, given.seeds, given.episodes),
    )
    if not given.table:
        written = [{name: row[name] for name in KEY} for row in read_rows(RESULTS)]
        todo = [job for job in jobs if identity(job.config) not in written]
        try:
            do(todo)
        finally:
            keep([row_of(load_evaluated_run(job.run_dir)) for job in todo if job.done])
    rows = read_rows(RESULTS)
    print(best_rows(rows))
    ALL.write_text(all_rows(rows))
    draw(rows)


if __name__ == "__main__":
    main()
