"""Intervals of means of few values, against published quantiles and SciPy's."""

import math

import numpy as np
import pytest

from recurrent_rl.runs.student import student_half_interval, student_t


@pytest.mark.parametrize(
    ("count", "expected"),
    [(2, 12.706), (3, 4.303), (6, 2.571), (7, 2.447), (10, 2.262), (30, 2.045), (121, 1.980)],
)
def test_the_quantiles_are_those_of_published_tables(count: int, expected: float) -> None:
    assert student_t(count) == pytest.approx(expected, abs=6e-4)


def test_the_quantiles_are_scipys() -> None:
    t = pytest.importorskip("scipy.stats", reason="the extra plot is not installed").t
    counts = [*range(2, 300), 1000, 10**6]
    assert [student_t(count) for count in counts] == pytest.approx(
        t.ppf(0.975, np.array(counts) - 1).tolist(), rel=5e-5
    )


def test_one_value_says_nothing_of_the_mean() -> None:
    assert (student_t(1), student_t(0)) == (math.inf, math.inf)


def test_half_an_interval_is_that_of_few_values() -> None:
    half = 4.303 * 0.1 / 3**0.5
    assert student_half_interval(np.array([0.1, 0.2, 0.3])) == pytest.approx(half, rel=1e-3)
    assert student_half_interval(np.array([0.5, 0.5])) == 0
