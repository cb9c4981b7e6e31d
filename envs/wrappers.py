"""Wrappers that hide information: those that Gymnasium does not have.

Gymnasium's own are used for the rest: FilterObservation (keys of a Dict), DelayObservation,
FrameStackObservation, TimeAwareObservation. Its AddWhiteNoise changes rendered frames only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray


def _vector_space(env: gym.Env[Any, Any], wrapper: str) -> gym.spaces.Box:
    space = env.observation_space
    if not isinstance(space, gym.spaces.Box):
        raise ValueError(f"{wrapper} needs a Box observation; {env} observes {space}.")
    return space


class _RandomObservation(gym.ObservationWrapper[Any, Any, Any]):
    """A wrapper with random draws of its own, repeatable by the seed of `reset`."""

    generator: np.random.Generator
    stream: ClassVar[int]
    """Of its draws: another for each wrapper, and none is the environment's, which has the seed
    itself."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset the environment and, with a seed, the wrapper's own draws."""
        if seed is not None or not hasattr(self, "generator"):
            self.generator = np.random.default_rng(None if seed is None else [seed, self.stream])
        return super().reset(seed=seed, options=options)


class HideIndices(gym.ObservationWrapper[Any, Any, Any], gym.utils.RecordConstructorArgs):
    """Drop entries of a vector observation, for example the velocities.

    Args:
        env: observes a Box of one dimension.
        indices: entries to drop.

    Raises:
        ValueError: the observation is no vector, an index is out of range, or nothing is left.
    """

    def __init__(self, env: gym.Env[Any, Any], indices: Sequence[int]) -> None:
        gym.utils.RecordConstructorArgs.__init__(self, indices=tuple(indices))
        super().__init__(env)
        space = _vector_space(env, "HideIndices")
        if len(space.shape) != 1:
            raise ValueError(f"HideIndices needs a vector; {env} observes {space}.")
        size = space.shape[0]
        if bad := [index for index in indices if not 0 <= index < size]:
            raise ValueError(f"There is no entry {bad[0]} to hide: entries are 0 to {size - 1}.")
        self.kept = np.setdiff1d(np.arange(size), np.asarray(indices, dtype=np.int64))
        if not len(self.kept):
            raise ValueError(f"Hiding {list(indices)} leaves nothing to observe of {space}.")
        self.observation_space = gym.spaces.Box(
            space.low[self.kept], space.high[self.kept], dtype=space.dtype.type
        )

    def observation(self, observation: NDArray[Any]) -> NDArray[Any]:
        """The entries that are not hidden."""
        return observation[self.kept]


class Flicker(_RandomObservation, gym.utils.RecordConstructorArgs):
    """With some probability show zeros instead of the observation (Hausknecht & Stone 2015).

    The observation space is widened to hold zero where it does not.

    Args:
        env: observes a Box.
        probability: in [0, 1).

    Raises:
        ValueError: the observation is no Box, or `probability` is none.
    """

    stream = 1

    def __init__(self, env: gym.Env[Any, Any], probability: float) -> None:
        gym.utils.RecordConstructorArgs.__init__(self, probability=probability)
        super().__init__(env)
        if not 0 <= probability < 1:
            raise ValueError(f"probability is {probability}; it must be in [0, 1).")
        space = _vector_space(env, "Flicker")
        self.probability = probability
        # Arrays whatever the shape: of none NumPy would make numbers, and Gymnasium a vector.
        low, high = np.asarray(np.minimum(space.low, 0)), np.asarray(np.maximum(space.high, 0))
        self.observation_space = gym.spaces.Box(low, high, dtype=space.dtype.type)

    def observation(self, observation: NDArray[Any]) -> NDArray[Any]:
        """The observation, or zeros."""
        hidden = self.generator.random() < self.probability
        return np.zeros_like(observation) if hidden else np.asarray(observation)


class ObservationNoise(_RandomObservation, gym.utils.RecordConstructorArgs):
    """Add Gaussian noise to the observation.

    Args:
        env: observes a Box of floats.
        std: standard deviation of the noise on each entry.

    Raises:
        ValueError: the observation is no Box of floats, or `std` is negative or not finite.
    """

    stream = 2

    def __init__(self, env: gym.Env[Any, Any], std: float) -> None:
        gym.utils.RecordConstructorArgs.__init__(self, std=std)
        super().__init__(env)
        space = _vector_space(env, "ObservationNoise")
        if space.dtype.kind != "f":
            raise ValueError(f"ObservationNoise needs floats; {env} observes {space}.")
        if not 0 <= std < np.inf:
            raise ValueError(f"std is {std}; it must be a finite number of at least 0.")
        self.std = std
        self.observation_space = gym.spaces.Box(
            -np.inf, np.inf, space.shape, dtype=space.dtype.type
        )

    def observation(self, observation: NDArray[Any]) -> NDArray[Any]:
        """The observation with noise, in its own type."""
        clean = np.asarray(observation)  # without a shape it may come as a number
        noise = self.std * self.generator.standard_normal(clean.shape)
        return np.asarray(clean + noise, clean.dtype)
