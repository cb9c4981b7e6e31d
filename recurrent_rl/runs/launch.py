"""The other workers of a run on this machine: processes that this one starts, and ends."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing import resource_tracker
from pathlib import Path

from torch.distributed import FileStore, Store  # type: ignore[attr-defined]
from torch.multiprocessing.spawn import (
    ProcessContext,
    ProcessExitedException,
    ProcessRaisedException,
    start_processes,
)

from recurrent_rl.blocks import block_of
from recurrent_rl.config import ResolvedConfig
from recurrent_rl.errors import UserError
from recurrent_rl.group import ALONE, Group, joined
from recurrent_rl.process import computing, keeping_freed_memory, pick_device, seed_process
from recurrent_rl.runs.checkpoint import restore
from recurrent_rl.runs.checkpoint_file import read_checkpoint
from recurrent_rl.runs.failures import closed_by
from recurrent_rl.runs.loop import follow
from recurrent_rl.signals import StopSignals, held_back, let_through, when_parent_ends
from recurrent_rl.trainer import Trainer

PATIENCE = 10.0
"""Seconds in which a worker has to end when it has nothing more to do, before it is killed."""
DEATH_SECONDS = 3.0
"""Seconds to wait for the end of a worker that sends no more."""


@contextmanager
def together(
    config: ResolvedConfig, checkpoint: Path | None = None, seed_globals: bool = False
) -> Iterator[Group]:
    """Start the other workers of a run, and be the first of them, until the end of this context.

    Args:
        config: the settings; with one worker nothing is started.
        checkpoint: that all resume from; None for the run's first step.
        seed_globals: seed Python's and NumPy's global generators in each worker.

    Raises:
        UserError: a worker could not start, raised an error or ended by itself; says which.
    """
    if config.workers == 1:
        yield ALONE
        return
    block_of(config, 0, config.workers)  # refuses too many before any is started
    with ExitStack() as stack:
        meeting = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "workers"
        resource_tracker.ensure_running()  # else the start does it, and lets signals through
        with held_back():
            others = start_processes(
                _work,
                args=(str(meeting), config, checkpoint, seed_globals),
                nprocs=config.workers - 1,
                join=False,
                start_method="spawn",
            )
        assert others is not None
        store = _meet(meeting, config)
        stack.callback(_end, others)
        yield stack.enter_context(
            joined(
                *(store, 0, config.workers, pick_device(config.device), config.worker_timeout),
                explain=lambda: _why(others, store),
            )
        )
        deadline = time.monotonic() + PATIENCE
        for process in others.processes:
            process.join(max(0.0, deadline - time.monotonic()))


def _meet(meeting: str | Path, config: ResolvedConfig) -> Store:
    return FileStore(str(meeting), config.workers)


def _work(
    index: int, meeting: str, config: ResolvedConfig, checkpoint: Path | None, seed_globals: bool
) -> None:
    """What a worker that is not the first does."""
    when_parent_ends(lambda: os._exit(1))
    rank = index + 1
    with StopSignals(patient=True, silent=True) as stop:
        let_through()
        store = _meet(meeting, config)
        try:
            with (
                computing(config.threads, config.precision, config.workers),
                keeping_freed_memory(),
                joined(
                    *(store, rank, config.workers),
                    *(pick_device(config.device), config.worker_timeout),
                ) as group,
            ):
                saved = None if checkpoint is None else read_checkpoint(checkpoint)
                if seed_globals:
                    seed_process(config.seed + rank, saved.iteration if saved else 0)
                trainer = Trainer(config, group)
                with closed_by(trainer.close):
                    if saved is not None:
                        restore(trainer, saved)
                    follow(trainer, stop)
        except UserError as error:
            store.set(f"mistake/{rank}", str(error))
            raise


def _why(others: ProcessContext, store: Store) -> UserError | None:
    """Why a message to these workers failed, if one of them has ended."""
    deadline = time.monotonic() + DEATH_SECONDS
    while time.monotonic() < deadline and all(process.is_alive() for process in others.processes):
        time.sleep(0.05)
    try:
        others.join(timeout=0)
    except (ProcessRaisedException, ProcessExitedException) as error:
        rank = error.error_index + 1
        if store.check([mistake := f"mistake/{rank}"]):
            return UserError(f"Worker {rank}: {store.get(mistake).decode()}")
        if isinstance(error, ProcessExitedException):
            return UserError(
                f"Worker {rank} ended by itself, with exit status {error.exit_code}: it crashed, "
                "called exit, or was killed, for want of memory perhaps. Mend the environment, or "
                "lower num_envs."
            )
        return UserError(f"Worker {rank} failed. {str(error).strip()}")
    return None


def _end(others: ProcessContext) -> None:
    """End the processes that are still there."""
    for process in others.processes:
        if process.is_alive():
            with contextlib.suppress(OSError):
                os.kill(process.pid, signal.SIGKILL)
        process.join()
