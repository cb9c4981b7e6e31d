"""The last steps of an episode on one axis of time: what was seen, done, earned and remembered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from recurrent_rl.agents.memory.states import MemoryState, differentiable, names_of, tensors_of
from recurrent_rl.envs.drawing import (
    FAINT,
    INK,
    LEFT,
    MARGIN,
    PAPER,
    WIDTH,
    Colours,
    Part,
    colours,
    font,
)

COLUMNS = 64
"""Steps that have room. Where there are more the older half goes: frames that differ in little make
a small GIF, and rows that stand still are read with ease."""
MOST_ROWS = 16
"""Of all components of an observation, or of an action: those for which no room is left have none,
such as images."""
LABEL = 14
"""Characters that have room beside the rows."""
MEMORY_ROWS = 48
"""Of all bands of the memory together."""
MOST_BANDS = 3
_CELL = (WIDTH - LEFT - MARGIN) // COLUMNS


class Band(NamedTuple):
    """Rows of cells that belong together."""

    label: str
    cells: Colours
    """`[rows, COLUMNS, 3]`."""
    height: int
    """Of a row, in pixels."""


class _Rows:
    """The values of one band, of the last steps; a step that lacks them holds NaN.

    Args:
        like: a component with as many values.
        height: of a row, in pixels.
        alike: the rows are in one unit, and have one scale.
    """

    def __init__(self, like: Part, height: int, alike: bool = False) -> None:
        self.like = like
        self.height = height
        self.alike = alike
        self.columns: list[NDArray[np.float64]] = []
        self.scale = np.zeros((like.values.size, 1))
        """The greatest number so far: no colour changes its meaning where that leaves the strip."""

    def append(self, values: NDArray[Any] | None) -> None:
        """One more step."""
        make_room(self.columns)
        self.columns.append(np.full(self.like.values.size, np.nan))
        self.fill(values)

    def fill(self, values: NDArray[Any] | None) -> None:
        """The values of the last step, which are known now."""
        if values is None or values.size != self.like.values.size or not self.columns:
            return
        self.columns[-1] = values.astype(np.float64).reshape(-1)
        sizes = np.nan_to_num(np.abs(self.columns[-1]), posinf=0.0)[:, None]
        self.scale = np.maximum(self.scale, sizes.max() if self.alike else sizes)

    def band(self) -> Band:
        """As colours, the last step behind the others."""
        values = np.full((self.like.values.size, COLUMNS), np.nan)
        if self.columns:
            values[:, : len(self.columns)] = np.stack(self.columns, axis=1)
        cells = colours(self.like._replace(values=values), self.scale)
        return Band(self.like.label, cells, self.height)


def make_room(steps: list[Any]) -> None:
    """Let the older half of the steps go where there is no room for one more."""
    if len(steps) == COLUMNS:
        del steps[: COLUMNS // 2]


class Strip:
    """Rows of what is shown of the last steps, at most `COLUMNS`, of one episode after the other.

    Args:
        observation: components of one; their values do not matter.
        action: of one.
        has_answer: the environment tells the right action, now or later.
        memory_rows: of all that the memory holds, together.
    """

    def __init__(
        self,
        observation: Sequence[Part],
        action: Sequence[Part],
        has_answer: bool,
        memory_rows: int = MEMORY_ROWS,
    ) -> None:
        self._memory_rows = memory_rows
        self.starts: list[bool] = []
        """Of each step that is shown, whether an episode starts with it."""
        acts = _with_room(action)
        rows = {
            f"observation {number}": (part, part.label[:LABEL] or "observation")
            for number, part in _with_room(observation).items()
        }
        rows |= {f"action {number}": (part, "action") for number, part in acts.items()}
        if has_answer:
            rows |= {f"answer {number}": (part, "answer") for number, part in acts.items()}
        rows["reward"] = (Part("", np.zeros(1)), "reward")
        self._rows = {
            key: _Rows(part._replace(label=label), 10 if part.values.size < 3 else 6)
            for key, (part, label) in rows.items()
        }
        self._memory: dict[str, _Rows] = {}

    def read(
        self,
        observation: Sequence[Part],
        answer: Sequence[Part],
        state: MemoryState,
        starts: bool,
    ) -> None:
        """The policy has read an observation; what it will do is not known yet.

        Args:
            observation: its components.
            answer: of the action that is right, as far as that is told.
            state: of the memory, of one stream, after the observation.
            starts: the observation is an episode's first.
        """
        make_room(self.starts)
        self.starts.append(starts)
        for rows in self._rows.values():
            rows.append(None)
        self._fill("observation", observation)
        self._fill("answer", answer)
        for name, activity in activities(state, self._memory_rows).items():
            if name not in self._memory:
                like = Part(f"memory {name}", activity)
                height = 4 if activity.size <= MEMORY_ROWS // 2 else 3
                self._memory[name] = _Rows(like, height, alike=True)
            self._memory[name].append(activity)

    def act(self, action: Sequence[Part], reward: float) -> None:
        """What the policy did then, and earned by it."""
        self._fill("action", action)
        self._rows["reward"].fill(np.array([reward]))

    def _fill(self, kind: str, parts: Sequence[Part]) -> None:
        for number, part in enumerate(parts):
            if (rows := self._rows.get(f"{kind} {number}")) is not None:
                rows.fill(part.values)

    def bands(self) -> list[Band]:
        """All there is to be seen, from the top."""
        return [rows.band() for rows in (*self._rows.values(), *self._memory.values())]

    def draw(self, heading: str) -> Colours:
        """As a picture `[H, WIDTH, 3]` under its heading; a line stands where an episode starts."""
        bands = self.bands()
        top = 26
        height = top + sum(len(band.cells) * band.height + 6 for band in bands) + 6
        image = Image.new("RGB", (WIDTH, height), PAPER)
        to = ImageDraw.Draw(image)
        to.text((MARGIN, 4), heading, INK, font(15))
        to.text((WIDTH - MARGIN, 6), "time, one step a column", FAINT, font(13), anchor="ra")
        label, y = "", top
        for band in bands:
            size = (COLUMNS * _CELL, len(band.cells) * band.height)
            cells = Image.fromarray(band.cells).resize(size, Image.Resampling.NEAREST)
            image.paste(cells, (LEFT, y))
            if band.label != label:
                middle = y + size[1] // 2
                to.text((MARGIN, middle), band.label, INK, font(12), anchor="lm")
            label = band.label
            y += size[1] + 6
        for column in np.flatnonzero(self.starts).tolist():
            x = LEFT + column * _CELL
            to.line((x, top - 2, x, y - 5), INK)
        return np.asarray(image)


def _with_room(parts: Sequence[Part]) -> dict[int, Part]:
    """Those of which rows can be shown, by their places: of numbers, and `MOST_ROWS` in all."""
    found, left = {}, MOST_ROWS
    for place, part in enumerate(parts):
        if part.values.dtype.kind in "biuf" and part.values.size <= left:
            found[place] = part
            left -= part.values.size
    return found


def activities(state: MemoryState, rows: int = MEMORY_ROWS) -> dict[str, NDArray[np.float64]]:
    """What a memory's tensors hold for the first stream, by name: at most so many rows in all.

    Of a complex number its magnitude is taken; of neighbours that share a row, the number farthest
    from 0. Integers, such as a clock, are left out.
    """
    names = names_of(state, "")
    kept = {id(x) for x in differentiable(state)}
    found = [
        (name.lstrip("."), x)
        for name, x in zip(names, tensors_of(state), strict=True)
        if id(x) in kept and x.numel()
    ][:MOST_BANDS]
    return {name: _grouped(x, rows // len(found)) for name, x in found}


def _grouped(tensor: Tensor, most: int) -> NDArray[np.float64]:
    """The first stream's numbers in at most so many rows."""
    one = tensor.detach().select(1, 0)
    one = one.abs() if one.is_complex() else one
    flat = one.flatten().double().cpu().numpy()
    each = -(-len(flat) // most)
    padded = np.zeros(each * (-(-len(flat) // each)))
    padded[: len(flat)] = flat
    groups = padded.reshape(-1, each)
    farthest = np.abs(groups).argmax(axis=1)
    grouped: NDArray[np.float64] = groups[np.arange(len(groups)), farthest]
    return grouped
