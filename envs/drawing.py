"""How values are drawn: observations, actions, and what an environment hides.

Values become coloured tiles: one kind, such as a suit, has one colour wherever it stands, so that a
right action has the colour of the answer. The colours are told apart also by those who see no red
or no green (Okabe and Ito 2008), and tiles large enough bear their number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

Colours = NDArray[np.uint8]
"""`[..., 3]`: red, green, blue."""

WIDTH = 640
"""Of a picture, in pixels."""
PAPER, INK, FAINT = (255, 255, 255), (34, 34, 34), (110, 110, 110)
_KINDS: Colours = np.array(
    [
        *([0, 114, 178], [230, 159, 0], [0, 158, 115], [204, 121, 167]),
        *([86, 180, 233], [213, 94, 0], [240, 228, 66], [153, 153, 153]),
    ],
    dtype=np.uint8,
)
_RAMP = np.array([[80, 80, 80], [232, 232, 232]])
"""From the first to the last of the kinds beyond these."""
_LOW, _ZERO, _HIGH = np.array([0, 90, 160]), np.array([248, 248, 248]), np.array([200, 80, 0])
_EMPTY = (238, 238, 238)

LEFT = 114
"""Where values begin; their labels stand before it."""
MARGIN = 14
_TILE = 24
_SMALLEST_NUMBERED = 14
"""The side of a tile that bears its number."""
_MOST_TILES = 1024
_SMALLEST_PICTURE = 8


class Part(NamedTuple):
    """A component of an observation, an action or what is hidden, ready to be drawn."""

    label: str
    """Where it stands in a Dict or Tuple; empty for the whole."""
    values: NDArray[Any]
    kinds: int = 0
    """How many kinds its integers tell apart; 0: they are numbers."""
    first: int = 0
    """The integer of the first kind."""
    names: Sequence[str] = ()
    """Of the kinds."""


def parts_of(
    space: gym.Space[Any], value: Any, names: Sequence[str] = (), label: str = ""
) -> list[Part]:
    """The components of a value of this space.

    Args:
        space: of one environment.
        value: in it.
        names: of the kinds of a Discrete or MultiDiscrete space.
        label: where it stands.
    """
    if isinstance(space, gym.spaces.Dict | gym.spaces.Tuple):
        inner = (
            space.spaces.items() if isinstance(space, gym.spaces.Dict) else enumerate(space.spaces)
        )
        found = (
            parts_of(one, value[key], (), f"{label}.{key}" if label else str(key))
            for key, one in inner
        )
        return [part for parts in found for part in parts]
    if isinstance(space, gym.spaces.Discrete):
        return [Part(label, np.asarray(value), int(space.n), int(space.start), names)]
    if isinstance(space, gym.spaces.MultiDiscrete):
        first = int(space.start.min())
        kinds = int((space.start + space.nvec).max()) - first
        return [Part(label, np.asarray(value), kinds, first, names)]
    if isinstance(space, gym.spaces.MultiBinary):
        return [Part(label, np.asarray(value), 2)]
    return [Part(label, np.asarray(value))]


def entries_of(part: Part, labels: Sequence[str]) -> list[Part]:
    """The entries of a component, each under its label."""
    return [
        part._replace(label=label, values=value)
        for label, value in zip(labels, part.values, strict=True)
    ]


def colours(part: Part, scale: NDArray[np.float64] | None = None) -> Colours:
    """The colour of each value, `[..., 3]`: of its kind, or from blue below 0 to orange above.

    Args:
        part: its values may be NaN where there are none.
        scale: the number with the strongest colour, `[...]` or of each row `[rows, 1]`; None: the
            greatest there is.
    """
    values = part.values.astype(np.float64)
    known = np.isfinite(values)
    filled = np.where(known, values, 0.0)
    kinds = filled - part.first
    if "" in part.names:
        known &= kinds != part.names.index("")
    if part.kinds:
        beyond = (kinds - len(_KINDS)) / max(1, part.kinds - len(_KINDS))
        more = _between(_RAMP[0], _RAMP[1], beyond)
        few = _KINDS[kinds.astype(np.intp) % len(_KINDS)]
        found = np.where((kinds < len(_KINDS))[..., None], few, more)
    else:
        scale = np.abs(filled).max(initial=0.0) if scale is None else scale
        share = np.clip(filled / np.where(scale == 0, 1.0, scale), -1, 1)
        above, below = _between(_ZERO, _HIGH, share), _between(_ZERO, _LOW, -share)
        found = np.where((share >= 0)[..., None], above, below)
    return np.where(known[..., None], found, _EMPTY).astype(np.uint8)


def _between(first: Any, last: Any, share: NDArray[np.float64]) -> NDArray[np.float64]:
    mixed: NDArray[np.float64] = first + (last - first) * share[..., None]
    return mixed


def is_picture(values: NDArray[Any]) -> bool:
    """Whether these are an image's pixels: bytes in two dimensions, and perhaps colours."""
    sides = values.shape[:2]
    is_image = values.ndim == 2 or (values.ndim == 3 and values.shape[2] in (1, 3))
    return values.dtype == np.uint8 and is_image and min(sides) >= _SMALLEST_PICTURE


