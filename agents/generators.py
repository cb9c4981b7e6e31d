"""What of PyTorch is global, borrowed and given back: random generators and defaults."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from recurrent_rl.agents.arguments import argument

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


@contextmanager
def forked_torch_state(seed: int | None = None) -> Iterator[None]:
    """Within it, float32 and the CPU are PyTorch's defaults, and random numbers are borrowed.

    What is made in it can be trained, though the caller may be in inference mode, and is not cast
    where the caller's is. Afterwards the caller's defaults and random state are as they were.

    Args:
        seed: as for `borrowed_generator`.
    """
    without_autocast = torch.autocast("cpu", enabled=False)
    with borrowed_generator(seed), torch.inference_mode(mode=False), without_autocast:
        dtype = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)


def sampling_generator(seed: int | None) -> torch.Generator:
    """A generator of one's own, with this seed or, for None, one that nobody knows.

    Raises:
        SettingError: the seed is no whole number.
    """
    seed = argument("seed", seed, int | None)
    generator = torch.Generator()
    if seed is None:
        generator.seed()
        return generator
    return generator.manual_seed(seed)
