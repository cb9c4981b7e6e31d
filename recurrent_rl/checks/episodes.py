"""Episodes of one environment, played with random actions and looked at step by step."""

from __future__ import annotations

import copy
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from recurrent_rl.agents.action_masks import ActionMaskError, allows_nothing, flat_mask
from recurrent_rl.agents.raising import own_frames
from recurrent_rl.agents.spaces import ObservationError, stack_observations
from recurrent_rl.checks.finding import FaultyEnvironmentError, Report
from recurrent_rl.checks.results import (
    CONTAINED,
    RESET,
    allowed_action,
    check_end,
    check_observations,
    check_reward,
    same,
)
from recurrent_rl.vector_env.checked_env import in_a_word, unfit_reset, wrong_result
from recurrent_rl.vector_env.infos import RENAME_SUCCESS, SUCCESS, UNREAD_SUCCESS

MASKS = "Give info['action_mask'] from reset() and every step(): true for what is allowed now."


@dataclass
class Played:
    """An episode, or the beginning of one: as many actions as steps."""

    seed: int | None
    actions: list[Any] = field(default_factory=list)
    observations: list[Any] = field(default_factory=list)
    """Copies: the first, and one more a step."""
    results: list[Any] = field(default_factory=list)
    """Of each step the reward, its two ends, and the action mask."""
    terminated: bool = False
    truncated: bool = False
    reset_itself: bool = False
    """Whether the step that ended it called `reset`."""

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.terminated or self.truncated

    def differs(self, other: Played, tolerance: float = 0.0) -> int | None:
        """The first step at which they differ, 0 for the reset; None where they do not."""
        for t, (a, b) in enumerate(zip(self.observations, other.observations, strict=False)):
            if not same(a, b, tolerance):
                return t
            if t < min(len(self.results), len(other.results)) and not same(
                self.results[t], other.results[t], tolerance
            ):
                return t + 1
        shortest = min(len(self.observations), len(other.observations))
        return None if len(self.observations) == len(other.observations) else shortest


CANNOT_GO_ON = "The environment cannot be played further."


