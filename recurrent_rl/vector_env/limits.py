"""How long an episode can be, by all that tells of it."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any, NamedTuple

import gymnasium as gym
from gymnasium.vector import SyncVectorEnv, VectorEnv
from gymnasium.wrappers import TimeLimit

from recurrent_rl.agents.spaces import array_of_numbers
from recurrent_rl.vector_env.processes import EnvironmentProcesses
from recurrent_rl.vector_env.wrapping import layers


class Limits(NamedTuple):
    """The steps after which an episode ends, as they are told; None where nothing tells."""

    registered: int | None = None
    """By the registration or the outermost TimeLimit: what the checks hold episodes to."""
    longest: int | None = None
    """The least of all limits, the environment's own word too: what training and evaluation use."""
    joined: bool = False
    """Whether a wrapper makes one episode of several: a registration tells nothing of it."""


def limits_of(env: gym.Env[Any, Any] | VectorEnv) -> Limits:
    """How long an episode can be; of several environments all are taken to be as the first."""
    if not isinstance(env, VectorEnv):
        return _of_one(env)
    base: Any = env.unwrapped
    first = Limits()
    if isinstance(base, SyncVectorEnv):
        first = _of_one(base.envs[0])
    elif isinstance(env, EnvironmentProcesses):
        first = base.get_attr("limits")[0]
    registered = None
    if (spec := base.spec) is not None and not first.joined:
        registered = _least([spec.kwargs.get("max_episode_steps", spec.max_episode_steps)])
    own = getattr(base, "max_episode_steps", None)
    return Limits(registered, _least([own, registered, first.longest]), first.joined)


def _of_one(env: gym.Env[Any, Any]) -> Limits:
    outer = _outer_layers(env)
    joined = outer[-1] is not env.unwrapped
    of_wrappers = [one._max_episode_steps for one in outer if isinstance(one, TimeLimit)]
    registered = None if joined or env.spec is None else env.spec.max_episode_steps
    if registered is None:
        registered = next(iter(of_wrappers), None)
    own = getattr(outer[-1], "max_episode_steps", None)
    return Limits(registered, _least([own, *of_wrappers]), joined)


def _least(limits: Iterable[Any]) -> int | None:
    """The least of some time limits; None where none of them is a whole number above 0.

    One may be an array of a limit for each environment, if all are the same.
    """
    found = []
    for limit in limits:
        array = None if limit is None else array_of_numbers(limit)
        if array is not None and array.size and (array == array.flat[0]).all():
            number = float(array.flat[0])
            if number.is_integer() and number > 0:
                found.append(int(number))
    return min(found, default=None)


def _outer_layers(env: gym.Env[Any, Any]) -> list[gym.Env[Any, Any]]:
    """The wrappers around an environment and itself, down to one that joins its episodes.

    A wrapper whose `step` calls `reset` goes on where an episode inside of it ends, as a trial of
    several episodes does: limits of time that are further inside are not those of its episodes.
    """
    found = []
    for layer in layers(env):
        found.append(layer)
        code = getattr(inspect.unwrap(type(layer).step), "__code__", None)
        if isinstance(layer, gym.Wrapper) and code is not None and "reset" in code.co_names:
            break
    return found
