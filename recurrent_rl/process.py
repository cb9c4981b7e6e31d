"""What a run changes for its thread or its process, and gives back afterwards.

Threads and precision are those of its thread of Python; freed memory, TF32 and global generators
those of the process. Runs in several threads do not disturb each other.
"""

from __future__ import annotations

import ctypes
import os
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any

import numpy as np
import torch

from recurrent_rl.agents.devices import usable_device
from recurrent_rl.agents.kernels import library
from recurrent_rl.errors import UserError
from recurrent_rl.seeding import Stream, number


class WhileAny:
    """A context of the whole process, which any number of threads are in at a time.

    It begins with the first of them and ends with the last.

    Args:
        change: makes the context that is entered then.
    """

    def __init__(self, change: Callable[[], AbstractContextManager[None]]) -> None:
        self._change = change
        self._lock = threading.Lock()
        self._inside = 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._changed = self._change()
                self._changed.__enter__()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._changed.__exit__(None, None, None)


@contextmanager
def computing(
    threads: int | None = None, precision: str = "float32", workers: int = 1
) -> Iterator[None]:
    """Compute with so many threads and in this precision; afterwards all is as it was before.

    Gradients are taken though the caller has turned them off, and autocast is off. All this holds
    for this thread of Python alone. That float32 is float32 on a GPU holds meanwhile for
    the whole process.

    Args:
        threads: of PyTorch and of the memory's kernel; None is one and all cores. Workers take no
            more than their share of the cores: PyTorch's threads wait for each other busily, and
            with others on their cores all but stand still.
        precision: of the memory's kernel, `TrainConfig.precision`. On a GPU float32 is float32:
            cuDNN would round the factors of its products to TF32 by default.
        workers: that share the cores.

    Raises:
        UserError: the machine has not the precision.
    """
    bfloat16 = library.set_bfloat16(precision == "bfloat16")
    of_torch = torch.get_num_threads()
    share = max(1, available_cores() // workers)
    if threads is not None and workers > 1:
        threads = min(threads, share)
    of_kernel = library.set_num_threads(threads or share)
    _set_torch_threads(threads or 1)
    try:
        with _WITHOUT_TF32, _learning():
            yield
    finally:
        _set_torch_threads(of_torch)
        library.set_num_threads(of_kernel)
        library.set_bfloat16(bfloat16)


@contextmanager
def _learning() -> Iterator[None]:
    """Gradients, the CPU as default, and no casts, whatever the caller is amid."""
    is_default = torch.get_default_device().type == "cpu"
    with (
        nullcontext() if is_default else torch.device("cpu"),  # which makes each operation slower
        torch.inference_mode(mode=False),
        torch.enable_grad(),
        torch.autocast("cpu", enabled=False),
        torch.autocast("cuda", enabled=False),
    ):
        yield


@contextmanager
def _without_tf32() -> Iterator[None]:
    """Have cuDNN compute in float32 as it stands; a caller who chose by operator is left alone."""
    cudnn = torch.backends.cudnn
    try:
        before = cudnn.allow_tf32
    except RuntimeError:  # set by torch's newer names, which cannot be read by the older
        yield
        return
    cudnn.allow_tf32 = False
    try:
        yield
    finally:
        cudnn.allow_tf32 = before


_WITHOUT_TF32 = WhileAny(_without_tf32)
_SETTING_THREADS = threading.Lock()


def _set_torch_threads(threads: int) -> None:
    """Let PyTorch compute on so many threads where this thread of Python calls it.

    PyTorch keeps the number for each thread, and hands the newest to threads that first call it
    later: to these it shall be as before.
    """
    if torch.get_num_threads() == threads:  # each change costs PyTorch a pool of threads
        return
    with _SETTING_THREADS:
        of_new_threads = _in_new_thread(torch.get_num_threads)
        torch.set_num_threads(threads)
        _in_new_thread(lambda: torch.set_num_threads(of_new_threads))
    if torch.get_num_threads() != threads:  # a PyTorch that has one number for the process
        torch.set_num_threads(threads)


def _in_new_thread(call: Callable[[], Any]) -> Any:
    """What a call returns in a thread that has called nothing else."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(call).result()


# Parameters of mallopt, as in <malloc.h>: while a run computes, and glibc's own values.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEEPING = {_TRIM_THRESHOLD: 2**31 - 1, _MMAP_THRESHOLD: 2**30}
_GLIBCS_OWN = {_TRIM_THRESHOLD: 128 * 1024, _MMAP_THRESHOLD: 128 * 1024}


@contextmanager
def _keeping_freed_memory() -> Iterator[None]:
    try:
        _set_malloc(_KEEPING)
        yield
    finally:
        _set_malloc(_GLIBCS_OWN)


_KEEPING_FREED_MEMORY = WhileAny(_keeping_freed_memory)


def keeping_freed_memory() -> AbstractContextManager[None]:
    """Have the C library keep large blocks once freed, where it is glibc; for the whole process.

    It would hand them back, and each minibatch would pay for the page faults of fresh ones. Enter
    it once a run: at the end of the outermost, or of the last thread's, the thresholds are glibc's
    own again, and what was kept is handed back. Where the environment sets one
    (MALLOC_TRIM_THRESHOLD_ and the like), nothing is changed.
    """
    return _KEEPING_FREED_MEMORY


def _set_malloc(thresholds: dict[int, int]) -> None:
    """Set these, unless the user did or it is another C library."""
    if any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return
    try:
        libc = ctypes.CDLL(None)
        mallopt, trim = libc.mallopt, libc.malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library
        return
    for parameter, value in thresholds.items():
        mallopt(parameter, value)
    if thresholds is _GLIBCS_OWN:
        trim(0)


@contextmanager
def working_directory_kept() -> Iterator[None]:
    """Give the process its working directory back, which an environment may change."""
    try:
        here = os.getcwd()
    except OSError:  # it is deleted
        yield
        return
    try:
        yield
    finally:
        with suppress(OSError):
            os.chdir(here)


def available_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):  # Linux, where a container may have fewer than the machine
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def pick_device(name: str, place: int = 0) -> torch.device:
    """The device of this name; `auto` is CUDA where there is one.

    Args:
        name: as torch has it, or auto.
        place: of this worker on its machine, from 0: of several GPUs each worker takes its own.

    Raises:
        DeviceError: there is none, or PyTorch cannot use it.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and torch.cuda.device_count() > 1:
        name = f"cuda:{place % torch.cuda.device_count()}"
    return usable_device(name)


def seed_process(seed: int, iteration: int = 0, worker: int = 0) -> None:
    """Seed the global generators of Python and NumPy, which some environments draw from."""
    value = number(seed, Stream.PROCESS, iteration) + worker
    random.seed(value)
    np.random.seed(value)  # noqa: NPY002 (the old generator is the one that is global)


_GLOBAL_GENERATORS = threading.RLock()


@contextmanager
def global_generators_kept(seeded: bool) -> Iterator[None]:
    """Have Python's and NumPy's global generators as before afterwards, where a run seeds them.

    Raises:
        UserError: a run in another thread does the same.
    """
    if not seeded:
        yield
        return
    if not _GLOBAL_GENERATORS.acquire(blocking=False):
        raise UserError(
            "Another run in this process has seeded Python's and NumPy's global generators, of "
            "which there is one each: run one after the other, or without seed_globals."
        )
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        _GLOBAL_GENERATORS.release()
