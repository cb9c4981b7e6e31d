"""What is known of a vector environment without a step in it: its longest episode, its returns."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
from gymnasium.vector import SyncVectorEnv, VectorEnv

from recurrent_rl.agents.spaces import component_spaces
from recurrent_rl.vector_env.config import EnvConfig
from recurrent_rl.vector_env.limits import limits_of
from recurrent_rl.vector_env.processes import EnvironmentProcesses
from recurrent_rl.vector_env.sources import Environment, Source, find_source
from recurrent_rl.vector_env.vectorize import BY_WRAPPERS, make_vector_env


def left_out(env: VectorEnv) -> dict[str, str]:
    """The texts that are left out of the observation since they never change, by key."""
    if not isinstance(env, (SyncVectorEnv, EnvironmentProcesses)):
        return {}
    base: Any = env.unwrapped
    try:
        texts: dict[str, str] = base.get_attr("fixed_texts")[0]
    except AttributeError:  # environments that were not made here
        return {}
    return texts


def images_in_stacks(space: gym.Space[Any]) -> Iterator[tuple[str, str, str]]:
    """Components of more axes than an image has: their paths, how each is read, and what to do."""
    for path, component in component_spaces(space).items():
        if isinstance(component, gym.spaces.Box) and len(component.shape) > 3:
            of = f"'s {path!r}" if path else ""
            yield (
                path,
                f"The observation{of} of shape {component.shape} is read as a vector of "
                f"{math.prod(component.shape):,} numbers, without a convolution.",
                "If it is a stack of images, give one image of three axes, with the images' "
                "channels one after the other, as the wrapper frame-stack:4 does "
                '(EnvConfig(wrappers=("frame-stack:4",)), --wrapper frame-stack:4).',
            )


def longest_episode(env_id: Environment | Source, config: EnvConfig) -> int | None:
    """The most steps that an episode can last, where the environment says so.

    An environment is made for the question, unless its registration says it: with a time limit,
    where it is made without arguments.

    Raises:
        UserError: the environment is unknown, or cannot be made with these settings.
    """
    source = env_id if isinstance(env_id, Source) else find_source(env_id, "env_id")
    changed = config.env_kwargs or config.wrappers or source.many is not None
    if source.spec is not None and source.spec.max_episode_steps is not None and not changed:
        return source.spec.max_episode_steps
    config = EnvConfig(config.env_kwargs, observe=config.observe, wrappers=config.wrappers)
    env = make_vector_env(source, source.count or 1, config)
    try:
        return limits_of(env).longest
    finally:
        source.close(env)


def known_returns(env: VectorEnv) -> tuple[float | None, float | None]:
    """The return of the best memoryless policy and the best possible one, where they are known.

    They hold for our own environments with nothing more hidden by wrappers.
    """
    base = env.unwrapped
    return getattr(base, "memoryless_return", None), getattr(base, "best_return", None)


def stated_returns(env_id: str, config: EnvConfig) -> tuple[float | None, float | None]:
    """`known_returns` of an environment that is made for the question alone.

    Nothing is imported for it: `module:EnvId` has known returns only once it is registered.
    """
    name = env_id.rpartition(":")[2]
    if name not in gym.registry or gym.registry[name].vector_entry_point is None:
        return None, None  # environments stepped one by one state nothing
    if any(getattr(config, setting) for setting in BY_WRAPPERS):
        return None, None  # another task
    env = make_vector_env(name, 1, config)
    try:
        return known_returns(env)
    finally:
        env.close()
