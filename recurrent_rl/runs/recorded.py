"""Recorded episodes, as behaviour cloning reads them: brought to tensors, and laid side by side."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recurrent_rl.agents.action_masks import ActionMaskError, flat_mask, mask_sizes
from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.settings import shown
from recurrent_rl.agents.spaces import Components, ObservationError, stack_observations
from recurrent_rl.errors import UserError


@dataclass(frozen=True, eq=False)
class RecordedEpisode:
    """What was seen and done in one episode of `T` steps, from its first observation on."""

    observations: Any
    """`T` observations of the space, or one more: a list, or stacked arrays `[T, ...]` in the
    space's nesting."""
    actions: Any
    """`T` actions of the space, each the answer to the observation of its place."""
    rewards: Any = None
    """`T` rewards, each of the action of its place; None where they are not known."""
    action_masks: Any = None
    """`T` action masks; None where there were none."""


class Batch(NamedTuple):
    """Episodes side by side and one after the other, `[T, C, ...]`; no episode is cut."""

    components: Components
    actions: Tensor
    returns: Tensor | None
    episode_start: Tensor
    valid: Tensor
    action_mask: Tensor | None

    def select(self, columns: Tensor) -> Batch:
        """These columns."""
        rest = (None if x is None else x[:, columns] for x in self[1:])
        return Batch({path: x[:, columns] for path, x in self.components.items()}, *rest)  # type: ignore[arg-type]


class _Episode(NamedTuple):
    """An episode as the agent reads it, `[T, ...]`."""

    components: Components
    actions: Tensor
    returns: Tensor | None
    action_mask: Tensor | None


def recorded_episodes(episodes: Any) -> Iterable[RecordedEpisode]:
    """The episodes of a list or of a Minari dataset.

    Raises:
        UserError: it is neither.
    """
    if hasattr(episodes, "iterate_episodes"):
        for one in episodes.iterate_episodes():
            yield RecordedEpisode(one.observations, one.actions, one.rewards)
        return
    try:
        listed = [] if isinstance(episodes, (str, bytes)) else list(episodes)
    except TypeError:
        listed = []
    if not listed and not isinstance(episodes, (list, tuple)):
        raise UserError(
            f"episodes is {shown(episodes)}; give a list of RecordedEpisode, or a Minari dataset."
        )
    for i, one in enumerate(listed):
        if not isinstance(one, RecordedEpisode):
            raise UserError(f"Episode {i} is a {type(one).__name__}; give a RecordedEpisode.")
        yield one


def side_by_side(agent: ActorCritic, episodes: list[RecordedEpisode], gamma: float) -> Batch:
    """All episodes in columns as long as the longest, each in the first that has room for it.

    Raises:
        UserError: there is none, or one does not fit.
    """
    if not episodes:
        raise UserError("There is no episode to imitate.")
    read = []
    for i, episode in enumerate(episodes):
        try:
            read.append(_read(agent, episode, gamma))
        except (ObservationError, ActionMaskError, TypeError, ValueError, LookupError) as error:
            raise UserError(f"Episode {i} cannot be imitated: {error}") from error
    read.sort(key=lambda one: -len(one.actions))
    length = len(read[0].actions)
    columns: list[list[_Episode]] = []
    room: list[int] = []
    for one in read:
        steps = len(one.actions)
        place = next((i for i, left in enumerate(room) if left >= steps), None)
        if place is None:
            columns.append([])
            room.append(length)
            place = len(columns) - 1
        columns[place].append(one)
        room[place] -= steps

    def laid(part: str) -> Tensor | None:
        if any(getattr(one, part) is None for one in read):
            return None
        return _laid([[getattr(one, part) for one in column] for column in columns], length)

    paths = read[0].components
    starts = [[_first(len(one.actions)) for one in column] for column in columns]
    valid = [[torch.ones(len(one.actions), dtype=torch.bool) for one in c] for c in columns]
    masks = laid("action_mask")
    if masks is not None:
        masks |= ~masks.any(-1, keepdim=True)  # where nothing was recorded
    batch = Batch(
        {
            path: _laid([[one.components[path] for one in column] for column in columns], length)
            for path in paths
        },
        _laid([[one.actions for one in column] for column in columns], length),
        laid("returns"),
        _laid(starts, length),
        _laid(valid, length),
        masks,
    )
    to = agent.device
    rest = (None if x is None else x.to(to) for x in batch[1:])
    return Batch({path: x.to(to) for path, x in batch.components.items()}, *rest)  # type: ignore[arg-type]


def _first(steps: int) -> Tensor:
    """True at the first of so many steps."""
    return torch.arange(steps) == 0


def _laid(columns: list[list[Tensor]], length: int) -> Tensor:
    """Each column's tensors one after the other, and zeros up to this length: `[T, C, ...]`."""
    like = columns[0][0]
    whole = like.new_zeros(length, len(columns), *like.shape[1:])
    for i, column in enumerate(columns):
        x = torch.cat(column)
        whole[: len(x), i] = x
    return whole


