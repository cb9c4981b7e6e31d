"""Episodes of a policy as pictures or text: what it sees and does, and what its memory holds.

The policy plays as in `evaluate`, on one environment; who looks on changes nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.vector import SyncVectorEnv
from numpy.typing import NDArray
from PIL import Image

from recurrent_rl.agents.acting import PolicyState
from recurrent_rl.agents.arguments import PATH, argument, check_is
from recurrent_rl.agents.memory.states import MemoryState
from recurrent_rl.agents.policy import Policy
from recurrent_rl.agents.settings import between, shown
from recurrent_rl.env_config import EnvConfig
from recurrent_rl.envs.batch import SingleEnv
from recurrent_rl.envs.card import Card, draw, write
from recurrent_rl.envs.drawing import PAPER, WIDTH, Colours, Part, parts_of
from recurrent_rl.errors import UserError
from recurrent_rl.runs.evaluation import evaluate
from recurrent_rl.runs.figures import WAYS, Evaluation
from recurrent_rl.runs.strip import MEMORY_ROWS, Strip
from recurrent_rl.runs.trained_on import settings_for
from recurrent_rl.runs.video_file import check_video, video_file
from recurrent_rl.sources import Environment, Source, find_source
from recurrent_rl.vectorize import make_vector_env

Fps = Annotated[float, between(0.1, 100)]
"""Steps that are shown in a second."""
HIGHEST = 400
"""Pixels of an environment's own picture in a frame; a higher one is made smaller."""
MEMORY_ROWS_OF_TEXT = 16
"""Of the memory in a terminal, where a line has room for two."""
STEPS_PER_SECOND = 4
"""Where an environment does not say how fast it is shown: a card has to be read."""


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
Mode = Literal["rgb_array", "ansi", "human"]
WayName = Literal["deterministic", "stochastic", "memory_ablation"]
"""Of `WAYS`."""


class _Filmed(gym.Wrapper[Any, Any, Any, Any]):
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


class _Watched(Policy):
    """A policy whose memory is looked at each time it has chosen."""

    def __init__(self, policy: Policy, on_state: Callable[[MemoryState], object]) -> None:
        super().__init__(policy.agent, policy.summary)
        self._on_state = on_state

    def choose(
        self,
        arrays: Mapping[str, NDArray[Any]],
        state: PolicyState,
        *rest: Any,
    ) -> tuple[NDArray[Any], PolicyState]:
        """As the policy chooses."""
        actions, after = super().choose(arrays, state, *rest)
        self._on_state(self.agent.split_state(after.memory)[0])
        return actions, after


