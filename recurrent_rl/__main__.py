"""The command `recurrent-rl`, also as `python -m recurrent_rl`: Ctrl-C ends it in a sentence.

Nothing is imported here that takes long, so that Ctrl-C is heard from the first moment on.
"""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False  # typing is long to import
if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn

INTERRUPTED = 128 + signal.SIGINT
"""Exit status of a command that Ctrl-C has ended."""

_interrupted_in: int | None = None
"""The process in which Ctrl-C was heard, once it was."""


def main() -> None:
    """Run the command line as `recurrent_rl.cli.main` does, and end in a sentence on Ctrl-C."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored
        signal.signal(signal.SIGINT, _interrupt)
    try:
        from recurrent_rl.cli import main as run

        run()
    except SystemExit:
        raise
    except BaseException:
        if _interrupted_in != os.getpid():
            raise
        _end()  # whatever error it was: it came of Ctrl-C
    finally:  # what is left is Python's: to tidy up
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """Raise KeyboardInterrupt; end at once amid an import.

    There Python may print it and go on, and C++ may abort.
    """
    global _interrupted_in
    _interrupted_in = os.getpid()
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            _end()
        frame = frame.f_back
    raise KeyboardInterrupt


def _end() -> NoReturn:
    """Say that the command was stopped, and end it here."""
    try:
        os.write(2, b"\nStopped. To go on, give the same command again.\n")
        sys.stdout.flush()
    finally:  # also where nobody reads it any more, or the signal came amid a print
        os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
