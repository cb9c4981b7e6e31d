"""Figures of what was played: means with intervals, and as JSON."""

import numpy as np
import pytest

from recurrent_rl.runs.evaluation_result import Evaluation, confidence_interval


@pytest.mark.parametrize("count", [2, 3, 10, 400])
def test_the_interval_of_a_mean_covers_it_as_often_as_it_says(count: int) -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(2000):
        # Of few values, normal ones: the interval of others is an approximation.
        values = rng.exponential(1.0, count) if count == 400 else rng.normal(1.0, 1.0, count)
        low, high = confidence_interval(values)
        inside += low <= 1.0 <= high
    assert inside / 2000 == pytest.approx(0.95, abs=0.02)


def test_scalars_tell_what_is_known_and_no_more() -> None:
    returns, lengths = np.array([1.0, 3.0]), np.array([4, 6])
    known = {"eval/mean_reward": 2.0, "eval/mean_ep_length": 5.0}
    assert Evaluation(returns, lengths, np.array([])).scalars() == known
    told = Evaluation(returns, lengths, np.array([1.0, 0.0]), unfinished=3).scalars()
    assert told == known | {"eval/success_rate": 0.5, "eval/unfinished_episodes": 3.0}
