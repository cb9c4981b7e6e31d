"""Whether the best settings of a search are better: both trained with seeds it has not seen.

The best of many trials was lucky too, so that its score there favours it. Fresh seeds do not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recurrent_rl.runs.student import student_half_interval


@dataclass(frozen=True)
class Confirmation:
    """Returns of the settings given and of the best ones, seed by seed."""

    seeds: tuple[int, ...]
    given: NDArray[np.float64]
    """Mean return of each run: of its evaluation, or where there is none its score in training."""
    best: NDArray[np.float64]

    @property
    def difference(self) -> NDArray[np.float64]:
        """How much better the best settings are, seed by seed."""
        return self.best - self.given


def half_interval(values: NDArray[np.float64]) -> float | None:
    """Half of the 95 % interval of the mean, by Student's t; None of one value."""
    return None if len(values) == 1 else student_half_interval(values)


def shown_mean(values: NDArray[np.float64]) -> str:
    """The mean ± half of its 95 % interval, rounded to two figures; of one value itself."""
    half = half_interval(values)
    return f"{values.mean():.4g}" + ("" if half is None else f" ± {float(f'{half:.2g}'):g}")
