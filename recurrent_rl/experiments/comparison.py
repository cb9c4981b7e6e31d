"""Comparing finished runs: a table by task, aggregate scores with bootstrap intervals, and curves.

The statistics stand in `statistics`, the picture in `curves`.
"""

from __future__ import annotations

import dataclasses
import io
import itertools
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import methodcaller
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from recurrent_rl.agents.files import write_atomically
from recurrent_rl.config import AUTOMATIC, NO_MATTER_OF_WHAT_IS_LEARNT, TrainConfig
from recurrent_rl.errors import UserError
from recurrent_rl.experiments.curves import draw_curves
from recurrent_rl.experiments.results import EvaluatedRun
from recurrent_rl.experiments.statistics import (
    Interval,
    bootstrapped,
    interquartile_mean,
    probability_of_improvement,
    with_interval,
)
from recurrent_rl.runs.evaluation_result import WAYS, EvaluationSummary
from recurrent_rl.vector_env.config import NO_MATTER_OF_THE_TASK
from recurrent_rl.vector_env.properties import stated_returns

_NOT_OF_A_METHOD = NO_MATTER_OF_WHAT_IS_LEARNT | {
    *("env_id", "seed", "total_timesteps", "eval_episodes", "eval_interval"),
    *("stop_at_return", "patience"),
}
"""Settings by which no two methods differ: a method is named by the others that its runs have.
Where runs of one task differ in total_timesteps, the shorter ones are named by them too."""


@dataclass(frozen=True)
class Cell:
    """The runs of one method on one task."""

    runs: tuple[EvaluatedRun, ...]

    def of(self, way: str) -> list[EvaluationSummary]:
        """What the runs' evaluations of this name in `WAYS` found; empty where one lacks it."""
        found = [getattr(run.evaluation, way) for run in self.runs]
        return [] if None in found else found

    @property
    def returns(self) -> NDArray[np.float64]:
        """Mean return of each run's evaluation, taking the deterministic actions."""
        return np.array([result.mean_return for result in self.of("deterministic")])

    def shown(self, way: str) -> str:
        """Mean return as `with_interval`; empty where not all runs were evaluated in this way.

        Says how many episodes did not end; a dash where a run has none that did.
        """
        found = self.of(way)
        if not found:
            return ""
        returns = [result.mean_return for result in found]
        shown = "-" if np.isnan(returns).any() else with_interval(returns, found[0].ci95)
        unfinished = sum(result.unfinished for result in found)
        return f"{shown} ({unfinished} unfinished)" if unfinished else shown

    def shown_mmer(self) -> str:
        """Mean over the runs of the maximum over training; a dash where one has none."""
        mean = np.mean([run.mmer for run in self.runs])
        return "-" if np.isnan(mean) else f"{mean:.3f}"