class Player:
    """Plays episodes of an environment, and reports what is wrong with what it returns.

    Args:
        env: one environment.
        report: takes the findings.
    """

    def __init__(self, env: gym.Env[Any, Any], report: Report) -> None:
        self.env = env
        self.report = report
        self.masked = 0
        """Observations that came with a mask, of those that an action follows."""
        self.unmasked = ""
        """Where the first of them came without."""
        self._kept: tuple[Any, Any] | None = None

    def play(self, seed: int | None, steps: int, actions: Sequence[Any] | None = None) -> Played:
        """Play an episode to its end, or for so many steps.

        Args:
            seed: of the reset and of the random actions.
            steps: at most.
            actions: to take; random ones by default.

        Raises:
            FaultyEnvironmentError: it raised an error, or returned what cannot be gone on with; the
                report says which.
        """
        played = Played(seed)
        draw = np.random.default_rng(seed)
        self.env.action_space.seed(seed)
        where = f"After reset(seed={seed})"
        result = self._call("reset", where, seed=seed)
        mask = self._take(played, result[0], result[1], where)
        for t in range(steps if actions is None else min(steps, len(actions))):
            self._count_mask(mask, where)
            if actions is None:
                action = allowed_action(self.env.action_space, mask, draw)
            else:
                action = actions[t]
            where = f"At step {t + 1} after reset(seed={seed})"
            with _resets_of(self.env) as resets:
                observation, reward, terminated, truncated, info = self._call("step", where, action)
            check_reward(reward, where, self.report)
            played.terminated = check_end("terminated", terminated, where, self.report)
            played.truncated = check_end("truncated", truncated, where, self.report)
            mask = self._take(played, observation, info, where)
            played.actions.append(action)
            told = None if mask is None else mask.tolist()
            played.results.append((reward, played.terminated, played.truncated, told))
            if played.over:
                played.reset_itself = bool(resets)
                break
        return played

    def _call(self, method: str, where: str, *arguments: Any, **options: Any) -> Any:
        try:
            result = getattr(self.env, method)(*arguments, **options)
        except Exception as error:
            frame = (own_frames(error) or traceback.extract_tb(error.__traceback__))[-1]
            took = f" with action {arguments[0]!r}" if arguments else ""
            self.report.fault(
                "raises",
                f"{where}: {method}(){took} raised {type(error).__name__}: {error} (line "
                f"{frame.lineno} of {frame.filename}).",
                "Mend it; every action of the action space must be taken, or be forbidden by "
                "info['action_mask'].",
            )
            raise FaultyEnvironmentError(CANNOT_GO_ON) from error
        if wrong := wrong_result(method, result):
            self.report.fault("result", f"{where}: {wrong}.", "Return a tuple of just these.")
            raise FaultyEnvironmentError(CANNOT_GO_ON)
        return result

    def _take(
        self, played: Played, observation: Any, info: Any, where: str
    ) -> NDArray[np.bool_] | None:
        """Note what came, and tell its mask."""
        if self._kept is not None and not same(*self._kept):
            self.report.fault(
                "buffers",
                f"{where}: the observation that was returned before it has changed since: the "
                "environment writes into the array that it has handed out.",
                "Return a new array each time, for example self.buffer.copy().",
            )
        self._kept = observation, copy.deepcopy(observation)
        played.observations.append(self._kept[1])
        try:
            batch = stack_observations(self.env.observation_space, [observation])
        except (ObservationError, LookupError, TypeError) as error:
            self.report.fault("observation", f"{where}: {error}", CONTAINED)
        else:
            check_observations(self.env.observation_space, batch, where, self.report)
        if not isinstance(info, Mapping):
            self.report.fault(
                "info", f"{where}: the info is {in_a_word(info)}.", "Return a dictionary."
            )
            return None
        if UNREAD_SUCCESS in info and SUCCESS not in info:
            self.report.note(
                "success",
                f"{where}: the info has 'success', which is not read.",
                RENAME_SUCCESS,
            )
        return self._mask(info, where)

    def _mask(self, info: Mapping[str, Any], where: str) -> NDArray[np.bool_] | None:
        if "action_mask" not in info:
            return None
        space = self.env.action_space
        try:
            mask = flat_mask(space, info["action_mask"])
        except ActionMaskError as error:
            self.report.fault("mask", f"{where}: {error}", MASKS)
            return None
        if allows_nothing(space, mask[None])[0]:
            self.report.fault(
                "mask",
                f"{where}: the action mask forbids every action, or every one of a component: "
                f"{mask.astype(int).tolist()}.",
                "Allow at least one action of each component.",
            )
            return None
        return mask

    def _count_mask(self, mask: NDArray[np.bool_] | None, where: str) -> None:
        self.masked += mask is not None
        self.unmasked = self.unmasked or (where if mask is None else "")
        if self.masked and self.unmasked:
            self.report.fault(
                "mask",
                f"{self.unmasked} there is no info['action_mask'], which there is at other steps: "
                "every action counts as allowed there.",
                MASKS,
            )


def check_reset(env: gym.Env[Any, Any], report: Report) -> bool:
    """Whether `reset` takes a seed and options."""
    if error := unfit_reset(env):
        report.fault("reset", f"reset() cannot be called with seed and options: {error}.", RESET)
    return error is None


@contextmanager
def _resets_of(env: gym.Env[Any, Any]) -> Iterator[list[None]]:
    """A list that grows by one with each call of the environment's own `reset` meanwhile."""
    base, calls = env.unwrapped, list[None]()
    original = base.reset

    def counted(*arguments: Any, **options: Any) -> Any:
        calls.append(None)
        return original(*arguments, **options)

    own = "reset" in getattr(base, "__dict__", {})
    with suppress(AttributeError):  # a class with slots takes none
        setattr(base, "reset", counted)  # noqa: B010 (no method of the class is meant)
    try:
        yield calls
    finally:
        with suppress(AttributeError):
            if own:
                setattr(base, "reset", original)  # noqa: B010
            else:
                delattr(base, "reset")
