"""From an environment's source and settings to a vector environment ready for a rollout."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import NoneType
from typing import Any

import gymnasium as gym
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from recurrent_rl.agents.arguments import argument, check_is
from recurrent_rl.agents.raising import place
from recurrent_rl.agents.settings import shown
from recurrent_rl.envs.wrappers import Flicker, ObservationNoise
from recurrent_rl.errors import UserError
from recurrent_rl.fields import Size
from recurrent_rl.vector_env.checked_env import CheckedEnv, LentEnv, with_masks_in_infos
from recurrent_rl.vector_env.config import EnvConfig
from recurrent_rl.vector_env.processes import make_in_processes
from recurrent_rl.vector_env.sources import Environment, Source, find_source, what_to_install
from recurrent_rl.vector_env.wrapping import (
    OwnObservations,
    observing,
    refuse_normalising,
    without_fixed_texts,
    wrapped,
)

Wrapper = Callable[[gym.Env[Any, Any]], gym.Env[Any, Any]]


def make_vector_env(
    env: Environment | Source,
    num_envs: int,
    env_config: EnvConfig | None = None,
) -> VectorEnv:
    """Make a vector environment of `num_envs` environments.

    The environment's own vector entry point is taken where it has one, else SyncVectorEnv.
    Options that hide information, and other wrappers, go around each environment, and so need
    SyncVectorEnv or, where `vectorization` says so, AsyncVectorEnv.

    Args:
        env: a Gymnasium id, `module:name`, a class or function that makes an environment, or an
            environment, as for `train`.
        num_envs: number of environments.
        env_config: arguments, vectorisation, wrappers and what to hide; `hide_indices` are left in,
            for the policy hides these entries itself.

    Raises:
        UserError: the environment is unknown, or cannot be made with these settings.
        SettingError: an argument is of another type.
    """
    source = env if isinstance(env, Source) else find_source(env)
    num_envs = argument("num_envs", num_envs, Size)
    check_is("env_config", env_config, (EnvConfig, NoneType), "an EnvConfig, or None")
    config = env_config or EnvConfig()
    wrapped_by = [name for name in BY_WRAPPERS if getattr(config, name)]
    _check_settings(source, num_envs, config, wrapped_by)
    try:
        if source.many is not None and config.vectorization == "auto" and not wrapped_by:
            made = source.many(num_envs, config.env_kwargs)
            _check_spaces(made, source.name, "single_")
            refuse_normalising(made, source.name)
        else:
            made = _side_by_side(source, num_envs, config)
        return _telling(made, config.info_metrics)
    except UserError:
        raise
    except (gym.error.Error, ImportError, TypeError, ValueError) as error:
        raise UserError(
            what_to_install(source, error)
            or f"Environment {source.name} could not be made with env_kwargs {config.env_kwargs}: "
            f"{error}{place(error)}"
        ) from error


def _telling(env: VectorEnv, info_metrics: tuple[str, ...]) -> VectorEnv:
    """The environment, which says which numbers of its infos are to be read."""
    base: Any = env.unwrapped
    if info_metrics or not hasattr(base, "info_metrics"):  # one that is given may have its own
        base.info_metrics = info_metrics
    return env


BY_WRAPPERS = (
    "observe",
    "wrappers",
    "observation_noise",
    "observation_delay",
    "flicker",
)
"""The settings that are wrappers of single environments."""


def _check_settings(
    source: Source, num_envs: int, config: EnvConfig, wrapped_by: Sequence[str]
) -> None:
    """Refuse settings that cannot be of what the environments are made of.

    Raises:
        UserError: names the setting, and what to do instead.
    """
    if source.count not in (None, num_envs):
        raise UserError(
            f"num_envs is {num_envs}, but {source.name} is {_count(source.count)}. Leave num_envs "
            "out, or give the class or a function that makes the environments."
        )
    if source.given is not None and config.env_kwargs:
        raise UserError(
            f"env_kwargs are {config.env_kwargs}, but {source.name} is made already. Give the "
            "class or function that makes it, which takes them."
        )
    if source.one is None and wrapped_by:
        raise UserError(
            f"{' and '.join(wrapped_by)} cannot be: wrappers go around single environments, and "
            f"{source.name} steps its own together. Hide there what is to be hidden, or give the "
            "class or a function that makes one environment."
        )
    if source.one is None and config.vectorization != "auto":
        raise UserError(
            f"vectorization is {config.vectorization!r}, but {source.name} steps its environments "
            "itself. Leave vectorization at auto."
        )
    if source.given is not None and config.vectorization == "async":
        raise UserError(
            f"vectorization is 'async', but {source.name} is an environment of this process. Leave "
            "vectorization at auto, or give the class or function that makes it."
        )


def _count(count: int | None) -> str:
    return "one environment" if count == 1 else f"{count} environments"


def _check_spaces(env: gym.Env[Any, Any] | VectorEnv, name: str, prefix: str = "") -> None:
    """Refuse an environment without spaces.

    Raises:
        UserError: names the one that is missing.
    """
    for attribute in (f"{prefix}observation_space", f"{prefix}action_space"):
        space = getattr(env, attribute, None)
        if not isinstance(space, gym.Space):
            raise UserError(
                f"The {attribute} of {name} is {shown(space)}; it must be a gymnasium.Space. Set "
                f"self.{attribute} in its constructor."
            )


_DIFFERENT_SPACES = ("AsyncVectorEnv(", "Some environments", "Sub-environment", "SyncVectorEnv(")
"""How Gymnasium's errors begin where the spaces of environments differ."""


