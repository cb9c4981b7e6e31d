"""How an environment is drawn that has no picture of its own: a card of what it shows and hides.

Values become coloured tiles: one kind, such as a suit, has one colour wherever it stands, so that a
right action has the colour of the answer. The colours are told apart also by those who see no red
or no green (Okabe and Ito 2008), and tiles large enough bear their number.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

Colours = NDArray[np.uint8]
"""`[..., 3]`: red, green, blue."""

WIDTH, HEIGHT = 640, 208
"""Of a card, in pixels."""
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
_MOST_NUMBERS = 10
"""Numbers that are written out; more are drawn as a heat map."""
_SMALLEST_PICTURE = 8


class Part(NamedTuple):
    """A component of an observation, an action or what is hidden, ready to be drawn."""

    label: str
    """Where it stands in a Dict or Tuple; empty for the whole."""
    values: NDArray[Any]
    kinds: int = 0
    """How many kinds its integers tell apart; 0: they are numbers."""
    first: Any = 0
    """The integer of the first kind."""
    names: Sequence[str] = ()
    """Of the kinds."""


class Card(NamedTuple):
    """What is told of one environment at one step."""

    title: str
    steps: int
    """Of the episode, so far."""
    total: float
    """The return so far."""
    observation: list[Part]
    action: list[Part]
    """The last one; empty at an episode's start."""
    reward: float | None
    """For it."""
    to_remember: str = ""
    """In words."""
    hidden: Sequence[Part] = ()
    """What the observation does not show, with its values now."""


def parts_of(
    space: gym.Space[Any], value: Any, names: Sequence[str] = (), label: str = ""
) -> list[Part]:
    """The components of a value of this space.

    Args:
        space: of one environment.
        value: in it.
        names: of the kinds of a Discrete space.
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
        return [Part(label, np.asarray(value), int(space.n), space.start, names)]
    if isinstance(space, gym.spaces.MultiDiscrete):
        return [Part(label, np.asarray(value), int(space.nvec.max()), space.start)]
    if isinstance(space, gym.spaces.MultiBinary):
        return [Part(label, np.asarray(value), 2)]
    return [Part(label, np.asarray(value))]


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
    if part.kinds:
        more = _between(*_RAMP, (kinds - len(_KINDS)) / max(1, part.kinds - len(_KINDS)))
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
    if part.kinds and values.ndim == 0:
        return f"{int(values)} {name_of(part)}".strip()
    if part.kinds:
        return " ".join(str(x) for x in values.flatten().tolist())
    return "   ".join(_numbers(values))


def _numbers(values: NDArray[Any]) -> list[str]:
    """Numbers as text, with their signs where they are no whole ones."""
    whole = bool((values == np.round(values)).all())
    return [f"{x:.0f}" if whole else f"{x:+.2f}" for x in values.flatten().tolist()]


def name_of(part: Part) -> str:
    """The name of its one kind; empty where it has none."""
    return part.names[int(part.values) - int(part.first)] if part.names else ""


def write(card: Card) -> str:
    """The card as text, for a terminal."""
    reward = "" if card.reward is None else f"   reward {card.reward:+.3g}"
    lines = [f"{card.title}   step {card.steps}   return {card.total:+.3g}"]
    lines.append(f"{'observation':13}{_texts(card.observation)}")
    if card.to_remember:
        lines.append(f"{'to remember':13}{card.to_remember}")
    lines += [f"  {part.label:11}{written(part)}" for part in card.hidden]
    return "\n".join([*lines, f"{'last action':13}{_texts(card.action)}{reward}"])


def _texts(parts: Iterable[Part]) -> str:
    texts = (f"{part.label} {written(part)}".strip() for part in parts)
    return ", ".join(texts) or "-"


def draw(card: Card) -> Colours:
    """The card as a picture `[HEIGHT, WIDTH, 3]`, of the same size whatever it tells."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
    to = ImageDraw.Draw(image)
    to.text((MARGIN, 10), card.title, INK, font(18))
    progress = f"step {card.steps}     return {card.total:+.3g}"
    to.text((WIDTH - MARGIN, 12), progress, INK, font(15), anchor="ra")
    below = 42 if card.to_remember else 74
    _draw_row(to, "observation", card.observation, below, 36)
    if card.to_remember:
        _draw_label(to, "to remember", 84)
        to.text((LEFT, 86), card.to_remember, FAINT, font(14))
        _draw_hidden(to, card.hidden, 106)
    _draw_row(to, "last action", card.action, HEIGHT - 42, 36)
    if card.reward is not None:
        text = f"reward {card.reward:+.3g}"
        to.text((WIDTH - MARGIN, HEIGHT - 33), text, INK, font(15), anchor="ra")
    return np.asarray(image)


def _draw_label(to: ImageDraw, label: str, y: int) -> None:
    to.text((MARGIN, y), label, INK, font(15))


