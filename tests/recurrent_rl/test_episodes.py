"""Finished episodes: the latest hundred of all environments, in the order of their ends."""

import random

import numpy as np

from recurrent_rl.episodes import WINDOW, Ended, Episode, EpisodeStatistics, merged
from recurrent_rl.vector_env.environments import Step


def episode(step: int, environment: int) -> Episode:
    return Episode(step, environment, float(step), 1, False, {})


def test_of_several_blocks_the_hundred_that_ended_last_are_kept_in_order() -> None:
    # Two environments a block; every environment ends an episode at each of its own steps.
    ends = {0: range(1, 99, 2), 1: range(3, 99, 5), 2: range(2, 99, 2), 3: range(90, 99)}
    every = [episode(step, i) for i, steps in ends.items() for step in steps]
    random.Random(0).shuffle(every)
    blocks = [[one for one in every if one.environment // 2 == block] for block in (0, 1)]
    whole = merged(
        Ended(sorted(of_block), frozenset({key}))
        for of_block, key in zip(blocks, "ab", strict=True)
    )
    in_order = sorted((one.step, one.environment) for one in every)
    assert len(in_order) > 100
    assert [(one.step, one.environment) for one in whole.episodes] == in_order[-100:]
    assert whole.info_keys == {"a", "b"}
    mean = np.mean([step for step, _ in in_order[-100:]])
    assert whole.means()["rollout/ep_rew_mean"] == mean


def test_the_latest_hundred_are_kept_or_all() -> None:
    ends = np.array([True, False])
    none = np.zeros(2, dtype=bool)
    for window, kept in ((WINDOW, 100), (None, 130)):
        found = EpisodeStatistics(2, window, first=6)
        for n in range(130):
            step = Step({}, none, ~none, None, np.ones(2), ends, none, {}, None, None)
            found.step(step, ~none, n)
        assert [one.step for one in found.ended] == list(range(130 - kept, 130))
        assert {(one.environment, one.total, one.length) for one in found.ended} == {(6, 1.0, 1)}
        assert found.running_return.tolist() == [0, 130]
