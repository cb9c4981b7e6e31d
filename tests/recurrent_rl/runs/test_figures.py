"""Figures of what was played: means with intervals, and as JSON."""

import numpy as np
import pytest

from recurrent_rl.runs.figures import confidence_interval


def test_the_interval_of_a_mean_covers_it_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(2000):
        low, high = confidence_interval(rng.exponential(1.0, 400))
        inside += low <= 1.0 <= high
    assert inside / 2000 == pytest.approx(0.95, abs=0.02)
