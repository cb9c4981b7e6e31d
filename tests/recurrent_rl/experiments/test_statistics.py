"""Statistics of scores, against what can be counted by hand."""

import math

import numpy as np

from recurrent_rl.experiments.statistics import (
    Interval,
    bootstrapped,
    interquartile_mean,
    probability_of_improvement,
    with_interval,
)


def test_the_interquartile_mean_is_of_the_middle_half_of_all_tasks() -> None:
    assert interquartile_mean(np.array([0.0, 1.0, 2.0]), np.array([3.0, 100.0, -9, 4, 5])) == 2.5


def test_the_probability_of_improvement_counts_pairs_and_halves_ties() -> None:
    mine, theirs = np.array([1.0, 3.0]), np.array([1.0, 2.0])
    assert probability_of_improvement(mine, theirs) == (0.5 + 0 + 1 + 1) / 4
    better = np.array([9.0, 9.0])
    assert probability_of_improvement(mine, better, theirs, theirs) == (0.625 + 1) / 2


def test_a_bootstrap_needs_two_runs_of_each_task_and_is_the_same_each_time() -> None:
    alone = bootstrapped(interquartile_mean, [np.array([1.0])])
    assert (alone.value, math.isnan(alone.low), str(alone)) == (1.0, True, "1.000")
    scores = [np.array([0.0, 1.0, 2.0]), np.array([0.5, 1.5, 1.0])]
    found = bootstrapped(interquartile_mean, scores)
    assert found.low < found.value < found.high
    assert found == bootstrapped(interquartile_mean, scores)
    assert str(Interval(0.5, 0.25, 0.75)) == "0.500 [0.250, 0.750]"


def test_a_mean_of_runs_has_students_interval_and_one_run_its_own() -> None:
    half = 4.303 * 0.1 / 3**0.5
    assert with_interval([0.1, 0.2, 0.3], (0.0, 1.0)) == f"0.200 ± {half:.3f}"
    assert with_interval([0.1], (0.0, 1.0)) == "0.100 ± 0.500"
