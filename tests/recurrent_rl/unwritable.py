"""Streams that cannot be written to, as a command may have for its output."""

import os
from typing import TextIO

UNWRITABLE = ["without a reader", "hung up", "on a full disk", "closed"]


def unwritable(kind: str) -> TextIO:
    """A stream of this kind."""
    if kind == "without a reader":
        reading, writing = os.pipe()
        os.close(reading)
        return os.fdopen(writing, "w")
    if kind == "hung up":
        master, terminal = os.openpty()
        os.close(master)
        return os.fdopen(terminal, "w")
    stream = os.fdopen(os.open("/dev/full", os.O_WRONLY), "w")
    if kind == "closed":
        stream.close()
    return stream