class Comparison:
    """Runs by task and method, each seed once: that of the most steps, and then episodes.

    Args:
        runs: finished and evaluated.
    """

    def __init__(self, runs: Sequence[EvaluatedRun]) -> None:
        if not runs:
            raise UserError("There are no runs to compare.")
        configs = [run.config for run in runs]
        labels = method_labels(configs)
        cells: defaultdict[tuple[str, str], dict[int, EvaluatedRun]] = defaultdict(dict)
        self.left_out: dict[Path, Path] = {}
        """Runs that count no more than once, each with the one of the same seed that does."""
        for run, task, label in zip(runs, task_names(configs), labels, strict=True):
            of_seed = cells[task, label]
            there = of_seed.setdefault(run.config.seed, run)
            if there is not run:
                kept, other = (run, there) if _finer(run, there) else (there, run)
                of_seed[run.config.seed] = kept
                self.left_out[other.path] = kept.path
        self.cells = {key: Cell(tuple(found.values())) for key, found in cells.items()}
        self.tasks = list(dict.fromkeys(task for task, _ in self.cells))
        self.methods = list(dict.fromkeys(labels))

    def table(self, shown: Callable[[Cell], str]) -> str:
        """Markdown: one row a task, and for each method what `shown` says of its runs."""
        rows = []
        for task in self.tasks:
            row = self._row(task)
            runs = [run for cell in row.values() for run in cell.runs]
            steps = _range([run.evaluation.timesteps / 1e6 for run in runs], "{:.3g} M")
            counts = _range([len(cell.runs) for cell in row.values()], "{}")
            cells = [shown(row[method]) if method in row else "" for method in self.methods]
            rows.append([task, steps, counts, *cells])
        return markdown(["task", "steps", "runs", *self.methods], rows)

    def _row(self, task: str) -> dict[str, Cell]:
        return {m: self.cells[task, m] for m in self.methods if (task, m) in self.cells}

    @cached_property
    def scores(self) -> tuple[list[str], dict[str, NDArray[np.float64]]]:
        """What can be aggregated: the tasks, and by method their scores `[runs, tasks]`.

        A score is 0 for the best memoryless policy and 1 for the best possible. Tasks without a
        known range, and those that not all methods have, are left out; so are the runs of a method
        beyond the number that it has on all of its tasks.
        """
        ranges = {}
        for task in self.tasks:
            row = self._row(task)
            found = score_range(next(iter(row.values())).runs[0].config)
            if found is not None and len(row) == len(self.methods):
                ranges[task] = found
        scores = {}
        for method in self.methods:
            columns = [
                (self.cells[task, method].returns - low) / (high - low)
                for task, (low, high) in ranges.items()
            ]
            count = min((len(column) for column in columns), default=0)
            scores[method] = np.array([x[:count] for x in columns]).T.reshape(count, len(columns))
        return list(ranges), scores

    def aggregates(self) -> tuple[dict[str, Interval], dict[tuple[str, str], Interval]]:
        """Interquartile mean by method, and the probability that one improves on another.

        Intervals are of a bootstrap stratified by task. Both are empty where nothing can be
        aggregated.
        """
        tasks, scores = self.scores
        if not tasks:
            return {}, {}
        means = {m: bootstrapped(interquartile_mean, list(x.T)) for m, x in scores.items()}
        improvements = {
            (a, b): bootstrapped(probability_of_improvement, [*scores[a].T, *scores[b].T])
            for a, b in itertools.permutations(scores, 2)
        }
        return means, improvements

    def report(self) -> str:
        """Markdown: a table for each way of playing, the maximum over training, the aggregates."""
        parts = [
            "Mean return of the frozen policies, ± half of its 95 % interval (Student's t): over "
            "runs, over episodes where there is one run.",
        ]
        for name, way in WAYS.items():
            if any(cell.of(name) for cell in self.cells.values()):
                of_way = methodcaller("shown", name)
                parts += ["", f"With {way.label}:", "", self.table(of_way)]
        parts += [
            "",
            "Maximum over training of the mean return (MMER, stochastic actions), biased upward:",
            "",
            self.table(Cell.shown_mmer),
        ]
        return "\n".join([*parts, *self._aggregates_as_lines()]) + "\n"

    def _aggregates_as_lines(self) -> list[str]:
        """The report's last part; empty where nothing can be aggregated over several tasks."""
        means, improvements = self.aggregates() if len(self.tasks) > 1 else ({}, {})
        if not means:
            return []
        tasks, scores = self.scores
        runs = min(len(x) for x in scores.values())
        rivals = list(means) if len(means) > 1 else []
        header = ["", "interquartile mean", *(f"P(better than {method})" for method in rivals)]
        rows = [
            [method, mean, *("" if method == b else improvements[method, b] for b in rivals)]
            for method, mean in means.items()
        ]
        return [
            "",
            f"Over {len(tasks)} of {len(self.tasks)} tasks (those with a known range that all "
            "methods have), scores from 0, the best memoryless policy, to 1, the best possible;"
            f" 95 % intervals by a bootstrap over {runs} or more runs, stratified by task:",
            "",
            markdown(header, rows),
        ]

    def draw(
        self,
        path: Path | IO[bytes],
        levels: Mapping[str, float] | None = None,
        what: str = "",
    ) -> None:
        """Draw the learning curves, one panel a task: mean over runs, and their range.

        Args:
            path: the picture's file, or one that is open.
            levels: of some tasks a return to draw as a broken line.
            what: the name of these returns.
        """
        runs = {
            task: {method: cell.runs for method, cell in self._row(task).items()}
            for task in self.tasks
        }
        draw_curves(path, runs, self.methods, levels, what)

    def save(self, out: Path) -> list[Path]:
        """Write `results.md` and `curves.png` into a folder; returns their paths.

        Raises:
            FileWriteError: the disk is full, or the folder cannot be written to.
        """
        picture = io.BytesIO()
        self.draw(picture)
        contents = {"results.md": self.report().encode(), "curves.png": picture.getvalue()}
        for name, content in contents.items():
            write_atomically(out / name, content)
        return [out / name for name in contents]


