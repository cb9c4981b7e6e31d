"""PyTorch's global generator, from which weights are drawn: borrowed, and given back as it was."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_BORROWED = threading.RLock()


@contextmanager
def borrowed_generator(seed: int | None = None) -> Iterator[None]:
    """Draw from PyTorch's global generator, on the CPU, by one thread at a time.

    Afterwards it is as it was before. Generators of other devices are left alone.

    Args:
        seed: to begin with; None: it begins where the caller's is.
    """
    with _BORROWED, torch.random.fork_rng(devices=[]), torch.device("cpu"):
        if seed is not None:
            torch.default_generator.manual_seed(seed)
        yield
