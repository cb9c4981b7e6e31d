"""What is read of infos: success, the numbers to log, and what RecordEpisodeStatistics tells.

Those of a vector environment are arrays by key, with Gymnasium's `_key` saying in which
environments there is a value; or, as its `final_info` may be, a list of the info of each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurrent_rl.agents.settings import shown
from recurrent_rl.agents.spaces import FLOAT32_MAX, as_array
from recurrent_rl.errors import UserError

SUCCESS = "is_success"
"""The key that says whether an episode reached its goal."""

UNREAD_SUCCESS = "success"
"""The key of other libraries for it."""
RENAME_SUCCESS = (
    "Call it 'is_success', and tables have a success rate; or log it by "
    'EnvConfig(info_metrics=("success",)) (--info-metrics success).'
)

MEND = "Mend the environment."
NO_METRIC = "Report one number under this key, or leave it out of info_metrics."

Parts = Sequence[tuple[Any, NDArray[np.bool_]]]
"""Infos, each with the environments, bool `[B]`, of whose last step they tell."""


def recorded_episode(info: Mapping[str, Any]) -> dict[str, float] | None:
    """Return and length, `r` and `l`, where RecordEpisodeStatistics has told of them; else None.

    Args:
        info: of one environment.
    """
    told = info.get("episode")
    if not (isinstance(told, Mapping) and {"r", "l"} <= told.keys()):
        return None
    arrays = {key: as_array(told[key]) for key in ("r", "l")}
    if any(x.dtype.kind not in "iuf" or x.size != 1 for x in arrays.values()):
        return None
    return {key: float(x.reshape(())) for key, x in arrays.items()}


def reported(parts: Parts, keys: Sequence[str], count: int) -> dict[str, NDArray[np.float64]]:
    """What infos say, by key, where they say anything: `[B]`, NaN where nothing is reported.

    Args:
        parts: infos, each with its environments.
        keys: to read.
        count: number of environments, `B`.

    Raises:
        UserError: a value is no finite float32 number, or for `SUCCESS` neither true nor false.
    """
    found = {}
    for key in keys:
        if all(isinstance(infos, Mapping) and key not in infos for infos, _ in parts):
            continue
        numbers = np.full(count, np.nan)
        for infos, rows in parts:
            _take(key, numbers, infos, rows)
        if not np.isnan(numbers).all():
            found[key] = numbers
    return found


def _take(key: str, numbers: NDArray[np.float64], infos: Any, rows: NDArray[np.bool_]) -> None:
    """Fill in what these infos say of these environments under a key."""
    if isinstance(infos, Mapping):
        if key not in infos:
            return
        values = infos[key]
        rows = rows & np.asarray(infos.get(f"_{key}", rows), dtype=bool)
    else:  # the info of each environment, or None
        values = [info.get(key) if info else None for info in infos]
    if isinstance(values, np.ndarray) and values.dtype.kind in "biuf" and values.ndim == 1:
        if len(values) != len(numbers):
            raise _no_column(key, values, len(numbers))
        numbers[rows] = values[rows]
        if (wrong := rows & ~_may_stand_under(key, numbers)).any():
            i = int(np.flatnonzero(wrong)[0])
            raise _no_number(key, values[i].item(), i)
        return
    for i in np.flatnonzero(rows).tolist():
        try:
            value = values[i]
        except (LookupError, TypeError) as error:
            raise _no_column(key, values, len(numbers)) from error
        if value is None:
            continue
        array = as_array(value)
        if array.dtype.kind not in "biuf" or array.size != 1:
            raise _no_number(key, value, i)
        numbers[i] = array.item()
        if not _may_stand_under(key, numbers[i]):
            raise _no_number(key, value, i)


def _may_stand_under(key: str, numbers: Any) -> NDArray[np.bool_]:
    """Which numbers may stand under this key; NaN compares as false."""
    return np.isin(numbers, (0, 1)) if key == SUCCESS else np.abs(numbers) <= FLOAT32_MAX


def _no_number(key: str, value: Any, i: int) -> UserError:
    expected, fix = "a finite float32 number", NO_METRIC
    if key == SUCCESS:
        expected, fix = "true or false", MEND
    return UserError(f"{key} {shown(value)} in environment {i}; expected {expected}. {fix}")


def _no_column(key: str, values: Any, count: int) -> UserError:
    return UserError(
        f"infos[{key!r}] that is a {type(values).__name__}; expected one value of each of {count} "
        f"environments. {MEND}"
    )


def recorded(parts: Parts, count: int) -> NDArray[np.float64] | None:
    """Return and length of episodes that ended, as RecordEpisodeStatistics tells them.

    Args:
        parts: infos, each with the environments of whose ends they may tell.
        count: number of environments, `B`.

    Returns:
        `[2, B]`, NaN where nothing is told; None where that is everywhere.
    """
    found = np.full((2, count), np.nan)
    for infos, rows in parts:
        if not isinstance(infos, Mapping) or not isinstance(infos.get("episode"), Mapping):
            continue
        rows = rows & np.asarray(infos.get("_episode", rows), dtype=bool)
        for numbers, key in zip(found, ("r", "l"), strict=True):
            values = as_array(infos["episode"].get(key))
            if values.dtype.kind in "iuf" and values.shape == (count,):
                numbers[rows] = values[rows]
    known = np.isfinite(found).all(axis=0)
    return np.where(known, found, np.nan) if known.any() else None
