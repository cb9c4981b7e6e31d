"""What all tests share: one thread each, since pytest-xdist runs several of them side by side."""

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported, here and in children

USUAL: dict[signal.Signals, Any] = {
    signal.SIGHUP: signal.SIG_DFL,
    signal.SIGINT: signal.default_int_handler,
}


@pytest.fixture(scope="session", autouse=True)
def signals_as_usual() -> Iterator[None]:
    """`nohup pytest` hands on that SIGHUP is ignored, a script's `pytest &` that SIGINT is.

    Runs respect both, and the tests send both.
    """
    ignored = [number for number in USUAL if signal.getsignal(number) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, USUAL[number])
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)