@cache
def font(size: int) -> Any:
    """A font of so many pixels."""
    from PIL import ImageFont

    return ImageFont.load_default(size)


def written(part: Part) -> str:
    """The values as text."""
    values = part.values
    if is_picture(values):
        return f"a picture of {values.shape[1]} x {values.shape[0]} pixels"
    if values.dtype.kind not in "biuf":
        return str(values)[:40]
    if values.size > _MOST_TILES:
        return f"{values.size:,} numbers of shape {list(values.shape)}"
    if part.kinds and values.ndim == 0:
        return f"{_mark(part, float(values))} {name_of(part)}".strip()
    if part.kinds:
        return " ".join(_mark(part, x) or "-" for x in values.flatten().tolist())
    return "   ".join(_numbers(values))


def _numbers(values: NDArray[Any]) -> list[str]:
    """Numbers as text, with their signs where they are no whole ones."""
    form = "{:.0f}" if _are_whole(values) else "{:+.2f}"
    return [form.format(x) if abs(x) < 1000 else f"{x:+.2g}" for x in values.flatten().tolist()]


def _are_whole(values: NDArray[Any]) -> bool:
    return bool((values == np.round(values)).all())


def name_of(part: Part) -> str:
    """The name of its one kind; empty where it has none, or one short enough for its tile."""
    if _fit_tiles(part.names):
        return ""
    return part.names[int(part.values) - part.first] if part.names else ""


def _fit_tiles(names: Sequence[str]) -> bool:
    """Whether there are names, each of at most two characters."""
    return 0 < max(map(len, names), default=0) <= 2


def _mark(part: Part, value: float) -> str:
    """What stands on the tile of one value."""
    return part.names[int(value) - part.first] if _fit_tiles(part.names) else f"{value:.0f}"


def draw_part(image: Image, part: Part, box: tuple[int, int, int, int]) -> None:
    """One component after its label, as large as it has room in its box.

    Args:
        image: to draw on.
        part: the component.
        box: left, top, width and height.
    """
    from PIL import ImageDraw

    to = ImageDraw.Draw(image)
    left, top, width, height = box
    middle = top + height // 2
    if part.label:
        to.text((left, middle), part.label, FAINT, font(13), anchor="lm")
        label = int(to.textlength(part.label, font(13))) + 8
        left, width = left + label, max(1, width - label)
    values = part.values
    if is_picture(values):
        _draw_picture(image, values, (left, top, width, height))
        return
    text = written(part) or "-"
    is_plain = not part.kinds and to.textlength(text, font(15)) <= width
    if is_plain or not 0 < values.size <= _MOST_TILES or values.dtype.kind not in "biuf":
        colour = INK if values.size else FAINT
        to.text((left, middle), text, colour, font(15), anchor="lm")
    else:
        _draw_tiles(to, part, (left, top, width, height))


def _draw_picture(image: Image, values: NDArray[Any], box: tuple[int, int, int, int]) -> None:
    from PIL import Image

    left, top, width, height = box
    pixels = values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values
    picture = Image.fromarray(pixels).convert("RGB")
    scale = min(width / picture.width, height / picture.height)
    size = (max(1, int(picture.width * scale)), max(1, int(picture.height * scale)))
    image.paste(picture.resize(size, Image.Resampling.NEAREST), (left, top))


def _draw_tiles(to: ImageDraw, part: Part, box: tuple[int, int, int, int]) -> None:
    """A tile for each value in the order in which they stand, row by row."""
    left, top, width, height = box
    flat = part.values.reshape(-1)
    side = tile_side(len(flat), width, height)
    across = max(1, width // side)
    top += (height - side * math.ceil(len(flat) / across)) // 2
    gap = 1 if side > 4 else 0
    shown = colours(part._replace(values=flat))
    are_dark = shown @ np.array([0.3, 0.59, 0.11]) < 140
    whole = _are_whole(flat) and np.abs(flat).max() < 100
    for number, value in enumerate(flat.tolist()):
        x, y = left + number % across * side, top + number // across * side
        to.rectangle((x, y, x + side - 1 - gap, y + side - 1 - gap), tuple(shown[number].tolist()))
        if side >= _SMALLEST_NUMBERED and whole:
            centre = (x + (side - gap) / 2, y + (side - gap) / 2)
            ink = PAPER if are_dark[number] else INK
            to.text(centre, _mark(part, value), ink, font(side // 2 + 2), anchor="mm")
    if part.values.ndim == 0:
        to.text((left + side + 8, top + side // 2), name_of(part), INK, font(15), anchor="lm")


def tile_side(count: int, width: int, height: int) -> int:
    """The side of so many tiles that all have room in a box, in pixels."""
    for side in range(_TILE, 1, -1):
        if (width // side) * (height // side) >= count:
            return side
    return 1
