"""From an environment's id and settings to a vector environment ready for a rollout."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv

from recurrent_rl.agents.spaces import ObservationError, leaf_arrays, stack_observations
from recurrent_rl.config import EnvConfig
from recurrent_rl.envs.wrappers import Flicker, HideIndices, ObservationNoise
from recurrent_rl.errors import UserError
from recurrent_rl.workers import make_in_processes


class CheckedObservations(gym.Wrapper[Any, Any, Any, Any]):
    """Refuses an observation that its space does not allow, by the copy and its step.

    Without it a wrong shape surfaces where all copies' observations are put together, and nobody
    can tell whose it was.

    Args:
        env: one copy.
        copies: counts the copies.
    """

    def __init__(self, env: gym.Env[Any, Any], copies: Iterator[int]) -> None:
        super().__init__(env)
        self.copy = next(copies)
        self.steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset, and check."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._checked(observation), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step, and check."""
        self.steps += 1
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._checked(observation), reward, terminated, truncated, info

    def _checked(self, observation: Any) -> Any:
        space = self.observation_space
        if isinstance(space, gym.spaces.Box) and np.shape(observation) == space.shape:
            return observation  # the common case, as quick as can be
        try:
            leaf_arrays(space, stack_observations(space, [observation]))
        except (ObservationError, KeyError, IndexError, TypeError) as error:
            raise UserError(
                f"Copy {self.copy} of the environment returned at its step {self.steps} what its "
                f"observation space {space} does not allow: {error} Mend the environment or the "
                "space."
            ) from error
        return observation


Wrapper = Callable[[gym.Env[Any, Any]], gym.Env[Any, Any]]


def make_vector_env(env_id: str, num_envs: int, config: EnvConfig | None = None) -> VectorEnv:
    """Make `num_envs` copies of an environment.

    The environment's own vector entry point is taken where it has one, else SyncVectorEnv.
    Options that hide information wrap each copy, so they too go through SyncVectorEnv or,
    where `vectorization` says so, AsyncVectorEnv.

    Args:
        env_id: a Gymnasium id, or `module:EnvId` to import `module` first.
        num_envs: copies.
        config: arguments, vectorisation and what to hide.

    Raises:
        UserError: the environment is unknown, or cannot be made with these settings.
    """
    config = config or EnvConfig()
    spec = find_spec(env_id)
    hiding = hiding_wrappers(config)
    mode: str = config.vectorization
    if mode == "auto":
        batched = spec.vector_entry_point is not None and not hiding
        mode = "vector_entry_point" if batched else "sync"
    kwargs: dict[str, Any] = config.parsed_env_kwargs()
    if mode != "vector_entry_point":
        kwargs["vector_kwargs"] = {"autoreset_mode": AutoresetMode.SAME_STEP}
        # One counter for all: copies are made in their order.
        kwargs["wrappers"] = [partial(CheckedObservations, copies=count()), *hiding]
    try:
        if mode == "async":
            return make_in_processes(spec, num_envs, **kwargs)
        return gym.make_vec(spec, num_envs, vectorization_mode=mode, **kwargs)
    except (gym.error.Error, ImportError, TypeError, ValueError) as error:
        raise UserError(
            f"Environment {env_id} could not be made with env_kwargs {config.env_kwargs}: {error}"
        ) from error


def longest_episode(env_id: str, config: EnvConfig) -> int | None:
    """The most steps that an episode can last, where the environment tells.

    Raises:
        UserError: the environment is unknown, or cannot be made with these settings.
    """
    spec = find_spec(env_id)
    if spec.vector_entry_point is None:
        return spec.max_episode_steps
    env = make_vector_env(env_id, 1, EnvConfig(config.env_kwargs))  # batched
    try:
        return getattr(env.unwrapped, "max_episode_steps", spec.max_episode_steps)
    finally:
        env.close()


def find_spec(env_id: str) -> gym.envs.registration.EnvSpec:
    """The registered environment of this id.

    Raises:
        UserError: there is none; the message names near matches.
    """
    module, _, name = env_id.rpartition(":")
    if module:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise UserError(
                f"Module {module!r} of {env_id!r} cannot be imported ({error}). Is it on the "
                "Python path?"
            ) from error
    try:
        return gym.spec(name)
    except gym.error.Error:
        near = near_matches(name)
        hint = (
            f" Did you mean {' or '.join(near)}?"
            if near
            else " `recurrent-rl envs` lists ours; gymnasium.pprint_registry() lists all."
        )
        raise UserError(f"Unknown environment {name!r}.{hint}") from None


def near_matches(name: str) -> list[str]:
    """Up to three registered ids like `name`, with or without their namespace."""
    known = {}
    for env_id in gym.registry:
        known[env_id.lower()] = env_id
        known.setdefault(env_id.rpartition("/")[2].lower(), env_id)
    found = difflib.get_close_matches(name.lower(), known, n=6, cutoff=0.6)
    return list(dict.fromkeys(known[key] for key in found))[:3]


def hiding_wrappers(config: EnvConfig) -> list[Wrapper]:
    """The wrappers that hide what `config` asks to hide, in the order in which they apply."""
    wrappers: list[Wrapper] = []
    if config.hide_indices:
        wrappers.append(partial(HideIndices, indices=config.hide_indices))
    if config.observation_noise:
        wrappers.append(partial(ObservationNoise, std=config.observation_noise))
    if config.observation_delay:
        wrappers.append(partial(gym.wrappers.DelayObservation, delay=config.observation_delay))
    if config.flicker:
        wrappers.append(partial(Flicker, probability=config.flicker))
    return wrappers


def known_returns(env: VectorEnv) -> tuple[float | None, float | None]:
    """The return of the best memoryless policy and the best possible one, where they are known.

    They hold for our own environments with nothing more hidden by wrappers.
    """
    base = env.unwrapped
    return getattr(base, "memoryless_return", None), getattr(base, "best_return", None)
