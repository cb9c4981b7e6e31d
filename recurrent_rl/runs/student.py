"""Student's t: how far the mean of few values may lie from the true one."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_FIRST = (12.70620, 4.302653, 3.182446, 2.776445, 2.570582)
"""The quantile of 1 to 5 degrees of freedom."""
_EXPANSION = (1.959964, 2.372271, 2.822499, 2.555850, 1.589534)
"""That of more, by powers of 1 / freedom (Abramowitz & Stegun 1964, 26.7.5)."""


def student_t(count: int) -> float:
    """Half of the 95 % interval of a mean of `count` values, in standard errors.

    It is the 97.5 % quantile of Student's t with count - 1 degrees of freedom, to a relative 5e-5.
    Fewer than two values say nothing of it: infinity.
    """
    freedom = count - 1
    if freedom < 1:
        return math.inf
    if freedom <= len(_FIRST):
        return _FIRST[freedom - 1]
    return sum(factor * (1 / freedom) ** power for power, factor in enumerate(_EXPANSION))


def student_half_interval(values: NDArray[np.float64]) -> float:
    """Half of the 95 % interval of the mean of two values `[n]` or more."""
    return student_t(len(values)) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
