"""Learning curves of several runs: at common steps, and as a picture.

matplotlib draws it: `pip install 'recurrent-rl[plot]'`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from recurrent_rl.agents.extras import optional
from recurrent_rl.experiments.results import Run
from recurrent_rl.experiments.statistics import COMPARING

CURVE_POINTS = 200


def common_curves(runs: Sequence[Run]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Learning curves, none empty, at steps that all runs have: `[points]`, `[runs, points]`."""
    first = max(run.steps[0] for run in runs)
    last = min(run.steps[-1] for run in runs)
    steps = np.linspace(first, max(first, last), CURVE_POINTS)
    return steps, np.stack([np.interp(steps, run.steps, run.returns) for run in runs])


def draw_curves(
    path: Path | IO[bytes],
    runs: Mapping[str, Mapping[str, Sequence[Run]]],
    methods: Sequence[str],
    levels: Mapping[str, float] | None = None,
    what: str = "",
) -> None:
    """Draw learning curves, one panel a task: mean over runs, and their range.

    Args:
        path: the picture's file, or one that is open.
        runs: by task and method.
        methods: all of them; each has the same colour in every panel.
        levels: of some tasks a return to draw as a broken line.
        what: the name of these returns.
    """
    columns = min(4, len(runs))
    rows = -(-len(runs) // columns)
    # Without pyplot, whose backend is the whole process's: a notebook's stays what it is.
    made = optional("matplotlib.figure", COMPARING).Figure
    figure = made((4 * columns, 3 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    panels = list(axes.flat)
    for panel, (task, of_task) in zip(panels, runs.items(), strict=False):
        for number, method in enumerate(methods):
            if method in of_task:
                _draw_method(panel, of_task[method], method, f"C{number % 10}")
        if levels and task in levels:
            panel.axhline(levels[task], color="black", linestyle="--", linewidth=1, label=what)
        panel.set_title(task, fontsize=10)
        panel.set_xlabel("million steps")
        panel.grid(alpha=0.3)
    for panel in panels[len(runs) :]:
        panel.set_visible(False)
    for row in axes:
        row[0].set_ylabel("episode return")
    _add_legend(figure, panels, columns)
    figure.savefig(path, dpi=110)


def _draw_method(panel: Any, runs: Sequence[Run], label: str, colour: str) -> None:
    runs = [run for run in runs if len(run.steps)]
    if not runs:  # no episode ended in training
        panel.plot([], [], color=colour, label=label)
        return
    steps, curves = common_curves(runs)
    panel.plot(steps / 1e6, curves.mean(axis=0), color=colour, label=label)
    low, high = curves.min(axis=0), curves.max(axis=0)
    panel.fill_between(steps / 1e6, low, high, color=colour, alpha=0.2, linewidth=0)


def _add_legend(figure: Any, panels: Sequence[Any], columns: int) -> None:
    """One legend of all panels, below them."""
    handles = {
        label: handle
        for panel in panels
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    beside = 55 * columns // (8 + max(map(len, handles)))  # as many as the width has room for
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=max(1, min(beside, len(handles))),
    )
