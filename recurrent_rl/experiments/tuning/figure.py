"""A search for settings as a picture: its trials one after the other, and what mattered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recurrent_rl.agents.extras import optional
from recurrent_rl.experiments.tuning.files import TrialRecord
from recurrent_rl.experiments.tuning.space import SEARCH


def draw_tuning(
    path: Path, records: Sequence[TrialRecord], importances: Mapping[str, float]
) -> None:
    """Draw the score of each trial with the best so far, and beside it the importances.

    Args:
        path: the picture's file.
        records: of the trials; at least one is complete.
        importances: of the settings; there is no second panel where they are empty.
    """
    columns = 2 if importances else 1
    # Without pyplot, which would choose how the whole process draws.
    made = optional("matplotlib.figure", SEARCH, extra="tune").Figure
    figure = made((4.5 * columns, 3.2), layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False)
    _draw_trials(axes[0, 0], records)
    if importances:
        _draw_importances(axes[0, 1], importances)
    figure.savefig(path, dpi=110)


def _draw_trials(panel: Any, records: Sequence[TrialRecord]) -> None:
    for state, marker, colour in (("complete", "o", "C0"), ("pruned", "x", "C7")):
        shown = [(r.number, r.score) for r in records if r.state == state and r.score is not None]
        if shown:
            panel.scatter(*zip(*shown, strict=True), marker=marker, color=colour, s=22, label=state)
    complete = [(r.number, r.score) for r in records if r.state == "complete"]
    numbers, scores = (np.array(x, dtype=float) for x in zip(*complete, strict=True))
    best = np.maximum.accumulate(scores)
    panel.step(numbers, best, where="post", color="C1", label="best so far")
    for given in (r.score for r in records if r.is_given and r.state == "complete"):
        panel.axhline(given, color="black", linestyle="--", linewidth=1, label="as given")
    panel.set_xlabel("trial")
    panel.set_ylabel("mean return, last quarter")
    panel.grid(alpha=0.3)
    panel.legend(fontsize=8)


def _draw_importances(panel: Any, importances: Mapping[str, float]) -> None:
    names = sorted(importances, key=lambda name: importances[name])
    panel.barh(names, [importances[name] for name in names], color="C0")
    panel.set_xlabel("importance")
    panel.grid(alpha=0.3, axis="x")
