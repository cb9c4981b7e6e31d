"""Clean stops: Ctrl-C, SIGTERM and SIGHUP ask a long command to end at its next safe point."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator
from multiprocessing import connection, current_process, parent_process, resource_tracker
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any, ClassVar

from recurrent_rl.errors import UserError
from recurrent_rl.output import say

STOPPING = tuple(
    signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""The signals that ask a process to end and let it tidy up."""


class StopSignals:
    """A context in which the signals of `STOPPING` are noted instead of obeyed.

    The command asks `received` at its safe points. A second signal of the same kind acts as it
    would without us: Ctrl-C twice ends at once. SIGHUP stays ignored where it was, as under nohup.
    Outside the main thread, where Python lets no one handle signals, nothing is changed. The
    context may be entered again while it lasts.

    Args:
        patient: note each signal of a kind, not only the first: for a process whose parent passes
            on what reached both of them.
        silent: say nothing of it, where another process does.
    """

    children_ignore_signals: ClassVar[bool] = False
    """Whether processes that are forked now take no notice of the signals of `STOPPING`."""

    def __init__(self, patient: bool = False, silent: bool = False) -> None:
        self.received: int | None = None
        """The signal's number; None: none came."""
        self.outcome: str | None = None
        """What a KeyboardInterrupt of `obey` says: what is saved, and how to go on."""
        self._patient = patient
        self._silent = silent
        self._previous: dict[int, Any] = {}
        self._depth = 0
        self._process = 0

    @property
    def exit_status(self) -> int:
        """0, or 128 plus the signal's number (130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP)."""
        return 0 if self.received is None else 128 + self.received

    def __bool__(self) -> bool:
        return self.received is not None

    def __enter__(self) -> StopSignals:
        self._depth += 1
        if self._depth == 1 and threading.current_thread() is threading.main_thread():
            self._process = os.getpid()
            for number in STOPPING:
                handler = signal.getsignal(number)
                # None: not set from Python, so it could not be given back.
                if handler is None or (number, handler) == (signal.SIGHUP, signal.SIG_IGN):
                    continue
                self._previous[number] = handler
                signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if self._depth == 0:
            for number, handler in self._previous.items():
                signal.signal(number, handler)
            self._previous.clear()

    def obey(self) -> None:
        """Let a signal that was noted take its usual course, once the context has ended.

        Raises:
            KeyboardInterrupt: on Ctrl-C, where the program handles it no other way. SIGTERM and
                SIGHUP end a program that does not handle them.
        """
        if self.received is None:
            return
        try:
            signal.raise_signal(self.received)
        except KeyboardInterrupt as error:
            if self.outcome is not None:
                error.args = error.args or (self.outcome,)
            raise

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            if StopSignals.children_ignore_signals:
                return
            # A process that was forked from ours, by an environment perhaps: not ours to keep.
            signal.signal(number, self._previous[number])
            signal.raise_signal(number)
            return
        self.received = number
        _leave_dead_terminal()
        more = "."
        if not self._patient:
            signal.signal(number, self._previous[number])
            more = "; once more ends at once."
        if self._silent:
            return
        say(f"\nStopping at the next safe point{more}", stderr=True)


@contextlib.contextmanager
def children_ignoring_signals() -> Iterator[None]:
    """Have processes that are forked meanwhile take no notice of signals from their start on.

    A signal to a whole process group reaches them before they can see to it themselves. Unlike
    with `held_back`, it is noted in this process at once, and a second one ends it.
    """
    StopSignals.children_ignore_signals = True
    try:
        yield
    finally:
        StopSignals.children_ignore_signals = False


def say_stopped(error: KeyboardInterrupt) -> None:
    """Say on standard error that a signal has ended a command, and how to go on.

    Args:
        error: it; its text and its notes say how, if it has some.
    """
    how = [text for text in (str(error), *getattr(error, "__notes__", ())) if text]
    said = " ".join(["Stopped.", *(how or ["To go on, give the same command again."])])
    say(f"\n{said}", stderr=True)


def _leave_dead_terminal() -> None:
    """Write no more to a terminal that has hung up, where each line would raise an error."""
    for descriptor in (1, 2):
        try:
            os.write(descriptor, b"")
        except OSError as error:
            if error.errno == errno.EIO:
                with open(os.devnull, "wb") as nowhere:
                    os.dup2(nowhere.fileno(), descriptor)


@contextlib.contextmanager
def noting(stop: StopSignals | None, launched: bool = False) -> Iterator[StopSignals]:
    """Note signals for a caller who sees to them, or until the end of this context.

    Args:
        stop: the caller's; None: a signal is noted here and obeyed at the end, when all is saved.
        launched: by a program that passes on the signals that reach it, and starts again what they
            end: none is obeyed.
    """
    noted = StopSignals(patient=launched) if stop is None else stop
    is_obeyed = stop is not None or launched
    try:
        with noted:
            yield noted
    except KeyboardInterrupt:  # a second Ctrl-C is the usual course of the first
        is_obeyed = is_obeyed or noted.received == signal.SIGINT
        raise
    finally:
        if not is_obeyed:
            noted.obey()


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Have the signals of `STOPPING` wait until this context ends.

    They wait too in a process that is started in it, until that calls `let_through`.
    """
    resource_tracker.ensure_running()  # else the start does it, and lets signals through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def let_through() -> None:
    """End in this process what `held_back` began in its parent."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)


def is_daemon() -> bool:
    """Whether multiprocessing lets this process start no others."""
    return current_process().daemon


def check_may_start_others(fix: str) -> None:
    """Refuse what starts processes in one that may start none.

    Args:
        fix: what to set, in the beginning of a sentence.

    Raises:
        UserError: this process may start none.
    """
    if is_daemon():
        raise UserError(
            "This process may start no others: it is a daemon of multiprocessing, as the workers "
            f"of a Pool are. {fix}, or use a concurrent.futures.ProcessPoolExecutor, whose "
            "workers may."
        )


def join_within(processes: Collection[BaseProcess], seconds: float) -> None:
    """Wait for the ends of these processes, so many seconds in all."""
    deadline = time.monotonic() + seconds
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))


def kill(processes: Collection[BaseProcess]) -> None:
    """End processes that may not listen."""
    for process in processes:
        process.kill()
    for process in processes:
        process.join()


def when_parent_ends(act: Callable[[], object]) -> None:
    """Call `act`, in a thread of its own, when the process that started this one is gone.

    The operating system reports the end, so that `kill -9` of the parent is no exception.
    """
    parent = parent_process()
    if parent is None:
        raise RuntimeError("this process was not started by multiprocessing")
    sentinel = parent.sentinel

    def wait() -> None:
        connection.wait([sentinel])
        act()

    threading.Thread(target=wait, name="parent watch", daemon=True).start()
