"""What an export is tried with: plausible observations, resets, masks and rewards, at random."""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from recurrent_rl.agents.action_masks import mask_sizes
from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.export.step import MASK, START, observation_names
from recurrent_rl.agents.preprocessing import RUNNING
from recurrent_rl.agents.previous_step import PREVIOUS_REWARD
from recurrent_rl.agents.spaces import Components, component_spaces

RESETS = 0.05
"""Share of steps that start an episode."""


class Inputs(NamedTuple):
    """Of one step, without the state."""

    raw: dict[str, NDArray[Any]]
    """As the export takes them, by name."""
    components: Components
    """As the policy reads them."""
    start: Tensor
    """bool `[B]`."""
    mask: Tensor | None
    """bool `[B, n]`."""
    reward: Tensor
    """`[B]`."""


class Draw:
    """Draws the inputs of step after step.

    Components whose scale was learnt are drawn with the mean and variance that were seen in
    training, others from their space.

    Args:
        agent: that reads them.
        streams: `B`.
        seed: of what is drawn.
    """

    def __init__(self, agent: ActorCritic, streams: int, seed: int) -> None:
        self.agent, self.streams = agent, streams
        self._random = np.random.default_rng(seed)
        self._names = observation_names(agent.observation_space)
        self._spaces = component_spaces(agent.observation_space)
        for i, space in enumerate(self._spaces.values()):
            space.seed(seed + i)
        normaliser = agent.observation_normaliser
        self._moments = dict(zip(normaliser.paths, normaliser.moments, strict=True))

    def step(self, first: bool) -> Inputs:
        """The inputs of a step; every stream starts an episode at the first."""
        arrays = {path: self._component(path) for path in self._spaces}
        components = self.agent.reader.read(_nested(self.agent.observation_space, arrays))
        start = self._random.random(self.streams) < (1.0 if first else RESETS)
        reward = self._of_scale(PREVIOUS_REWARD, (self.streams,)).astype(np.float32)
        raw = {name: arrays[path] for path, name in self._names.items()}
        raw |= {START: start, PREVIOUS_REWARD: reward}
        mask = None
        if (size := self.agent.head.mask_size) is not None:
            raw[MASK] = self._mask(size)
            mask = torch.as_tensor(raw[MASK])
        read = self.agent.as_tensors(components)
        return Inputs(raw, read, torch.as_tensor(start), mask, torch.as_tensor(reward))

    def _component(self, path: str) -> NDArray[Any]:
        """`[B, *shape]` of a component."""
        space = self._spaces[path]
        if isinstance(space, spaces.Box) and self.agent.reader.scaling[path] in RUNNING:
            return self._numbers(path, space)
        return np.stack([np.asarray(space.sample()) for _ in range(self.streams)])

    def _numbers(self, path: str, space: spaces.Box) -> NDArray[Any]:
        """Numbers of the scale that was seen in training, within their bounds."""
        reader = self.agent.reader
        seen = reader.component_spaces[path].shape or ()
        x = self._of_scale(path, (self.streams, *seen))
        if (centre := reader.centre(path)) is not None:
            x = x + centre.numpy()
        if reader.kept is not None:
            whole = np.zeros((self.streams, *space.shape))
            whole[:, reader.kept] = x
            x = whole
        if space.dtype.kind in "iu":
            x = x.round()
        return np.clip(x, space.low, space.high).astype(space.dtype)

    def _of_scale(self, path: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """Normal, by mean and variance of a component as far as they were learnt."""
        x = self._random.standard_normal(shape)
        if path not in self._moments:
            return x
        moments = self._moments[path]
        mean, var = (moments.get_buffer(name).numpy() for name in ("mean", "var"))
        if path == PREVIOUS_REWARD:
            mean, var = mean[0], var[0]
        return mean + np.sqrt(var) * x  # type: ignore[no-any-return]

    def _mask(self, of_all: int) -> NDArray[np.bool_]:
        """Half of the actions allowed, of each component one at least."""
        sizes = mask_sizes(self.agent.action_space) or [of_all]
        parts = []
        for size in sizes:
            part = self._random.random((self.streams, size)) < 0.5
            part[np.arange(self.streams), self._random.integers(size, size=self.streams)] = True
            parts.append(part)
        return np.concatenate(parts, axis=1)


def _nested(space: gym.Space[Any], arrays: dict[str, NDArray[Any]], path: str = "") -> Any:
    """Components by path as an observation of the space: the inverse of `component_arrays`."""

    def part(key: Any, inner: gym.Space[Any]) -> Any:
        return _nested(inner, arrays, f"{path}/{key}" if path else str(key))

    if isinstance(space, spaces.Dict):
        return {key: part(key, inner) for key, inner in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(part(i, inner) for i, inner in enumerate(space.spaces))
    return arrays[path]
