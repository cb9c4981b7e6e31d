"""From an environment's source and settings to a vector environment ready for a rollout."""

from __future__ import annotations

import copy
import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import NoneType
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from recurrent_rl.agents.action_masks import ActionMaskError, flat_mask
from recurrent_rl.agents.arguments import argument, check_is
from recurrent_rl.agents.settings import shown
from recurrent_rl.agents.spaces import (
    ObservationError,
    as_array,
    component_arrays,
    stack_observations,
)
from recurrent_rl.config import EnvConfig, Size
from recurrent_rl.environment_processes import EnvironmentProcesses, make_in_processes
from recurrent_rl.envs.wrappers import Flicker, HideIndices, ObservationNoise
from recurrent_rl.errors import UserError
from recurrent_rl.infos import recorded_episode
from recurrent_rl.sources import Environment, Source, find_source, what_to_install
from recurrent_rl.wrapping import fixed_texts, observing, without_fixed_texts, wrapped


class CheckedEnv(gym.Wrapper[Any, Any, Any, Any]):
    """One environment whose results are checked and typed before those of all are put together.

    Without it a wrong shape would be found where nobody knows whose it is, and a wrong type not at
    all. An episode's last observation is copied: some environments write the next one over it.

    Args:
        env: one environment.
        number: of the environment, for messages.
        name: of what it is made of, for messages.
        info_metrics: keys of infos whose numbers are read.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        number: int,
        name: str = "the environment",
        info_metrics: Sequence[str] = (),
    ) -> None:
        super().__init__(env)
        self.number = number
        self.name = env.spec.id if env.spec else name
        self.info_metrics = info_metrics
        # What is checked against: an environment may set others later.
        self.observation_space = env.observation_space
        self.action_space = env.action_space
        self.longest_episode = _longest(env)
        self.fixed_texts = fixed_texts(env)
        self.steps = 0
        try:
            inspect.signature(env.unwrapped.reset).bind(seed=None, options=None)
        except TypeError as error:
            raise self._fault(
                f"reset() cannot be called with seed and options ({error}); define it as "
                "reset(self, *, seed=None, options=None)"
            ) from error

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset, and check."""
        result = self.env.reset(seed=seed, options=options)
        if wrong := wrong_result("reset", result):
            raise self._fault(wrong)
        observation, info = result
        return self._checked(observation), self._read(info)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step, and check."""
        self.steps += 1
        result: Any = self.env.step(action)
        if wrong := wrong_result("step", result):
            raise self._fault(wrong)
        observation, reward, terminated, truncated, info = result
        observation = self._checked(observation)
        ends = [
            bool(self._number(name, x, (0, 1)))
            for name, x in (("terminated", terminated), ("truncated", truncated))
        ]
        if any(ends):
            observation = copy.deepcopy(observation)
        read = self._read(info) | self._metrics(info)
        return observation, self._number("reward", reward), *ends, read

    def _number(self, name: str, x: Any, allowed: tuple[int, ...] = ()) -> float:
        if type(x) in (float, bool, np.float64, np.bool_):  # as quick as can be
            return float(x)
        array = as_array(x)
        if array.dtype.kind in "biuf" and array.size == 1:
            number = float(array.reshape(()))
            if not allowed or number in allowed:
                return number
        expected = "true or false" if allowed else "a number"
        raise self._fault(f"{name} is {x!r}; expected {expected}")

    def _read(self, info: Any) -> dict[str, Any]:
        """What is read of an info: the mask as an array, the success as a number.

        The rest is left out, so that its shapes and types may differ between environments.
        """
        if not isinstance(info, Mapping):
            raise self._fault(f"the info is {shape_of(info)}; expected a dictionary")
        read: dict[str, Any] = {}
        if info.get("action_mask") is not None:
            try:
                read["action_mask"] = flat_mask(self.action_space, info["action_mask"])
            except ActionMaskError as error:
                raise self._fault(str(error)) from error
        if info.get("is_success") is not None:
            read["is_success"] = self._number("is_success", info["is_success"], (0, 1))
        return read

    def _metrics(self, info: Mapping[str, Any]) -> dict[str, Any]:
        """The numbers to log, and what RecordEpisodeStatistics says of an episode."""
        found: dict[str, Any] = {
            key: self._number(key, info[key])
            for key in self.info_metrics
            if info.get(key) is not None
        }
        if (recorded := recorded_episode(info)) is not None:
            found["episode"] = recorded
        return found

    def _checked(self, observation: Any) -> Any:
        space = self.observation_space
        if (
            isinstance(space, gym.spaces.Box)
            and isinstance(observation, np.ndarray)
            and observation.dtype == space.dtype
            and observation.shape == space.shape
        ):
            return observation  # the common case, as quick as can be
        try:
            component_arrays(space, stack_observations(space, [observation]))
        except (ObservationError, KeyError, IndexError, TypeError) as error:
            raise self._fault(f"its observation space {space} does not allow this: {error}") from (
                error
            )
        return observation

    def _fault(self, what: str) -> UserError:
        """The error that says what came, and where."""
        return UserError(
            f"Environment {self.number} of {self.name} at its step {self.steps}: "
            f"{what.rstrip('.')}. Mend the environment."
        )


class LentEnv(CheckedEnv):
    """An environment that was given: who made it closes it."""

    def close(self) -> None:
        """Leave it open."""


Wrapper = Callable[[gym.Env[Any, Any]], gym.Env[Any, Any]]


def make_vector_env(
    env_id: Environment | Source,
    num_envs: int,
    config: EnvConfig | None = None,
    *,
    hide_by_wrapper: bool = False,
) -> VectorEnv:
    """Make a vector environment of `num_envs` environments.

    The environment's own vector entry point is taken where it has one, else SyncVectorEnv.
    Options that hide information, and other wrappers, go around each environment, and so need
    SyncVectorEnv or, where `vectorization` says so, AsyncVectorEnv.

    Args:
        env_id: a Gymnasium id, `module:name`, a class or function that makes an environment, or an
            environment, as for `train`.
        num_envs: number of environments.
        config: arguments, vectorisation, wrappers and what to hide.
        hide_by_wrapper: leave out the entries of `hide_indices`, for a policy in a file of format
            1. Other policies hide these entries themselves, and take raw observations.

    Raises:
        UserError: the environment is unknown, or cannot be made with these settings.
        SettingError: an argument is of another type.
    """
    source = env_id if isinstance(env_id, Source) else find_source(env_id, "env_id")
    num_envs = argument("num_envs", num_envs, Size)
    check_is("config", config, (EnvConfig, NoneType), "an EnvConfig, or None")
    hide_by_wrapper = argument("hide_by_wrapper", hide_by_wrapper, bool)
    config = config or EnvConfig()
    if not hide_by_wrapper:
        config = dataclasses.replace(config, hide_indices=())
    wrapped_by = [name for name in _BY_WRAPPERS if getattr(config, name)]
    _check_settings(source, num_envs, config, wrapped_by)
    try:
        if source.many is not None and config.vectorization == "auto" and not wrapped_by:
            env = source.many(num_envs, config.env_kwargs)
            _check_spaces(env, source.name, "single_")
        else:
            env = _side_by_side(source, num_envs, config)
        return _telling(env, config.info_metrics)
    except UserError:
        raise
    except (gym.error.Error, ImportError, TypeError, ValueError) as error:
        raise UserError(
            what_to_install(source, error)
            or f"Environment {source.name} could not be made with env_kwargs {config.env_kwargs}: "
            f"{error}"
        ) from error


def _telling(env: VectorEnv, info_metrics: tuple[str, ...]) -> VectorEnv:
    """The environment, which says which numbers of its infos are to be read."""
    base: Any = env.unwrapped
    if info_metrics or not hasattr(base, "info_metrics"):  # one that is given may have its own
        base.info_metrics = info_metrics
    return env


_BY_WRAPPERS = (
    *("observe", "wrappers", "hide_indices"),
    *("observation_noise", "observation_delay", "flicker"),
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
        env = without_fixed_texts(env)
        kind = CheckedEnv if source.given is None else LentEnv
        env = kind(env, number, source.name, config.info_metrics)
        for wrapper in hiding_wrappers(config):
            env = wrapper(env)
    except BaseException:
        if source.given is None:
            env.close()
        raise
    return env


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


def time_limit(env: VectorEnv) -> int | None:
    """The steps after which the environment itself ends an episode; None where it does not tell."""
    base: Any = env.unwrapped
    limits = [getattr(base, "max_episode_steps", None)]
    if (spec := base.spec) is not None:
        limits.append(spec.kwargs.get("max_episode_steps", spec.max_episode_steps))
    if isinstance(base, SyncVectorEnv):
        limits.append(_longest(base.envs[0]))
    elif isinstance(env, EnvironmentProcesses):
        limits.append(base.get_attr("longest_episode")[0])
    return min((int(limit) for limit in limits if limit is not None and limit > 0), default=None)


def _longest(env: gym.Env[Any, Any]) -> int | None:
    """The most steps of an episode by the time limits around an environment, or its own word."""
    limits = [getattr(env.unwrapped, "max_episode_steps", None)]
    while isinstance(env, gym.Wrapper):
        if isinstance(env, gym.wrappers.TimeLimit):
            limits.append(env._max_episode_steps)
        env = env.env
    return min((limit for limit in limits if isinstance(limit, int)), default=None)


def longest_episode(env_id: Environment | Source, config: EnvConfig) -> int | None:
    """The most steps that an episode can last, where the environment says so.

    An environment is made for the question, unless it is registered with a time limit.

    Raises:
        UserError: the environment is unknown, or cannot be made with these settings.
    """
    source = env_id if isinstance(env_id, Source) else find_source(env_id, "env_id")
    if source.spec is not None and source.many is None and not config.wrappers:
        return source.spec.max_episode_steps
    config = EnvConfig(config.env_kwargs, observe=config.observe, wrappers=config.wrappers)
    env = make_vector_env(source, source.count or 1, config)
    try:
        return time_limit(env)
    finally:
        source.close(env)


def hiding_wrappers(config: EnvConfig) -> list[Wrapper]:
    """The wrappers that hide what `config` says to hide, in the order in which they apply.

    Entries of `hide_indices` are among them only for a policy that does not hide them itself.
    """
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


_RETURNED = {
    "reset": ("observation", "info"),
    "step": ("observation", "reward", "terminated", "truncated", "info"),
}


def wrong_result(method: str, result: Any) -> str | None:
    """What `reset` or `step` returned, where it is no tuple of what they return; else None."""
    expected = _RETURNED[method]
    if isinstance(result, tuple) and len(result) == len(expected):
        return None
    return f"{method}() returned {shape_of(result)}; expected ({', '.join(expected)})"


def shape_of(result: Any) -> str:
    """What an environment returned, in a word, for messages."""
    if isinstance(result, tuple):
        return f"a tuple of {len(result)}"
    return f"a {type(result).__name__}"


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
    if any(getattr(config, setting) for setting in _BY_WRAPPERS if setting != "hide_indices"):
        return None, None  # another task
    env = make_vector_env(name, 1, config)
    try:
        return known_returns(env)
    finally:
        env.close()
