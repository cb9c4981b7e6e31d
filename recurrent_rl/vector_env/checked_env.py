"""One environment whose results are checked and typed before those of all are put together."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from recurrent_rl.agents.action_masks import ActionMaskError, flat_mask
from recurrent_rl.agents.settings import shown
from recurrent_rl.agents.spaces import (
    ObservationError,
    array_of_numbers,
    component_arrays,
    rows_of,
    stack_observations,
)
from recurrent_rl.errors import UserError
from recurrent_rl.vector_env.infos import MEND, NO_METRIC, UNREAD_SUCCESS, recorded_episode
from recurrent_rl.vector_env.limits import limits_of
from recurrent_rl.vector_env.wrapping import fixed_texts


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
        self.limits = limits_of(env)
        self.fixed_texts = fixed_texts(env)
        self.steps = 0
        if error := unfit_reset(env):
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
            self._check_time_limit(ends[0], ends[1], info)
        read = self._read(info) | self._metrics(info)
        if any(ends) and UNREAD_SUCCESS in info:
            read.setdefault(UNREAD_SUCCESS, True)  # that it is there
        return observation, self._number("reward", reward), *ends, read

    def has_wrapper_attr(self, name: str) -> bool:
        """Whether what is checked has this attribute; those of this wrapper do not count."""
        return self.env.has_wrapper_attr(name)

    def set_wrapper_attr(self, name: str, value: Any, *, force: bool = True) -> bool:
        """Set an attribute of what is checked; those of this wrapper stay as they are."""
        return self.env.set_wrapper_attr(name, value, force=force)

    def _check_time_limit(self, terminated: bool, truncated: bool, info: Any) -> None:
        """Refuse a time limit told as in gym, and so learnt from as an end after which is nothing.

        Raises:
            UserError: an episode terminated, and its info says that a time limit cut it.
        """
        told = info.get("TimeLimit.truncated") if isinstance(info, Mapping) else None
        if terminated and not truncated and isinstance(told, (bool, np.bool_)) and told:
            raise self._fault(
                "terminated is true, and the info says TimeLimit.truncated: a time limit",
                "Return terminated=False and truncated=True there.",
            )

    def _number(self, name: str, x: Any, allowed: tuple[int, ...] = (), fix: str = MEND) -> float:
        # As quick as can be.
        if type(x) in (float, bool, np.float64, np.bool_) and (not allowed or x in allowed):
            return float(x)
        array = array_of_numbers(x)
        if array is not None and array.size == 1:
            number = float(array.reshape(()))
            if not allowed or number in allowed:
                return number
        expected = "true or false" if allowed else "a number"
        raise self._fault(f"{name} is {shown(x)}; expected {expected}", fix)

    def _read(self, info: Any) -> dict[str, Any]:
        """What is read of an info: the mask as an array, the success as a number.

        The rest is left out, so that its shapes and types may differ between environments.
        """
        if not isinstance(info, Mapping):
            raise self._fault(f"the info is {in_a_word(info)}; expected a dictionary")
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
            key: self._number(key, info[key], fix=NO_METRIC)
            for key in self.info_metrics
            if info.get(key) is not None
        }
        if (recorded := recorded_episode(info)) is not None:
            found["episode"] = recorded
        return found

    def _checked(self, observation: Any) -> Any:
        space = self.observation_space
        if _is_as_declared(space, observation):
            return observation  # the common case, as quick as can be
        try:
            stacked = stack_observations(space, [observation])
            component_arrays(space, stacked)
        except (ObservationError, KeyError, IndexError, TypeError, RuntimeError) as error:
            raise self._fault(f"its observation space {space} does not allow this: {error}") from (
                error
            )
        return rows_of(stacked, 0)  # arrays, whatever came

    def _fault(self, what: str, fix: str = MEND) -> UserError:
        """The error that says what came, and where."""
        return UserError(
            f"Environment {self.number} of {self.name} at its step {self.steps}: "
            f"{what.rstrip('.')}. {fix}"
        )


def _is_as_declared(space: gym.Space[Any], observation: Any) -> bool:
    """Whether an observation is just what its space declares; where not, it may still be usable."""
    if isinstance(space, gym.spaces.Dict):
        return (
            type(observation) is dict
            and observation.keys() == space.spaces.keys()
            and all(_is_as_declared(x, observation[key]) for key, x in space.spaces.items())
        )
    if isinstance(space, gym.spaces.Discrete):
        return type(observation) in (int, np.int64) and 0 <= observation - space.start < space.n
    if not isinstance(observation, np.ndarray) or observation.dtype != space.dtype:
        return False
    if isinstance(space, gym.spaces.Box):
        return bool(observation.shape == space.shape)
    several = (gym.spaces.MultiBinary, gym.spaces.MultiDiscrete)
    return isinstance(space, several) and bool(space.contains(observation))


class MasksInInfos(gym.Wrapper[Any, Any, Any, Any]):
    """Puts what a method `action_masks` of the environment says into infos that hold no mask.

    Args:
        env: one environment.
        masks: the method, as sb3-contrib's MaskablePPO asks it before each action.
    """

    def __init__(self, env: gym.Env[Any, Any], masks: Callable[[], Any]) -> None:
        super().__init__(env)
        self._masks = masks

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset, and ask."""
        return self._with_mask("reset", self.env.reset(seed=seed, options=options))  # type: ignore[no-any-return]

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step, and ask where an action follows."""
        result = self.env.step(action)
        is_end = wrong_result("step", result) is None and any(map(np.any, result[2:4]))
        return result if is_end else self._with_mask("step", result)

    def _with_mask(self, method: str, result: Any) -> Any:
        if wrong_result(method, result) or not isinstance(result[-1], Mapping):
            return result  # which is refused
        if result[-1].get("action_mask") is not None:
            return result
        return (*result[:-1], {**result[-1], "action_mask": self._masks()})


def with_masks_in_infos(env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
    """The environment, with `MasksInInfos` where it or a wrapper of it has such a method."""
    masks = env.get_wrapper_attr("action_masks") if env.has_wrapper_attr("action_masks") else None
    return MasksInInfos(env, masks) if callable(masks) else env


class LentEnv(CheckedEnv):
    """An environment that was given: who made it closes it."""

    def close(self) -> None:
        """Leave it open."""


def unfit_reset(env: gym.Env[Any, Any]) -> TypeError | None:
    """Why an environment's `reset` cannot be called with a seed and options; None: it can."""
    try:
        inspect.signature(env.unwrapped.reset).bind(seed=None, options=None)
    except TypeError as error:
        return error
    return None


_RETURNED = {
    "reset": ("observation", "info"),
    "step": ("observation", "reward", "terminated", "truncated", "info"),
}


def wrong_result(method: str, result: Any) -> str | None:
    """What `reset` or `step` returned, where it is no tuple of what they return; else None."""
    expected = _RETURNED[method]
    if isinstance(result, tuple) and len(result) == len(expected):
        return None
    return f"{method}() returned {in_a_word(result)}; expected ({', '.join(expected)})"


def in_a_word(result: Any) -> str:
    """What an environment returned, in a word, for messages."""
    if isinstance(result, tuple):
        return f"a tuple of {len(result)}"
    return f"a {type(result).__name__}"
