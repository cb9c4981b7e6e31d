"""All that is random in a run, from its one seed: a stream for each purpose, shared with no other.

The streams are those that `numpy.random.SeedSequence` spawns. They depend on the seed, the purpose
and the iteration, never on how the environments are grouped or on what was drawn before: what a
resumed run draws in its iteration 7 is what the uninterrupted run draws there.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import torch


class Stream(IntEnum):
    """What random numbers are for. Values are part of what a seed means: never reuse one."""

    WEIGHTS = 0
    ENVIRONMENTS = 1
    """Of training; with the iteration before which they were reset."""
    ACTIONS = 2
    """Of an iteration."""
    MINIBATCHES = 3
    """Of an iteration."""
    EVALUATION = 4
    PROCESS = 5
    """Python's and NumPy's global generators; with the iteration that a run resumes from."""
    SEARCH = 6
    """What a search for settings tries; with the number of trials before."""
    AUXILIARY = 7
    """Weights of an auxiliary loss."""


def _sequence(seed: int, stream: Stream, iteration: int) -> np.random.SeedSequence:
    return np.random.SeedSequence(seed, spawn_key=(stream, iteration))


def number(seed: int, stream: Stream, iteration: int = 0) -> int:
    """A seed for others: 0..2^31 - 1, so that any generator takes it, and the numbers after it.

    A vector environment gives environment i this number plus i. The numbers of two streams lie
    64 or less apart once in 17 million.
    """
    return int(_sequence(seed, stream, iteration).generate_state(1)[0] >> 1)


def generator(seed: int, stream: Stream, iteration: int = 0) -> torch.Generator:
    """A generator on the CPU at the start of a stream."""
    words = _sequence(seed, stream, iteration).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(words[0] >> np.uint64(1)))