@contextmanager
def _telling_of_other_spaces(name: str) -> Iterator[None]:
    """Turn Gymnasium's refusal of environments whose spaces differ into ours."""
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith(_DIFFERENT_SPACES):  # an environment's own
            raise
        raise UserError(
            f"The environments of {name} differ in their spaces, and all must have the same: "
            f"{str(error).rstrip('.')}. Make each with the same sizes and bounds."
        ) from error


def _side_by_side(source: Source, num_envs: int, config: EnvConfig) -> VectorEnv:
    """Single environments, each made for itself, in turn or in processes."""
    makers = [partial(_make_environment, source, config, i) for i in range(num_envs)]
    env: VectorEnv
    with _telling_of_other_spaces(source.name):
        if config.vectorization == "async":
            env = make_in_processes(source.name, makers)
        else:
            env = SyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP)
    if isinstance(env, SyncVectorEnv) and len({id(one.unwrapped) for one in env.envs}) < num_envs:
        raise UserError(
            f"{source.name} returned the same environment twice; it must return a new one at each "
            "call. To train on that one alone, give it as env=..., or set num_envs to 1."
        )
    if (spec := source.spec) is not None:
        env.unwrapped.spec = copy.deepcopy(spec)
        if spec.max_episode_steps is not None:  # of which `make` takes another
            limit = config.env_kwargs.get("max_episode_steps", spec.max_episode_steps)
            env.unwrapped.spec.max_episode_steps = limit
    return env


def _make_environment(source: Source, config: EnvConfig, number: int) -> gym.Env[Any, Any]:
    """One environment with all its wrappers.

    Those that are requested by name are inside of what checks it, those that hide information
    outside.
    """
    assert source.one is not None
    env = source.one(config.env_kwargs)
    try:
        _check_spaces(env, source.name)
        if config.observe:
            env = observing(env, config.observe)
        for name in config.wrappers:
            env = wrapped(env, name)
        refuse_normalising(env, source.name)
        env = with_masks_in_infos(without_fixed_texts(env))
        kind = CheckedEnv if source.given is None else LentEnv
        env = kind(env, number, source.name, config.info_metrics)
        _check_delay(config.observation_delay, env, source.name)
        for wrapper in hiding_wrappers(config):
            env = wrapper(env)
    except BaseException:
        if source.given is None:
            env.close()
        raise
    return env


def _check_delay(delay: int, env: CheckedEnv, name: str) -> None:
    """Refuse a delay after which nothing is seen before the episode ends.

    Raises:
        UserError: names the longest that can be.
    """
    longest = env.limits.longest
    if longest is not None and delay >= longest > 0:
        raise UserError(
            f"observation_delay is {delay}, but an episode of {name} has at most {longest} steps: "
            f"the agent would see zeros alone. Use at most {longest - 1}."
        )


def hiding_wrappers(config: EnvConfig) -> list[Wrapper]:
    """The wrappers that hide what `config` says to hide, in the order in which they apply.

    `hide_indices` are hidden by the policy itself.
    """
    wrappers: list[Wrapper] = []
    if config.observation_noise:
        wrappers.append(partial(ObservationNoise, std=config.observation_noise))
    if config.observation_delay:
        wrappers.append(OwnObservations)  # which are kept for so long
        wrappers.append(partial(gym.wrappers.DelayObservation, delay=config.observation_delay))
    if config.flicker:
        wrappers.append(partial(Flicker, probability=config.flicker))
    return wrappers
