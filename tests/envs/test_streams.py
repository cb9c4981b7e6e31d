"""Random streams: each environment its own, as good as NumPy's, and restorable."""

import numpy as np

from recurrent_rl.envs.streams import BLOCK, Streams

ALL = np.arange(4)


def test_draws_are_those_of_the_environments_own_generator() -> None:
    streams = Streams([5, 6, 7, 8])
    # As many at a time as fill a block, so that none is passed over: two blocks and a half.
    drawn = np.concatenate([streams.uniform(ALL, 4) for _ in range(5 * BLOCK // 8)], axis=1)
    own = np.random.Generator(np.random.PCG64(7)).random(5 * BLOCK // 2)
    np.testing.assert_array_equal(drawn[2], own)


def test_an_environment_that_draws_more_often_does_not_disturb_the_others() -> None:
    one, other = Streams([1, 2]), Streams([1, 2])
    for _ in range(1000):
        one.uniform(np.array([0]), 5)
    one.uniform(np.array([0]), BLOCK + 1)
    np.testing.assert_array_equal(one.normal(np.array([1]), 9), other.normal(np.array([1]), 9))


def test_uniform_normal_and_integer_draws_have_their_moments() -> None:
    streams = Streams(range(4))
    uniform = np.concatenate([streams.uniform(ALL, 100) for _ in range(200)], axis=1)
    normal = np.concatenate([streams.normal(ALL, 100) for _ in range(200)], axis=1)
    integers = np.concatenate([streams.integers(ALL, 6, 100) for _ in range(200)], axis=1)
    assert abs(uniform.mean() - 0.5) < 0.005
    assert abs(uniform.var() - 1 / 12) < 0.002
    assert abs(normal.mean()) < 0.02
    assert abs(normal.var() - 1) < 0.02
    assert set(np.unique(integers)) == set(range(6))
    assert np.abs(np.bincount(integers.ravel()) / integers.size - 1 / 6).max() < 0.01


def test_a_shuffle_is_a_uniform_permutation() -> None:
    streams = Streams(range(4))
    shuffles = np.concatenate([streams.shuffled(ALL, np.arange(3)) for _ in range(3000)])
    assert (np.sort(shuffles, axis=1) == np.arange(3)).all()
    _, counts = np.unique(shuffles, axis=0, return_counts=True)
    assert len(counts) == 6
    chi_square = ((counts - 2000) ** 2 / 2000).sum()
    assert chi_square < 20.5  # the 99.9 % quantile with 5 degrees of freedom


def test_a_saved_stream_continues_where_it_was() -> None:
    streams, again = Streams(range(4)), Streams([0] * 4)
    streams.uniform(ALL, 7)
    streams.normal(ALL[:2], 300)
    again.load_state_dict(streams.state_dict())
    for _ in range(5):
        np.testing.assert_array_equal(streams.uniform(ALL, 200), again.uniform(ALL, 200))
        np.testing.assert_array_equal(streams.normal(ALL, 200), again.normal(ALL, 200))


def test_fresh_streams_of_the_same_seeds_are_the_same_to_the_last_byte() -> None:
    states = []
    for number in (1.0, 2.0):
        np.full((4, BLOCK), number)  # freed at once: NumPy hands out its memory next
        states.append({name: x.tobytes() for name, x in Streams(range(4)).state_dict().items()})
    assert states[0] == states[1]
    assert not np.frombuffer(states[0]["uniform"]).any()
