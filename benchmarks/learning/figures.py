"""What the figures of learning share: how they look, and that none is saved empty."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
from cycler import cycler
from jobs import ROOT
from PIL import Image

mpl.use("Agg")
from matplotlib import pyplot as plt

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7", "#666666")
"""Told apart also by those who see no red or no green (Okabe and Ito 2008), and grey."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
mpl.rcParams["axes.prop_cycle"] = cycler(color=COLOURS)


def panels(
    rows: int = 1, columns: int = 1, size: tuple[float, float] = (7.5, 2.8), **more: Any
) -> tuple[Any, Any]:
    """A figure that is read at 700 pixels' width, and its axes `[rows, columns]`."""
    figure, axes = plt.subplots(
        rows, columns, figsize=size, layout="constrained", squeeze=False, **more
    )
    for axis in axes.flat:
        axis.grid(alpha=0.3)
        axis.tick_params(labelsize=8)
    return figure, axes


def save(figure: Any, name: str) -> None:
    """Write docs/NAME.png; where there is nothing to see, the one there is stays."""
    path = ROOT / "docs" / f"{name}.png"
    if any(axis.has_data() for axis in figure.axes):
        figure.savefig(path, dpi=110)
        lighten(path)
    else:
        print(f"no runs to draw: docs/{path.name} stays as it is", file=sys.stderr)
    plt.close(figure)


def lighten(path: Path) -> None:
    """Keep 64 colours of a PNG: curves look the same, in about a third of the bytes."""
    with Image.open(path) as picture:
        few = picture.convert("RGB").quantize(64, dither=Image.Dither.NONE)
    few.save(path, optimize=True)


def dots(axis: Any, rows: list[str], series: dict[str, list[list[float]]]) -> None:
    """A line for each row, from the top; of each series a mark at each of its figures there."""
    for number, (label, figures) in enumerate(series.items()):
        aside = 0.16 * (number - (len(series) - 1) / 2)  # so that equal figures are both seen
        marks = [(x, y + aside) for y, of_row in enumerate(figures) for x in of_row]
        if marks:
            style = {"color": COLOURS[number], "marker": MARKERS[number], "s": 28, "alpha": 0.85}
            axis.scatter(*zip(*marks, strict=True), label=label, zorder=3, **style)
    axis.set_yticks(range(len(rows)), rows)
    axis.set_ylim(max(len(rows), 1) - 0.5, -0.5)


def legend(figure: Any, axis: Any) -> None:
    """What the marks of these axes mean, below all."""
    handles, labels = axis.get_legend_handles_labels()
    if handles:
        figure.legend(
            handles, labels, loc="outside lower center", ncols=4, fontsize=8, frameon=False
        )
