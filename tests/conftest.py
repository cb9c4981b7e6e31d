"""What all tests share: one thread each, since pytest-xdist runs several of them side by side."""

import os
import signal
from collections.abc import Iterator

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported, here and in children


@pytest.fixture(scope="session", autouse=True)
def sighup_as_usual() -> Iterator[None]:
    """`nohup pytest` hands on that SIGHUP is ignored, which runs respect."""
    before = signal.getsignal(signal.SIGHUP)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)