def _read(agent: ActorCritic, episode: RecordedEpisode, gamma: float) -> _Episode:
    """An episode as the agent reads it.

    Raises:
        ValueError: lengths, actions or rewards do not fit.
        ObservationError: an observation does not.
    """
    actions = _actions(agent.action_space, episode.actions)
    steps = len(actions)
    observations = list(_each(agent.observation_space, episode.observations))
    if len(observations) not in (steps, steps + 1):
        raise ValueError(f"it has {len(observations)} observations and {steps} actions")
    seen = agent.reader.read(stack_observations(agent.observation_space, observations[:steps]))
    components = agent.as_tensors(seen)
    taken = agent.head.from_env(actions)
    rewards = None if episode.rewards is None else _numbers(episode.rewards, steps)
    if agent.config.previous_reward and rewards is None:
        raise ValueError("the agent reads the previous reward: give its rewards")
    earlier = None if rewards is None else _later(torch.as_tensor(rewards, dtype=torch.float32))
    components = agent.with_previous(components, _later(taken), earlier)
    mask = None
    if episode.action_masks is not None:
        mask = torch.as_tensor(_masks(agent.action_space, episode.action_masks, actions, taken))
    returns = None
    if rewards is not None and agent.has_critic:
        returns = torch.as_tensor(_discounted(rewards, gamma))
    return _Episode(components, taken, returns, mask)


def _actions(space: gym.Space[Any], given: Any) -> NDArray[Any]:
    """The actions `[T, ...]`, as they were given.

    Raises:
        ValueError: there is none, or one is not in the space.
    """
    is_array = isinstance(given, np.ndarray) and given.ndim > 0
    actions = np.asarray(given if is_array else _listed("actions", given))
    steps = len(actions)
    if not steps:
        raise ValueError("it has no action")
    if actions.shape != (steps, *(space.shape or ())):
        raise ValueError(f"its actions have the shape {actions.shape}")
    if actions.dtype.kind not in "biuf":
        raise ValueError(f"its actions must be numbers; the first is {shown(given[0])}")
    for t in range(steps):
        with np.errstate(invalid="ignore"):  # of NaN, which differs from what it is cast to
            action = actions[t].astype(space.dtype)
        is_cut = action.dtype.kind in "iu" and not np.array_equal(action, actions[t])
        if is_cut or not space.contains(action):
            raise ValueError(f"action {t} is {actions[t]!r}, which is not in {space}")
    return actions


def _masks(
    space: gym.Space[Any], given: Any, actions: NDArray[Any], taken: Tensor
) -> NDArray[np.bool_]:
    """The action masks `[T, n]`.

    Args:
        space: of the actions.
        given: one mask for each action.
        actions: as they were given, for the message.
        taken: the same as counted from 0, `[T]` or `[T, components]`.

    Raises:
        ActionMaskError: one does not fit the space.
        ValueError: there are more or fewer, or one forbids the action of its place.
    """
    steps = len(actions)
    masks = [flat_mask(space, one) for one in _listed("action_masks", given)]
    if len(masks) != steps:
        raise ValueError(f"it has {len(masks)} action masks and {steps} actions")
    stacked = np.stack(masks)
    starts = np.cumsum([0, *(mask_sizes(space) or [])[:-1]])
    chosen = taken.reshape(steps, -1).numpy().astype(np.int64) + starts
    if (forbidden := ~np.take_along_axis(stacked, chosen, axis=1).all(axis=1)).any():
        t = int(forbidden.argmax())
        raise ValueError(f"action {t} is {actions[t]!r}, which its action mask forbids")
    return stacked


def _listed(name: str, given: Any) -> list[Any]:
    """One for each step.

    Raises:
        ValueError: it holds none of several steps.
    """
    try:
        return list(given)
    except TypeError:
        raise ValueError(f"its {name} are {shown(given)}; give one for each step") from None


def _each(space: gym.Space[Any], observations: Any) -> Iterable[Any]:
    """The observations one by one, also of stacked arrays in the space's nesting."""
    if isinstance(space, gym.spaces.Dict) and isinstance(observations, dict):
        parts = {key: list(_each(space[key], observations[key])) for key in space.spaces}
        return [dict(zip(parts, one, strict=True)) for one in zip(*parts.values(), strict=True)]
    if isinstance(space, gym.spaces.Tuple) and isinstance(observations, tuple):
        inner = [_each(one, x) for one, x in zip(space.spaces, observations, strict=True)]
        return list(zip(*inner, strict=True))
    return _listed("observations", observations)


def _numbers(rewards: Any, steps: int) -> NDArray[np.float64]:
    try:
        array = np.asarray(rewards, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.shape != (steps,) or not np.isfinite(array).all():
        raise ValueError(f"its rewards must be {steps} finite numbers")
    return array


def _later(x: Tensor) -> Tensor:
    """Each at the step after its own; zero at the first."""
    return torch.cat([torch.zeros_like(x[:1]), x[:-1]])


def _discounted(rewards: NDArray[np.float64], gamma: float) -> NDArray[np.float32]:
    """G_t = r_t + gamma G_tp1."""
    returns = np.zeros(len(rewards), dtype=np.float32)
    following = 0.0
    for t in range(len(rewards) - 1, -1, -1):
        following = rewards[t] + gamma * following
        returns[t] = following
    return returns
