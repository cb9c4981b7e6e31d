"""What torchrun tells the processes that it starts, and where they meet."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import io
import itertools
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from torch.distributed import (  # type: ignore[attr-defined]
    PrefixStore,
    Store,
    rendezvous,
)

from recurrent_rl.config import ResolvedConfig
from recurrent_rl.errors import UserError
from recurrent_rl.resolve import with_workers
from recurrent_rl.runs.folder import LAUNCH, RunFolder

_MEETINGS = itertools.count(1)
"""Of this process: a script may train several times, and all workers run the same script."""


AGENT_SECONDS = 0.5
"""Between two looks whether torchrun is there yet."""
OWN_MISTAKE_SECONDS = 10.0
"""In which torchrun ends a worker whose mistake the first has made too."""


class Launch(NamedTuple):
    """What torchrun tells a process that it has started."""

    rank: int
    size: int
    place: int
    """Of this worker on its machine, from 0."""
    neighbours: int
    """Workers on this machine."""
    run_id: str
    """Of the launch: the same after a restart."""
    restarts: int

    @classmethod
    def of_this_process(cls) -> Launch | None:
        """None where torchrun has not started this process."""
        if (run_id := os.environ.get("TORCHELASTIC_RUN_ID")) is None:
            return None
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        rank, size, place, neighbours = (int(os.environ[name]) for name in names)
        restarts = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
        return cls(rank, size, place, neighbours, run_id, restarts)

    def meeting(self, timeout: float) -> Store:
        """Where the workers find each other: a new place for each training.

        After a training, or a restart, the store still holds what was left there, and
        `init_process_group` alone would connect to what is gone. Machines count their restarts
        each for itself; where several are told to make a store for each start, as
        docs/many-machines.md says, no count of them is needed.
        """
        store = _store(self.rank, self.size, timeout)
        own_store = os.environ.get("TORCH_DISABLE_SHARE_RDZV_TCP_STORE") == "1"
        start = 0 if own_store else self.restarts
        return PrefixStore(f"recurrent_rl/{start}/{next(_MEETINGS)}", store)

    @property
    def is_named(self) -> bool:
        """Whether the id is this launch's own: torchrun's default is that of all others too."""
        return self.run_id != "none" or self.restarts > 0


@functools.cache
def _store(rank: int, size: int, timeout: float) -> Store:
    """That of all workers of this start; kept, since the first worker may be who serves it."""
    wait = datetime.timedelta(seconds=timeout)
    store: Store = next(rendezvous("env://", rank, size, timeout=wait))[0]
    return store


@functools.cache
def end_with_agent() -> None:
    """Have this process end when torchrun is gone, from the first call on.

    Killed, torchrun ends none of its workers. They would train on without it and hold the run,
    which the machines that are left resume, or the same command given again.
    """
    agent = os.getppid()

    def watch() -> None:
        while os.getppid() == agent:
            time.sleep(AGENT_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="torchrun watch", daemon=True).start()


def of_launch(config: ResolvedConfig, asked: bool) -> ResolvedConfig:
    """The settings with as many workers as torchrun has started, where it has started this one.

    Args:
        config: the settings.
        asked: their number of workers is what the user asks for now: neither the default, nor
            chosen, nor what a run had before.

    Raises:
        UserError: the user asks for another number.
    """
    launch = Launch.of_this_process()
    if launch is None or launch.size == config.workers:
        return config
    if asked and launch.restarts == 0:
        raise UserError(
            f"workers is {config.workers}, but torchrun has started {launch.size}: leave the "
            "number to torchrun (--nnodes, --nproc-per-node)."
        )
    return with_workers(config, launch.size)


@contextlib.contextmanager
def mistakes_told_once() -> Iterator[None]:
    """Have the first worker of a machine tell the mistakes that all of them make.

    It ends by its mistake, and then torchrun ends the others: they wait for that. One that is still
    there after a while has made a mistake of its own, and tells it.
    """
    launch = Launch.of_this_process()
    if launch is None or launch.place == 0:
        yield
        return
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            yield
    except (UserError, SystemExit):
        with contextlib.suppress(ValueError):  # not in the main thread
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        time.sleep(OWN_MISTAKE_SECONDS)
        raise
    finally:
        sys.stderr.write(said.getvalue())


def ended_elsewhere() -> UserError:
    """Why a message failed, where torchrun minds the workers."""
    return UserError(
        "Another worker ended, or its machine cannot be reached; what it printed says why. With "
        "--max-restarts torchrun starts all again, from the last checkpoint."
    )


def begun_by(launch: Launch, config: ResolvedConfig) -> RunFolder | None:
    """The run that this launch of torchrun began before it was restarted, the newest of them."""
    root = Path(config.log_dir)
    if not launch.is_named or not root.is_dir():
        return None
    asked = dataclasses.replace(config.as_requested(), workers=1)
    readable = [path for path in root.glob(f"*/{LAUNCH}") if os.access(path, os.R_OK)]
    for path in sorted(readable, key=lambda path: path.parent.stat().st_mtime, reverse=True):
        folder = RunFolder(path.parent)
        if path.read_bytes() != launch.run_id.encode():
            continue
        if dataclasses.replace(folder.load_config().as_requested(), workers=1) == asked:
            return folder
    return None
