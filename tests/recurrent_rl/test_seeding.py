"""Streams: disjoint between runs, purposes and resumed parts, and never moved by the caller."""

import random
from itertools import pairwise

import numpy as np
import torch

from recurrent_rl.process import seed_process
from recurrent_rl.seeding import Stream, generator, number


def test_the_seeds_of_environments_are_shared_by_no_two_runs_or_purposes() -> None:
    environments = 64
    starts = [
        number(seed, stream, iteration)
        for seed in range(200)
        for stream, iterations in (
            (Stream.ENVIRONMENTS, (0, 1, 2, 1000)),
            (Stream.EVALUATION, (0,)),
            (Stream.PROCESS, (0,)),
        )
        for iteration in iterations
    ]
    assert all(b - a >= environments for a, b in pairwise(sorted(starts)))
    assert 0 <= min(starts) <= max(starts) < 2**31


def test_a_stream_is_the_same_every_time_and_for_large_seeds_too() -> None:
    for seed in (0, 2**63 - 1, 2**64 - 1):
        draws = [torch.rand(3, generator=generator(seed, Stream.ACTIONS, 5)) for _ in range(2)]
        assert torch.equal(*draws)
        for other in ((seed, 6), ((seed + 2**32) % 2**64, 5)):
            drawn = torch.rand(3, generator=generator(other[0], Stream.ACTIONS, other[1]))
            assert not torch.equal(drawn, draws[0])


def test_the_process_is_seeded_for_environments_that_draw_from_its_generators() -> None:
    before = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        drawn = []
        for seed, iteration, worker in ((1, 0, 0), (1, 0, 0), (1, 7, 0), (2, 0, 0), (1, 0, 1)):
            seed_process(seed, iteration, worker)
            drawn.append((random.random(), np.random.random()))  # noqa: NPY002
        assert drawn[0] == drawn[1]
        assert len(set(drawn)) == 4
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
