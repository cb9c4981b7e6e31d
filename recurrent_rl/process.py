"""What a run changes for its whole process: threads, precision, memory, global generators."""

from __future__ import annotations

import ctypes
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from recurrent_rl.agents.kernels import compiled
from recurrent_rl.errors import UserError
from recurrent_rl.seeding import Stream, number


@contextmanager
def computing(threads: int = 0, precision: str = "float32") -> Iterator[None]:
    """Compute with so many threads and in this precision; afterwards all is as it was before.

    Args:
        threads: of PyTorch and of the memory's kernel; 0 is one and all cores.
        precision: of the memory's kernel, `TrainConfig.precision`.

    Raises:
        UserError: the machine has not the precision.
    """
    bfloat16 = compiled.set_bfloat16(precision == "bfloat16")
    of_torch = torch.get_num_threads()
    of_kernel = compiled.set_num_threads(threads or available_cores())
    _set_torch_threads(threads or 1)
    try:
        yield
    finally:
        _set_torch_threads(of_torch)
        compiled.set_num_threads(of_kernel)
        compiled.set_bfloat16(bfloat16)


def _set_torch_threads(threads: int) -> None:
    if torch.get_num_threads() != threads:  # each change costs PyTorch a pool of threads
        torch.set_num_threads(threads)


def keep_freed_memory() -> None:
    """Have the C library keep large blocks once freed, for the process, where it is glibc.

    It would hand them back, and each minibatch would pay for the page faults of fresh ones.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return
    mmap_threshold, trim_threshold = -3, -1  # as in <malloc.h>
    mallopt(mmap_threshold, 2**30)
    mallopt(trim_threshold, 2**31 - 1)


def available_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):  # Linux, where a container may have fewer than the machine
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def pick_device(name: str) -> torch.device:
    """The device of this name; `auto` is CUDA where there is one.

    Raises:
        UserError: there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"Device {name!r} cannot be used ({reason}); try cpu.") from error
    return device


def seed_process(seed: int, iteration: int = 0) -> None:
    """Seed the global generators of Python and NumPy, which some environments draw from."""
    value = number(seed, Stream.PROCESS, iteration)
    random.seed(value)
    np.random.seed(value)  # noqa: NPY002 (the old generator is the one that is global)


@contextmanager
def global_generators_kept(seeded: bool) -> Iterator[None]:
    """Have Python's and NumPy's global generators as before afterwards, where a run seeds them."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        if seeded:
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002
