"""What all tests share: one thread each, and which of pytest-xdist's processes runs what."""

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported, here and in children

ONE_PROCESS = (
    "tests/recurrent_rl/test_group.py",  # six processes are started once
    "tests/test_packaging.py",  # wheel and sdist are built once
    "tests/test_signals.py",  # one process imports everything once
)
"""Modules whose fixtures take long: all tests of one run in the same process."""

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


class ByModule(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
    """Each test goes to the next free process, but all of a module of `ONE_PROCESS` to the same."""

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        return module if module in ONE_PROCESS else nodeid


@pytest.hookimpl(optionalhook=True)  # so that `-p no:xdist` does without
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    """For `-n`, where no other way of distributing is named by `--dist`."""
    return ByModule(config, log) if config.getoption("dist") == "load" else None
