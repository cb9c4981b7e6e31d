"""What an environment is given, checked: its own arguments, and the actions of a step."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray


def check_count(name: str, value: Any, least: int, most: float = math.inf) -> None:
    """Refuse an argument that counts something and is no whole number from `least` to `most`.

    Raises:
        ValueError: names the argument and what it may be.
    """
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not (whole and least <= value <= most):
        allowed = f"at least {least}" if most == math.inf else f"from {least} to {most}"
        raise ValueError(f"{name} is {value!r}; it must be a whole number, {allowed}.")


class ActionCheck:
    """Reads the actions of a step, one for each environment.

    Args:
        batched: the space of all actions together.
        single: of one.
    """

    def __init__(self, batched: gym.Space[Any], single: gym.Space[Any]) -> None:
        self._shape = batched.shape or ()
        self._range = _integer_range(single)

    def read(self, actions: Any) -> NDArray[Any]:
        """The actions as an array, of the right shape; integers in range, or finite numbers.

        Numbers beyond the limits of a Box are left to the environment, as Gymnasium's leave them.

        Raises:
            ValueError: says what came and what was expected.
        """
        read: NDArray[Any] = np.asarray(actions)
        if read.shape != self._shape:
            raise ValueError(
                f"actions have shape {list(read.shape)}; expected {list(self._shape)}."
            )
        if self._range is None:
            if read.dtype.kind not in "fiu" or not np.isfinite(read).all():
                raise ValueError(
                    f"actions must be finite numbers; got type {read.dtype}: {read.tolist()}."
                )
            return read
        low, high = self._range
        if (
            read.dtype.kind not in "iu"
            or np.count_nonzero(read < low)
            or np.count_nonzero(read > high)
        ):
            raise ValueError(
                f"actions must be integers from {low.tolist()} to {high.tolist()}; got type "
                f"{read.dtype} from {read.min(0).tolist()} to {read.max(0).tolist()}."
            )
        return read


def _integer_range(space: gym.Space[Any]) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """The least and the greatest action; None where actions are not integers."""
    if isinstance(space, gym.spaces.Discrete | gym.spaces.MultiDiscrete):
        size = space.n if isinstance(space, gym.spaces.Discrete) else space.nvec
        return np.asarray(space.start), np.asarray(space.start + size - 1)
    if isinstance(space, gym.spaces.MultiBinary):
        return np.asarray(0), np.asarray(1)
    return None
