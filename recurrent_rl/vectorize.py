"""From an environment's id and settings to a vector environment ready for a rollout."""

from __future__ import annotations

import copy
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import NoneType
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from recurrent_rl.agents.action_masks import ActionMaskError, flat_mask
from recurrent_rl.agents.arguments import argument, check_is
from recurrent_rl.agents.settings import close_matches
from recurrent_rl.agents.spaces import (
    ObservationError,
    as_array,
    component_arrays,
    stack_observations,
)
from recurrent_rl.config import EnvConfig, Size
from recurrent_rl.environment_processes import make_in_processes
from recurrent_rl.envs.wrappers import Flicker, HideIndices, ObservationNoise
from recurrent_rl.errors import UserError
from recurrent_rl.fields import EnvId
from recurrent_rl.infos import recorded_episode


class CheckedEnv(gym.Wrapper[Any, Any, Any, Any]):
    """One environment whose results are checked and typed before those of all are put together.

    Without it a wrong shape would be found where nobody knows whose it is, and a wrong type not at
    all. An episode's last observation is copied: some environments write the next one over it.

    Args:
        env: one environment.
        number: of the environment, for messages.
        info_metrics: keys of infos whose numbers are read.
    """

    def __init__(
        self, env: gym.Env[Any, Any], number: int, info_metrics: Sequence[str] = ()
    ) -> None:
        super().__init__(env)
        self.number = number
        self.info_metrics = info_metrics
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
        if "action_mask" in info:
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
        name = self.env.spec.id if self.env.spec else "the environment"
        return UserError(
            f"Environment {self.number} of {name} at its step {self.steps}: {what.rstrip('.')}. "
            "Mend the environment."
        )


Wrapper = Callable[[gym.Env[Any, Any]], gym.Env[Any, Any]]


def make_vector_env(
    env_id: str,
    num_envs: int,
    config: EnvConfig | None = None,
    *,
    hide_by_wrapper: bool = False,
) -> VectorEnv:
    """Make a vector environment of `num_envs` environments.

    The environment's own vector entry point is taken where it has one, else SyncVectorEnv.
    Options that hide information wrap each environment, and so need SyncVectorEnv or, where
    `vectorization` says so, AsyncVectorEnv.

    Args:
        env_id: a Gymnasium id, or `module:EnvId` to import `module` first.
        num_envs: number of environments.
        config: arguments, vectorisation and what to hide.
        hide_by_wrapper: leave out the entries of `hide_indices`, for a policy in a file of format
            1. Other policies hide these entries themselves, and take raw observations.

    Raises:
        UserError: the environment is unknown, or cannot be made with these settings.
        SettingError: an argument is of another type.
    """
    env_id = argument("env_id", env_id, EnvId)
    num_envs = argument("num_envs", num_envs, Size)
    check_is("config", config, (EnvConfig, NoneType), "an EnvConfig, or None")
    hide_by_wrapper = argument("hide_by_wrapper", hide_by_wrapper, bool)
    config = config or EnvConfig()
    spec = find_spec(env_id)
    hiding = hiding_wrappers(config)
    if hide_by_wrapper and config.hide_indices:
        hiding = [partial(HideIndices, indices=config.hide_indices), *hiding]
    batched = spec.vector_entry_point is not None and not hiding
    kwargs, metrics = config.env_kwargs, config.info_metrics
    env: VectorEnv
    try:
        if config.vectorization == "auto" and batched:
            env = gym.make_vec(spec, num_envs, vectorization_mode="vector_entry_point", **kwargs)
            return _telling(env, metrics)
        makers = [
            partial(_make_environment, spec, kwargs, hiding, metrics, i) for i in range(num_envs)
        ]
        if config.vectorization == "async":
            env = make_in_processes(spec.id, makers)
        else:
            env = SyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP)
        env.unwrapped.spec = copy.deepcopy(spec)
        if spec.max_episode_steps is not None:  # of which `make` takes another
            limit = kwargs.get("max_episode_steps", spec.max_episode_steps)
            env.unwrapped.spec.max_episode_steps = limit
        return _telling(env, metrics)
    except (gym.error.Error, ImportError, TypeError, ValueError) as error:
        raise UserError(
            f"Environment {env_id} could not be made with env_kwargs {config.env_kwargs}: {error}"
        ) from error


def _telling(env: VectorEnv, info_metrics: tuple[str, ...]) -> VectorEnv:
    """The environment, which says which numbers of its infos are to be read."""
    base: Any = env.unwrapped
    base.info_metrics = info_metrics
    return env


def _make_environment(
    spec: gym.envs.registration.EnvSpec,
    kwargs: dict[str, Any],
    wrappers: list[Wrapper],
    info_metrics: Sequence[str],
    number: int,
) -> gym.Env[Any, Any]:
    """One environment, checked, with the wrappers that hide information around it."""
    env: gym.Env[Any, Any] = CheckedEnv(make_alone(spec, kwargs), number, info_metrics)
    for wrapper in wrappers:
        env = wrapper(env)
    return env


def make_alone(spec: gym.envs.registration.EnvSpec, kwargs: dict[str, Any]) -> gym.Env[Any, Any]:
    """One environment as it is registered.

    Gymnasium's `make` keeps an argument called max_episode_steps for its own time limit, and so
    `make_vec` loses one that an environment is registered with: single environments would play
    another task than the batched form. Where there is one, all arguments are the environment's.
    """
    if spec.vector_entry_point is not None and spec.max_episode_steps is None:
        spec = copy.deepcopy(spec)
        spec.kwargs |= kwargs
        kwargs = {}
    return gym.make(spec, disable_env_checker=True, **kwargs)


def longest_episode(env_id: str, config: EnvConfig) -> int | None:
    """The most steps that an episode can last, where the environment says so.

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
        known[env_id] = env_id
        known.setdefault(env_id.rpartition("/")[2], env_id)
    found = close_matches(name, known, most=6, cutoff=0.6)
    return list(dict.fromkeys(known[key] for key in found))[:3]


def hiding_wrappers(config: EnvConfig) -> list[Wrapper]:
    """The wrappers that hide what `config` says to hide, in the order in which they apply.

    Entries of `hide_indices` are no matter of theirs: the policy itself does not read them.
    """
    wrappers: list[Wrapper] = []
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
    env = make_vector_env(name, 1, config)
    try:
        return known_returns(env)
    finally:
        env.close()
