"""Words for whoever reads them: that nobody does, or that a disk is full, stops no work."""

from __future__ import annotations

import errno
import os
import re
import sys
from contextlib import suppress
from typing import IO

UNREAD = (errno.EPIPE, errno.EIO)
"""Errors of writing to what nobody reads any more: a pipe, a terminal that has hung up."""


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def without_controls(text: str) -> str:
    """The text with escapes for control characters, but for line ends and tabs.

    To a terminal they are commands, and the text may be of a file that anyone has made.
    """
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def say(*lines: str, stderr: bool = False) -> None:
    """Print these lines to standard output or error; where that fails, do nothing."""
    stream = sys.stderr if stderr else sys.stdout
    if stream is None:  # as under pythonw, or where a shell has closed it
        return
    try:
        for line in lines:
            print(line, file=stream, flush=True)
    except OSError:
        forget_unwritten(stream)
    except (RuntimeError, ValueError):  # amid another print, in a signal handler; a closed stream
        pass


def forget_unwritten(stream: IO[str]) -> None:
    """Have a stream that cannot be written to forget what it holds.

    Else that is tried again, and fails, wherever a process is started, and when Python ends. The
    stream's descriptor leads elsewhere meanwhile, and is as before afterwards.
    """
    # A stream without a descriptor holds nothing that Python would write.
    with suppress(OSError, RuntimeError, ValueError), open(os.devnull, "wb") as nowhere:
        descriptor = stream.fileno()
        before = os.dup(descriptor)
        try:
            os.dup2(nowhere.fileno(), descriptor)
            stream.flush()
        finally:
            os.dup2(before, descriptor)
            os.close(before)
