"""Clean stops: Ctrl-C and SIGTERM ask a long command to end at its next safe point."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType
from typing import Any


class StopSignals:
    """A context in which SIGINT and SIGTERM are noted instead of obeyed.

    The command asks `received` at its safe points. A second signal of the same kind acts as it
    would without us: Ctrl-C twice ends at once. Outside the main thread, where Python lets no one
    handle signals, nothing is changed.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    @property
    def exit_status(self) -> int:
        """0, or 128 plus the signal's number: 130 for Ctrl-C, 143 for SIGTERM."""
        return 0 if self.received is None else 128 + self.received

    def __bool__(self) -> bool:
        return self.received is not None

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        print("\nStopping at the next safe point; once more ends at once.", file=sys.stderr)
        signal.signal(number, self._previous[number])
