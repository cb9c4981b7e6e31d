"""A process that a benchmark or a search starts for a part of its work, and ends with itself."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from recurrent_rl.agents.raising import in_words
from recurrent_rl.signals import (
    StopSignals,
    check_may_start_others,
    held_back,
    let_through,
    when_parent_ends,
)

Tell = Callable[[Any], None]
"""Sends something to the parent; nothing happens where that is gone."""
Work = Callable[[StopSignals, Tell], object]
"""Does the work until a signal comes; it can be pickled."""


class Child:
    """A process that does some work, and ends on a signal or when its parent is gone.

    Args:
        work: what it does; an error that it raises is told in a sentence.
        silent: say nothing of signals there.

    Raises:
        UserError: this process may start no others.
    """

    def __init__(self, work: Work, silent: bool = False) -> None:
        check_may_start_others("Set processes to 1")
        context = get_context("spawn")
        self._told, telling = context.Pipe(duplex=False)
        self.process = context.Process(target=_do, args=(work, silent, telling))
        with held_back():
            self.process.start()
        telling.close()

    def told(self) -> Iterator[Any]:
        """What it has told since it was last asked."""
        with contextlib.suppress(EOFError, OSError):  # OSError: it was killed amid telling
            while self._told.poll():
                yield self._told.recv()


def _do(work: Work, silent: bool, telling: Connection) -> None:
    """Do the work in this process, which was started for it."""

    def tell(what: Any) -> None:
        with contextlib.suppress(OSError):  # nobody listens any more
            telling.send(what)

    with StopSignals(patient=True, silent=silent) as stop:
        let_through()
        when_parent_ends(lambda: os.kill(os.getpid(), signal.SIGTERM))
        try:
            work(stop, tell)
        except Exception as error:
            tell(in_words(error))