class Stage:
    """One environment in which a policy plays while somebody looks on.

    Args:
        policy: plays.
        env: where, as for `evaluate`, but no vector environment.
        config: settings of the environment; by default those of the training where it is the one
            that the policy was trained on.
        mode: how the environment is to draw itself, where it can.

    Raises:
        UserError: the environment cannot be made, or not alone.
    """

    def __init__(
        self,
        policy: Policy,
        env: Environment | Source,
        config: EnvConfig | None = None,
        mode: Mode = "rgb_array",
    ) -> None:
        self._source = env if isinstance(env, Source) else find_source(env)
        if self._source.one is None:
            raise UserError(
                f"{self._source.name} steps its environments together, and one alone is shown. "
                "Give the class or a function that makes one environment."
            )
        if config is None:
            config = settings_for(policy, self._source.name)
        hide = policy.agent.reader.hide_indices
        env = _alone(self._source, config, mode, hide_by_wrapper=not hide)
        self._env = env
        # Outermost: it sees what the policy sees.
        self._filmed = env.envs[0] = _Filmed(env.envs[0], mode, hide)
        self._policy = _Watched(policy, self._filmed.read)

    @property
    def renders(self) -> bool:
        """Whether the environment draws itself; a card stands for one that does not."""
        return self._filmed.renders

    @property
    def fps(self) -> float:
        """Steps per second at which the environment is usually shown."""
        if not self._filmed.renders:
            return STEPS_PER_SECOND
        return float(self._filmed.metadata.get("render_fps") or STEPS_PER_SECOND)

    def play(
        self,
        episodes: int,
        on_moment: OnMoment,
        *,
        way: WayName = "deterministic",
        seed: int | None = None,
        max_steps: int | None = None,
        on_episode: Callable[[int], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> Evaluation:
        """Play so many episodes: those that `evaluate` plays on its first environment.

        Args:
            episodes: to play.
            on_moment: told of each observation once the policy has read it, and of the last one.
            way: of `WAYS`.
            seed: as for `evaluate`.
            max_steps: as for `evaluate`.
            on_episode: as for `evaluate`.
            should_stop: as for `evaluate`.

        Raises:
            UserError: as `evaluate`.
        """
        self._filmed.on_moment = on_moment
        return evaluate(
            self._policy,
            self._env,
            episodes,
            deterministic=WAYS[way].deterministic,
            with_memory=WAYS[way].with_memory,
            seed=seed,
            max_steps=max_steps,
            on_episode=on_episode,
            should_stop=should_stop,
        )

    def close(self) -> None:
        """Close the environment, if it was made here."""
        self._source.close(self._env)

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _alone(source: Source, config: EnvConfig, mode: Mode, hide_by_wrapper: bool) -> SyncVectorEnv:
    """One environment, which draws itself in this mode where it can."""

    def made(kwargs: dict[str, Any]) -> SyncVectorEnv:
        changed = dataclasses.replace(config, env_kwargs=kwargs, vectorization="sync")
        env = make_vector_env(source, 1, changed, hide_by_wrapper=hide_by_wrapper)
        assert isinstance(env, SyncVectorEnv)
        return env

    env = made(config.env_kwargs)
    if source.given is not None or "render_mode" in config.env_kwargs:
        return env
    if mode not in env.envs[0].metadata.get("render_modes", ()):
        return env
    env.close()
    try:
        return made({**config.env_kwargs, "render_mode": mode})
    except UserError as error:
        if not isinstance(error.__cause__, TypeError):
            raise
        return made(config.env_kwargs)  # the argument is what it does not take


def record_video(
    policy: Policy,
    env: Environment,
    path: str | Path,
    episodes: int = 1,
    *,
    fps: float | None = None,
    env_config: EnvConfig | None = None,
    way: WayName = "deterministic",
    seed: int | None = None,
    max_steps: int | None = None,
    on_episode: Callable[[int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Evaluation:
    """Write a video of episodes: the environment's picture, and what the memory held.

    An environment that draws itself (`render_mode="rgb_array"`) is shown as it does; another as a
    card of what it shows. Below stand the last steps: observation, action, the right action
    where the environment tells it, reward, and the memory's numbers. The file is there once it is
    whole.

    Args:
        policy: plays.
        env: where, as for `evaluate`, but no vector environment.
        path: of the video, which ends in `.gif` or `.mp4`; an MP4 needs the extra `video`.
        episodes: one after the other; the first of those that `evaluate` plays with this seed.
        fps: steps per second; by default as the environment says, or 4.
        env_config: as for `evaluate`.
        way: stochastic draws the actions as in training, memory_ablation resets the memory at each
            step.
        seed: as for `evaluate`.
        max_steps: as for `evaluate`.
        on_episode: as for `evaluate`.
        should_stop: called at each step; true ends early, and leaves no file.

    Returns:
        The episodes, as `evaluate` does.

    Raises:
        UserError: the file cannot be written, the environment cannot be made or not alone, or as
            `evaluate`.
    """
    check_is("policy", policy, Policy, "a Policy, as load_policy(path) gives")
    check_is("path", path, *PATH)
    check_is("env_config", env_config, (EnvConfig, NoneType), "an EnvConfig, or None")
    fps = argument("fps", fps, Fps | None)
    way = argument("way", way, WayName)
    check_video(Path(path))

    def is_whole() -> bool:
        return should_stop is None or not should_stop()

    with (
        Stage(policy, env, env_config) as stage,
        video_file(Path(path), fps or stage.fps, is_whole) as video,
    ):
        played = stage.play(
            episodes,
            lambda moment: video.add(moment.frame()),
            way=way,
            seed=seed,
            max_steps=max_steps,
            on_episode=on_episode,
            should_stop=should_stop,
        )
    return played
