"""Settings that change over a run, on straight lines between given values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from recurrent_rl.agents.settings import check_choice, shown
from recurrent_rl.errors import UserError

SCHEDULED = (
    "learning_rate",
    "gamma",
    "gae_lambda",
    "clip_coef",
    "clip_value",
    "ent_coef",
    "vf_coef",
    "aux_coef",
    "max_grad_norm",
    "target_kl",
)
"""The settings that may change from one iteration to the next."""


def at(points: list[float], progress: float) -> float:
    """Where a setting is after this share of the run, from 0 to 1; `points` lie evenly over it."""
    place = progress * (len(points) - 1)
    before = min(int(place), len(points) - 2)
    return points[before] + (points[before + 1] - points[before]) * (place - before)


def check_schedules(
    schedules: Mapping[str, Any], check_value: Callable[[str, float], object]
) -> None:
    """Refuse a schedule of what cannot have one, or through values that the setting cannot have.

    The last value may be 0 for all: the run ends before it is reached.

    Args:
        schedules: by setting, the values it passes through.
        check_value: raises a UserError where a setting cannot have a value.

    Raises:
        UserError: says which.
    """
    for name, points in schedules.items():
        check_choice("schedules", name, SCHEDULED)
        numbers = isinstance(points, list) and all(type(x) in (int, float) for x in points)
        if not numbers or len(points) < 2:
            raise UserError(
                f"schedules.{name} is {shown(points)}; give at least two numbers, such as "
                f'{{"{name}": [0.2, 0.1]}}.'
            )
        for point in points[:-1] if points[-1] == 0 else points:
            try:
                check_value(name, float(point))
            except UserError as error:
                raise UserError(f"In schedules: {error}") from error
