"""A card: what is told of one environment at one step, as a picture or as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from recurrent_rl.envs.drawing import (
    FAINT,
    INK,
    LEFT,
    MARGIN,
    PAPER,
    WIDTH,
    Colours,
    Part,
    draw_part,
    font,
    parts_of,
    written,
)

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

HEIGHT = 208
"""In pixels."""
_TITLE = 38
"""Pixels of the title, below which a scene stands."""


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
    scene: Colours | None = None
    """A picture of where the agent is, `[SCENE_HEIGHT, WIDTH, 3]`, for what is a place."""


def hidden_parts(
    unseen: Mapping[str, Any],
    observation_space: gym.Space[Any],
    action_space: gym.Space[Any],
    action_names: Sequence[str] = (),
    observation_names: Sequence[str] = (),
) -> list[Part]:
    """What an environment hides, as components.

    Args:
        unseen: by name; `answer` is an action, other integers are kinds as those observed, other
            numbers are numbers, and None is nothing now.
        observation_space: of one environment.
        action_space: of one environment.
        action_names: of the kinds of a Discrete action.
        observation_names: of the kinds of what is observed.
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
            is_kind = array.dtype.kind in "biu"
            names = observation_names if is_kind else ()
            found.append(Part(name, array, kinds if is_kind else 0, names=names))
    return found


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
    """The card as a picture `[H, WIDTH, 3]`, of the same size whatever it tells.

    `H` is `HEIGHT`, and where there is a scene `HEIGHT + SCENE_HEIGHT`.
    """
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
    to = ImageDraw.Draw(image)
    to.text((MARGIN, 10), card.title, INK, font(18))
    progress = f"step {card.steps}     return {card.total:+.3g}"
    to.text((WIDTH - MARGIN, 12), progress, INK, font(15), anchor="ra")
    below = 42 if card.to_remember else 74
    _draw_label(to, "observation", below + 9)
    _draw_shown(image, card.observation, below)
    if card.to_remember:
        _draw_label(to, "to remember", 84)
        to.text((LEFT, 86), card.to_remember, FAINT, font(14))
        _draw_hidden(image, card.hidden, 106)
    _draw_label(to, "last action", HEIGHT - 33)
    _draw_shown(image, card.action, HEIGHT - 42)
    if card.reward is not None:
        text = f"reward {card.reward:+.3g}"
        to.text((WIDTH - MARGIN, HEIGHT - 33), text, INK, font(15), anchor="ra")
    drawn = np.asarray(image)
    if card.scene is None:
        return drawn
    return np.concatenate([drawn[:_TITLE], card.scene, drawn[_TITLE:]])


def _draw_label(to: ImageDraw, label: str, y: int) -> None:
    to.text((MARGIN, y), label, INK, font(15))


def _draw_shown(image: Image, parts: Sequence[Part], top: int) -> None:
    """Components side by side, each in its share of the width."""
    width = (WIDTH - MARGIN - LEFT) // max(1, len(parts))
    for number, part in enumerate(parts or [Part("", np.zeros(0))]):
        draw_part(image, part, (LEFT + number * width, top, width - 6, 36))


def _draw_hidden(image: Image, parts: Sequence[Part], top: int) -> None:
    """What is hidden: the answer at the left, what it comes from beside it."""
    left = LEFT
    for part in sorted(parts, key=lambda part: part.label != "answer"):
        width = WIDTH - MARGIN - left
        if part.label == "answer" and len(parts) > 1:
            width = 190
        draw_part(image, part, (left, top, width, 44))
        left += width


class Played:
    """What pictures tell of the running episodes of N environments, beside their state."""

    def __init__(self, num_envs: int) -> None:
        self.actions: list[Any] = [None] * num_envs
        self.rewards = np.zeros(num_envs)
        self.totals = np.zeros(num_envs)
        self.steps = np.zeros(num_envs, dtype=np.int64)

    def begin(self, rows: NDArray[np.intp]) -> None:
        """Episodes begin in these environments."""
        self.totals[rows] = 0
        self.steps[rows] = 0
        for i in rows:
            self.actions[i] = None

    def step(self, actions: NDArray[Any], rewards: NDArray[np.float64]) -> None:
        """All environments took a step."""
        self.actions = list(np.array(actions))
        self.rewards = rewards
        self.totals += rewards
        self.steps += 1
