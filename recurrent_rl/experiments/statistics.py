"""Statistics over runs: pure functions of their scores.

They are those of Agarwal et al. (NeurIPS 2021): interquartile mean, probability of improvement, and
a percentile bootstrap stratified by task. SciPy computes these: `pip install 'recurrent-rl[plot]'`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurrent_rl.agents.extras import optional
from recurrent_rl.runs.student import student_half_interval

COMPARING = "Comparing runs"
"""What needs the packages of the extra `plot`, for `optional`."""

REPETITIONS = 2000
"""Of the bootstrap."""


@dataclass(frozen=True)
class Interval:
    """An estimate and its 95 % interval; NaN where there are too few runs for one."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if np.isnan(self.low):
            return f"{self.value:.3f}"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def with_interval(returns: Sequence[float], ci95: tuple[float, float]) -> str:
    """The mean over runs ± half of its 95 % interval, by Student's t; of one run, half of `ci95`.

    Args:
        returns: mean return of each run.
        ci95: the first run's interval, over its episodes.
    """
    values, (low, high) = np.array(returns), ci95
    half = (high - low) / 2 if len(values) == 1 else student_half_interval(values)
    return f"{values.mean():.3f} ± {half:.3f}"


def half_interval(values: NDArray[np.float64]) -> float | None:
    """Half of the 95 % interval of the mean, by Student's t; None of one value."""
    return None if len(values) == 1 else student_half_interval(values)


def shown_mean(values: NDArray[np.float64]) -> str:
    """The mean ± half of its 95 % interval, rounded to two figures; of one value itself."""
    half = half_interval(values)
    return f"{values.mean():.4g}" + ("" if half is None else f" ± {float(f'{half:.2g}'):g}")


def interquartile_mean(*scores: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
    """The mean of the middle half of all scores: one array a task, runs along `axis`."""
    pooled = np.concatenate(scores, axis=axis)
    mean: NDArray[np.float64] = _scipy().trim_mean(pooled, 0.25, axis=axis)
    return mean


def probability_of_improvement(*scores: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
    """P(x > y) + P(x = y) / 2, averaged over tasks; half of the arrays are x's, one a task."""
    count = len(scores) // 2
    wins = []
    for one, other in zip(scores[:count], scores[count:], strict=True):
        x, y = np.moveaxis(one, axis, -1), np.moveaxis(other, axis, -1)
        difference = x[..., :, None] - y[..., None, :]
        wins.append((0.5 + 0.5 * np.sign(difference)).mean(axis=(-2, -1)))
    return np.asarray(np.mean(wins, axis=0))


def bootstrapped(
    statistic: Callable[..., NDArray[np.float64]], scores: Sequence[NDArray[np.float64]]
) -> Interval:
    """The statistic of one array a task, and its interval: each task's runs are drawn anew."""
    value = float(statistic(*scores))
    if min(len(of_task) for of_task in scores) < 2:
        return Interval(value, np.nan, np.nan)
    found = _scipy().bootstrap(
        scores,
        statistic,
        n_resamples=REPETITIONS,
        vectorized=True,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    low, high = found.confidence_interval
    return Interval(value, float(low), float(high))


def _scipy() -> Any:
    """SciPy's statistics.

    Raises:
        UserError: SciPy is not installed.
    """
    return optional("scipy.stats", COMPARING)
