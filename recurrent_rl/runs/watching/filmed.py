"""One environment that is looked at: what it shows, what is done, and what the memory holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from recurrent_rl.agents.memory.states import MemoryState
from recurrent_rl.agents.settings import shown
from recurrent_rl.envs.card import Card, draw, write
from recurrent_rl.envs.drawing import PAPER, WIDTH, Colours, Part, parts_of
from recurrent_rl.envs.single import SingleEnv
from recurrent_rl.errors import UserError
from recurrent_rl.runs.watching.strip import MEMORY_ROWS, Strip

HIGHEST = 400
"""Pixels of an environment's own picture in a frame; a higher one is made smaller."""
MEMORY_ROWS_OF_TEXT = 16
"""Of the memory in a terminal, where a line has room for two."""

Mode = Literal["rgb_array", "ansi", "human"]
"""How an environment is to draw itself."""


class Moment(NamedTuple):
    """One environment after a reset or step; to be looked at before the next comes."""

    episode: int
    """From 1."""
    steps: int
    """Taken in the episode."""
    total: float
    """The return so far."""
    view: Any
    """What the environment draws of itself, in the mode that was asked for."""
    is_card: bool
    """It is a card, which tells of the step and the return itself."""
    strip: Strip
    """The last steps."""

    @property
    def heading(self) -> str:
        """A line over the last steps."""
        text = f"episode {self.episode}"
        if self.is_card:
            return text
        return f"{text}     step {self.steps}     return {self.total:+.3g}"

    def frame(self) -> Colours:
        """The environment's picture above the last steps, `[H, WIDTH, 3]`."""
        return np.concatenate([_fitted(self.view), self.strip.draw(self.heading)])


def _fitted(picture: NDArray[Any]) -> Colours:
    """A picture brought to `WIDTH`, in the middle of white."""
    image = Image.fromarray(np.asarray(picture, dtype=np.uint8)).convert("RGB")
    scale = min(WIDTH / image.width, HIGHEST / image.height)
    if scale >= 1:  # pixels stay squares
        image = image.resize(
            (image.width * int(scale), image.height * int(scale)), Image.Resampling.NEAREST
        )
    else:
        image.thumbnail((WIDTH, HIGHEST), Image.Resampling.LANCZOS)
    canvas = Image.new("RGB", (WIDTH, image.height), PAPER)
    canvas.paste(image, ((WIDTH - image.width) // 2, 0))
    return np.asarray(canvas)


OnMoment = Callable[[Moment], object]


class Filmed(gym.Wrapper[Any, Any, Any, Any]):
    """One environment that is looked at after each reset and step.

    Args:
        env: with all its wrappers.
        mode: `rgb_array`, `ansi` or `human`; what does not render in it is drawn as a card.
        hide: entries of the observation that the policy does not read.
    """

    def __init__(self, env: gym.Env[Any, Any], mode: Mode, hide: Sequence[int]) -> None:
        super().__init__(env)
        self.mode = mode
        self.hide = list(hide)
        self.on_moment: OnMoment = lambda _: None
        """Told of each moment, once the policy has read what the environment shows."""
        self.ours = env.unwrapped if isinstance(env.unwrapped, SingleEnv) else None
        self.renders = env.render_mode == mode
        self.is_card = not self.renders or self.ours is not None
        self.strip: Strip | None = None
        self.episode, self.steps, self.total = 0, 0, 0.0
        self.action: list[Part] = []
        self.reward: float | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset; the policy reads the observation next."""
        self.observation, info = self.env.reset(seed=seed, options=options)
        self.episode, self.steps, self.total = self.episode + 1, 0, 0.0
        self.action, self.reward = [], None
        return self.observation, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step; the last observation of an episode is told of at once, since no policy reads it."""
        self.observation, reward, terminated, truncated, info = self.env.step(action)
        self.action = parts_of(self.action_space, action)
        self.reward = float(reward)
        self.steps += 1
        self.total += self.reward
        assert self.strip is not None
        self.strip.act(self.action, self.reward)
        if terminated or truncated:
            self.on_moment(self._moment())
        return self.observation, self.reward, terminated, truncated, info

    def read(self, state: MemoryState) -> None:
        """The policy has read the observation, and this is its memory now."""
        seen, unseen = self._seen(), {} if self.ours is None else self.ours.unseen()
        if self.strip is None:
            sample = parts_of(self.action_space, self.action_space.sample())
            rows = MEMORY_ROWS if self.mode == "rgb_array" else MEMORY_ROWS_OF_TEXT
            self.strip = Strip(seen, sample, "answer" in unseen, rows)
        answer = unseen.get("answer")
        right = [] if answer is None else parts_of(self.action_space, answer)
        self.strip.read(seen, right, state, starts=self.steps == 0)
        self.on_moment(self._moment())

    def _seen(self) -> list[Part]:
        parts = parts_of(self.observation_space, self.observation)
        if not self.hide:
            return parts
        return [part._replace(values=np.delete(part.values, self.hide)) for part in parts]

    def _moment(self) -> Moment:
        assert self.strip is not None
        counts = (self.episode, self.steps, self.total)
        return Moment(*counts, self._view(), self.is_card, self.strip)

    def _view(self) -> Any:
        if self.renders:
            return self._rendered()
        form = draw if self.mode == "rgb_array" else write
        spec = self.env.spec
        return form(
            Card(
                title=spec.id if spec else type(self.env.unwrapped).__name__,
                steps=self.steps,
                total=self.total,
                observation=self._seen(),
                action=self.action,
                reward=self.reward,
            )
        )

    def _rendered(self) -> Any:
        """What the environment draws; in mode human it has shown itself.

        Raises:
            UserError: it is no picture, or no text, or a package is missing.
        """
        if self.mode == "human":
            return None
        try:
            view: Any = self.env.render()
        except gym.error.DependencyNotInstalled as error:
            raise UserError(f"{self.env.unwrapped} cannot be drawn: {error}") from error
        is_picture = isinstance(view, np.ndarray) and view.ndim in (2, 3)
        if is_picture if self.mode == "rgb_array" else isinstance(view, str):
            return view
        expected = "a picture [H, W, 3]" if self.mode == "rgb_array" else "text"
        raise UserError(
            f"{self.env.unwrapped} rendered {shown(view)} in mode {self.mode}; expected "
            f"{expected}. Mend its render()."
        )
