"""The plain values that a setting can hold, each brought to its type or refused by name."""

from __future__ import annotations

import math
from collections.abc import Collection
from numbers import Real
from typing import Any

import numpy as np

from recurrent_rl.agents.settings.refusals import SettingError, nearest, refusal
from recurrent_rl.agents.settings.requirements import Must

LARGEST_INT = 2**63 - 1
"""What NumPy, torch and TensorBoard can hold as a whole number."""

LARGEST_FLOAT = float(np.finfo(np.float32).max)
"""What float32, in which agents compute, can hold."""


def read_bool(name: str, given: Any) -> bool:
    """True or False, NumPy's too."""
    value = _scalar(given)
    if not isinstance(value, bool):
        raise SettingError(refusal(name, given, "True or False"))
    return value


def read_int(name: str, given: Any) -> int:
    """A whole number of 64 bits."""
    value = _scalar(given)
    if not _is_number(value) or value % 1 != 0:
        raise SettingError(refusal(name, given, "a whole number"))
    number = int(value)
    if abs(number) > LARGEST_INT:
        raise SettingError(refusal(name, given, "a whole number below 2**63"))
    return number


def read_float(name: str, given: Any) -> float:
    """A finite number that float32 can hold."""
    value = _scalar(given)
    if _is_number(value):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if abs(number) <= LARGEST_FLOAT:
            return number
    raise SettingError(refusal(name, given, "a finite number that float32 can hold"))


def read_str(name: str, value: Any) -> str:
    """Text that UTF-8 can hold, as a plain `str`."""
    if not isinstance(value, str):
        raise SettingError(refusal(name, value, "text"))
    try:
        value.encode()
    except UnicodeEncodeError:
        raise SettingError(refusal(name, value, "text that UTF-8 can hold")) from None
    return str.__str__(value)


def check_choice(
    name: str, value: Any, choices: Collection[str], beside: Must | None = None
) -> str:
    """The value, where it is one of the choices, or what is allowed beside them.

    Raises:
        SettingError: names the choices, and the nearest.
    """
    if isinstance(value, str) and (value in choices or (beside and beside.holds(value))):
        return read_str(name, value)
    expected = [f"one of {', '.join(choices)}"] if choices else []
    expected += [beside.be] if beside else []
    raise SettingError(refusal(name, value, ", or ".join(expected)) + nearest(value, choices))


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _scalar(value: Any) -> Any:
    """A number of NumPy, or an array or tensor without dimensions, as a number of Python."""
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        try:
            return value.item()
        except RuntimeError:  # a tensor on the meta device
            return value
    return value
