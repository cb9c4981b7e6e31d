"""Other processes of a search for settings: started with it, ended with it, sharing its study."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from torch import nn

from recurrent_rl.config import TrainConfig
from recurrent_rl.experiments.child import Child, Tell
from recurrent_rl.runs.launch import parts_to_import, take_parts
from recurrent_rl.runs.progress import make_console
from recurrent_rl.signals import StopSignals, join_within, kill

PATIENCE = 30.0
"""Seconds that a process has to save what it does and end, before it is killed."""


Search = Callable[[StopSignals], object]
"""Does what is not done yet, until a signal comes; it can be pickled."""


class Helpers:
    """The other processes of a search, until the end of this context; why some ended before it.

    Args:
        search: what each of them does.
        config: the settings that the search begins with.
        count: of processes to start.
        stop: whether a signal came, which is passed on.
        tell: say on the terminal when one ends early.
    """

    def __init__(
        self, search: Search, config: TrainConfig, count: int, stop: StopSignals, tell: bool
    ) -> None:
        self.lost: list[str] = []
        """Why processes ended early, one sentence each."""
        self._stop = stop
        self._tell = tell
        parts = parts_to_import(config) if count else {}
        work = partial(_search, search, parts, config)
        self._there = [Child(work, silent=True) for _ in range(count)]

    def __enter__(self) -> Helpers:
        return self

    def __exit__(self, failed: type[BaseException] | None, *_: object) -> None:
        """Wait until all have ended; where a signal came or the search failed, tell them to."""
        processes = [child.process for child in self._there]
        if failed or self._stop:
            for process in processes:
                process.terminate()  # SIGTERM: it gives its trial back and ends
        join_within(processes, PATIENCE)
        self.check()
        kill(processes)

    def check(self) -> None:
        """Note those that have ended; of one that failed, why, and its trial is tried again."""
        for child in [one for one in self._there if not one.process.is_alive()]:
            self._there.remove(child)
            status = child.process.exitcode
            killed = f"it was killed or crashed, with exit status {status}" if status else None
            if (reason := next(child.told(), killed)) is not None:
                self._lose(reason)

    def _lose(self, reason: str) -> None:
        self.lost.append(reason)
        if self._tell:
            make_console(stderr=True).print(
                f"A process of the search has ended: {reason}", soft_wrap=True, highlight=False
            )


def _search(
    search: Search,
    parts: Mapping[str, type[nn.Module]],
    config: TrainConfig,
    stop: StopSignals,
    tell: Tell,
) -> None:
    """Search beside the process that has started this one."""
    take_parts(config, parts)
    search(stop)