def _draw_row(to: ImageDraw, label: str, parts: Sequence[Part], y: int, height: int) -> None:
    """A labelled row of components side by side, each in its share of the width."""
    _draw_label(to, label, y + 9)
    if not parts:
        to.text((LEFT, y + 9), "-", FAINT, font(15))
        return
    width = (WIDTH - MARGIN - LEFT) // len(parts)
    for number, part in enumerate(parts):
        _draw_part(to, part, (LEFT + number * width, y, width - 6, height))


def _draw_hidden(to: ImageDraw, parts: Sequence[Part], y: int) -> None:
    """What is hidden: the answer at the left, what it comes from beside it."""
    left = LEFT
    for part in sorted(parts, key=lambda part: part.label != "answer"):
        to.text((left, y + 13), part.label, FAINT, font(13))
        left += int(to.textlength(part.label, font(13))) + 8
        width = 130 if part.label == "answer" and part.values.size < 4 else WIDTH - MARGIN - left
        _draw_part(to, part, (left, y, width, 44))
        left += width + 10


def _draw_part(to: ImageDraw, part: Part, box: tuple[int, int, int, int]) -> None:
    """One component in its box (left, top, width, height), as large as it has room there."""
    left, top, _, height = box
    values = part.values
    if part.label and part.label != "answer" and part.kinds and values.ndim == 0:
        to.text((left, top + 12), part.label, FAINT, font(12))
    if is_picture(values):
        _draw_picture(to, values, box)
    elif not values.size or values.dtype.kind not in "biuf":
        to.text((left, top + height // 2), written(part) or "-", FAINT, font(14), anchor="lm")
    elif not part.kinds and values.size <= _MOST_NUMBERS:
        numbers = "   ".join(_numbers(values))
        to.text((left, top + height // 2), numbers, INK, font(15), anchor="lm")
    else:
        _draw_tiles(to, part, box)


def _draw_picture(to: ImageDraw, values: NDArray[Any], box: tuple[int, int, int, int]) -> None:
    from PIL import Image

    pixels = values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values
    image = Image.fromarray(pixels).convert("RGB")
    larger = min(box[2] / image.width, box[3] / image.height)
    size = (max(1, int(image.width * larger)), max(1, int(image.height * larger)))
    to._image.paste(image.resize(size, Image.Resampling.NEAREST), box[:2])


def _draw_tiles(to: ImageDraw, part: Part, box: tuple[int, int, int, int]) -> None:
    """A tile for each value in the order in which they stand, row by row."""
    left, top, width, height = box
    flat = part.values.reshape(-1)
    side = tile_side(len(flat), width, height)
    across = max(1, width // side)
    top += (height - side * math.ceil(len(flat) / across)) // 2
    gap = 1 if side > 4 else 0
    shown = colours(part._replace(values=flat)).tolist()
    whole = bool((flat == np.round(flat)).all()) and np.abs(flat).max() < 100
    for number, (value, colour) in enumerate(zip(flat.tolist(), shown, strict=True)):
        x, y = left + number % across * side, top + number // across * side
        to.rectangle((x, y, x + side - 1 - gap, y + side - 1 - gap), tuple(colour))
        if side >= 14 and (part.kinds or whole):
            dark = sum(a * b for a, b in zip(colour, (0.3, 0.59, 0.11), strict=True)) > 140
            middle = (x + (side - gap) / 2, y + (side - gap) / 2)
            to.text(
                middle, f"{value:.0f}", INK if dark else PAPER, font(side // 2 + 2), anchor="mm"
            )
    if part.values.ndim == 0:
        to.text((left + side + 8, top + side // 2), name_of(part), INK, font(15), anchor="lm")


def tile_side(count: int, width: int, height: int) -> int:
    """The side of so many tiles that all have room in a box, in pixels."""
    for side in range(_TILE, 1, -1):
        if (width // side) * (height // side) >= count:
            return side
    return 1


def hidden_parts(
    unseen: Mapping[str, Any],
    observation_space: gym.Space[Any],
    action_space: gym.Space[Any],
    action_names: Sequence[str] = (),
) -> list[Part]:
    """What an environment hides, as components.

    Args:
        unseen: by name; `answer` is an action, other integers are kinds as those observed, other
            numbers are numbers, and None is nothing now.
        observation_space: of one environment.
        action_space: of one environment.
        action_names: of the kinds of a Discrete action.
    """
    kinds = 0
    if isinstance(observation_space, gym.spaces.Discrete):
        kinds = int(observation_space.n)
    elif isinstance(observation_space, gym.spaces.MultiDiscrete):
        kinds = int(observation_space.nvec.max())
    found = []
    for name, value in unseen.items():
        if value is None:
            found.append(Part(name, np.zeros(0)))
        elif name == "answer":
            found += parts_of(action_space, value, action_names, name)
        else:
            array = np.asarray(value)
            found.append(Part(name, array, kinds if array.dtype.kind in "biu" else 0))
    return found
