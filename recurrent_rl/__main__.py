"""The command `recurrent-rl`, also as `python -m recurrent_rl`: signals end it in a sentence.

Nothing is imported here that takes long, so that Ctrl-C is heard from the first moment on.
"""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False  # typing is long to import
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any, NoReturn

_previous: dict[int, Any] = {}
"""What each signal that ends a command did before: Ctrl-C, SIGTERM and SIGHUP."""
_process: int | None = None
"""The process that is the command; one that is forked from it obeys signals as before."""
_heard: int | None = None
"""The signal that has ended the command, once one has."""


class Ended(KeyboardInterrupt):
    """A signal has ended the command. SIGTERM and SIGHUP do as Ctrl-C does.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.status = 128 + number
        """Exit status of the command."""


def main() -> None:
    """Run the command line as `recurrent_rl.cli.main` does, and end in a sentence on a signal."""
    global _process
    _process = os.getpid()
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # SIGHUP: not on every system
        if number is None or (before := signal.getsignal(number)) in (signal.SIG_IGN, None):
            continue
        _previous[number] = before
        signal.signal(number, _interrupt)
    try:
        from recurrent_rl.cli import main as run

        run()
    except SystemExit:
        raise
    except BaseException:
        if _heard is None or _process != os.getpid():
            raise
        _end(_heard)  # whatever error it was: it came of the signal
    finally:  # what is left is Python's: to tidy up
        for number in _previous:
            signal.signal(number, signal.SIG_DFL)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise `Ended`; end at once amid an import.

    There Python may print it and go on, and C++ may abort.
    """
    global _heard
    if _process != os.getpid():
        signal.signal(number, _previous[number])
        signal.raise_signal(number)
        return
    _heard = number
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            _end(number)
        frame = frame.f_back
    raise Ended(number)


def _end(number: int) -> NoReturn:
    """Say that the command was stopped, and end it here."""
    try:
        os.write(2, b"\nStopped. To go on, give the same command again.\n")
        sys.stdout.flush()
    finally:  # also where nobody reads it any more, or the signal came amid a print
        os._exit(128 + number)


if __name__ == "__main__":
    main()