def _finer(run: EvaluatedRun, other: EvaluatedRun) -> bool:
    """Whether its evaluation is of more steps, or of as many and more episodes."""
    one, two = run.evaluation, other.evaluation
    return (one.timesteps, one.episodes) > (two.timesteps, two.episodes)


def markdown(header: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table; what its cells hold is shown as it is."""
    head, *body = (f"| {' | '.join(map(_as_text, row))} |" for row in [header, *rows])
    return "\n".join([head, "|" + "---|" * len(header), *body])


def _as_text(cell: object) -> str:
    """A cell whose characters mean nothing in Markdown: a task's arguments may hold any."""
    return re.sub(r"[\\`*|<]|(?<=\])\(", r"\\\g<0>", " ".join(str(cell).split()))


def task_names(configs: Sequence[TrainConfig]) -> list[str]:
    """What each is trained on; with the whole id where a short one would stand for several."""
    environments: defaultdict[str, set[str]] = defaultdict(set)
    for config in configs:
        environments[task_name(config)].add(config.environment)
    return [task_name(one, len(environments[task_name(one)]) > 1) for one in configs]


def task_name(config: TrainConfig, whole_id: bool = False) -> str:
    """The environment, with what its arguments and the hiding of information make of it."""
    name = config.environment
    if not whole_id:
        name = name.rpartition("/")[2].removesuffix("-v0")
    kwargs = config.env.env_kwargs
    parts = [name, *(f"{key} {value}" for key, value in kwargs.items())]
    for field in dataclasses.fields(config.env):
        value = getattr(config.env, field.name)
        if field.name in ("env_kwargs", *NO_MATTER_OF_THE_TASK):
            continue
        if value != field.default:
            text = _with_ranges(value) if field.name == "hide_indices" else value
            parts.append(f"{field.name} {text}")
    return ", ".join(parts)


def _with_ranges(indices: Sequence[int]) -> str:
    """As Python writes a tuple, but three or more in a row by the first and the last of them."""
    # What lies in a row has the same difference to its place.
    rows = [
        [index for _, index in row]
        for _, row in itertools.groupby(enumerate(indices), lambda pair: pair[1] - pair[0])
    ]
    texts = [[f"{row[0]}-{row[-1]}"] if len(row) > 2 else map(str, row) for row in rows]
    return f"({', '.join(itertools.chain.from_iterable(texts))})"


def method_labels(configs: Sequence[TrainConfig]) -> list[str]:
    """What tells each run's method from the others': the memory, and the settings that differ.

    One that has fewer steps than another of the same task is told by them too: tasks have numbers
    of their own.
    """
    most: dict[str, int] = {}
    tasks = task_names(configs)
    for config, task in zip(configs, tasks, strict=True):
        most[task] = max(config.total_timesteps, most.get(task, 0))
    settings = []
    for config in configs:
        requested = config.as_requested()
        left = [name for name, value in AUTOMATIC.items() if getattr(requested, name) == value]
        values = requested.flat() | dict.fromkeys(left, "default")
        settings.append(
            {
                key: value
                for key, value in values.items()
                if key not in _NOT_OF_A_METHOD and not key.startswith("env.")
            }
        )
    differing = [
        key
        for key in settings[0]
        if key != "agent.memory" and len({str(one[key]) for one in settings}) > 1
    ]
    labels = []
    for config, task, one in zip(configs, tasks, settings, strict=True):
        parts = [f"{key.rpartition('.')[2]} {one[key]}" for key in differing]
        if config.total_timesteps < most[task]:
            parts.append(f"total_timesteps {config.total_timesteps}")
        labels.append(", ".join([one["agent.memory"], *parts]))
    return labels


def score_range(config: TrainConfig) -> tuple[float, float] | None:
    """The best memoryless and the best possible return; None where one is not known."""
    low, high = stated_returns(config.environment, config.env)
    return None if low is None or high is None or low >= high else (low, high)


def _range(values: Sequence[Any], form: str) -> str:
    low, high = form.format(min(values)), form.format(max(values))
    return low if low == high else f"{low} to {high}"
