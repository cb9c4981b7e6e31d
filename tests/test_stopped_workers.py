"""Whatever signal reaches whichever of two workers, and when: nothing saved is lost, none is left.

`tests/pausing.py` is the command, which pauses in the phase that a test names.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from recurrent_rl import load_policy, resume
from recurrent_rl.runs.folder import RunFolder, RunState
from tests.pausing import ITERATIONS, PHASES
from tests.recurrent_rl.runs.test_launch import is_gone

ROOT = Path(__file__).resolve().parents[1]
TRAIN = (
    *(str(ROOT / "tests" / "pausing.py"), "train", "recurrent_rl/RepeatPrevious-Easy-v0"),
    *("--quiet", "--num-envs", "4", "--num-steps", "8", "--num-minibatches", "2"),
    *("--total-timesteps", str(32 * ITERATIONS), "--hidden-size", "8", "--encoder-size", "8"),
    *("--device", "cpu", "--checkpoint-interval", "0", "--eval-episodes", "4"),
)
OWN = (sys.executable, *TRAIN, "--workers", "2")
TORCHRUN = (
    *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
    *("--max-restarts", "3", *TRAIN),
)


class Stop(NamedTuple):
    """A signal, and what comes of it."""

    number: signal.Signals
    to: tuple[str, ...]
    """Whom it reaches: workers by their rank, or the command."""
    status: int
    """Of the command."""


STOPS_OF_OWN = {
    "Ctrl-C": Stop(signal.SIGINT, ("0", "1"), 130),  # it reaches the whole process group
    "SIGTERM to 0": Stop(signal.SIGTERM, ("0",), 143),
    "SIGTERM to 1": Stop(signal.SIGTERM, ("1",), 143),
    "kill 0": Stop(signal.SIGKILL, ("0",), -9),
    "kill 1": Stop(signal.SIGKILL, ("1",), 2),
}
STOPS_OF_TORCHRUN = {
    "Ctrl-C": Stop(signal.SIGINT, ("command",), 1),  # its workers are in groups of their own
    "SIGTERM to 0": Stop(signal.SIGTERM, ("0",), 0),
    "SIGTERM to 1": Stop(signal.SIGTERM, ("1",), 0),
    "SIGTERM to torchrun": Stop(signal.SIGTERM, ("command",), 1),
    "SIGTERM to all": Stop(signal.SIGTERM, ("0", "1", "command"), 1),  # as SLURM does
    "kill 0": Stop(signal.SIGKILL, ("0",), 0),
    "kill 1": Stop(signal.SIGKILL, ("1",), 0),
}
BEFORE_THE_RUN = ("start", "start of the other")
"""Phases in which there is no folder yet."""
AFTER_THE_LAST_AGREEMENT = ("last policy", "last checkpoint", "on_end", "final evaluation")
"""Phases in which a signal to another worker than the first has no effect any more."""


class Started:
    """The command, in a folder of its own."""

    def __init__(self, folder: Path, command: tuple[str, ...], phase: str) -> None:
        self.folder = folder
        evaluating = ("--eval-interval", "96") if phase in ("evaluation", "on_evaluation") else ()
        self.process = subprocess.Popen(
            [*command, *evaluating],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PAUSE_IN": phase},
        )

    def until_paused(self) -> None:
        while not (self.folder / "paused").exists():
            assert self.process.poll() is None, self.process.communicate()[0]
            time.sleep(0.01)
        time.sleep(0.1)  # the others get to where they wait

    def pids(self) -> dict[str, int]:
        """The processes that the command has now."""
        workers = {str(i): int((self.folder / f"process-{i}").read_text()) for i in (0, 1)}
        return workers | {"command": self.process.pid}

    def end(self) -> str:
        """Go on; what was printed."""
        (self.folder / "go").touch()
        return self.process.communicate(timeout=120)[0]

    def run(self) -> RunFolder | None:
        """The run's folder; None where none was made."""
        found = list(self.folder.glob("runs/*"))
        assert len(found) <= 1
        return RunFolder(found[0]) if found else None


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that nothing stops."""
    started = Started(tmp_path_factory.mktemp("whole"), OWN, "never")
    output, _ = started.process.communicate(timeout=120)
    assert started.process.returncode == 0, output
    folder = started.run()
    assert folder is not None
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("stop", STOPS_OF_OWN)
def test_workers_of_ours(tmp_path: Path, whole: RunFolder, stop: str, phase: str) -> None:
    number, to, status = STOPS_OF_OWN[stop]
    started = Started(tmp_path, OWN, phase)
    output = stopped(started, number, to)
    late = to == ("1",) and (
        phase == "on_end" or (number == signal.SIGTERM and phase in AFTER_THE_LAST_AGREEMENT)
    )
    assert started.process.returncode == (0 if late else status), output
    assert "Traceback" not in output
    if number != signal.SIGKILL or (to == ("1",) and phase not in BEFORE_THE_RUN):
        assert output.count("recurrent-rl train --resume runs/") == (not late), output
    assert_goes_on_to_the_same_end(started, whole, output)


@pytest.mark.slow
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("stop", STOPS_OF_TORCHRUN)
def test_workers_of_torchrun(tmp_path: Path, whole: RunFolder, stop: str, phase: str) -> None:
    number, to, status = STOPS_OF_TORCHRUN[stop]
    started = Started(tmp_path, TORCHRUN, phase)
    output = stopped(started, number, to)
    assert started.process.returncode == status, output
    if number == signal.SIGKILL:
        folder = started.run()
        assert folder is not None
        assert folder.state() == RunState.EVALUATED, output
    assert_goes_on_to_the_same_end(started, whole, output)


def stopped(started: Started, number: signal.Signals, to: tuple[str, ...]) -> str:
    """Send the signal while the command pauses, and have it go on; what was printed."""
    started.until_paused()
    pids = started.pids()
    there = [name for name in to if not is_gone(pids[name])]
    for name in there:
        os.kill(pids[name], number)
    output = started.end()
    if not there:
        pytest.skip("this worker has nothing more to do in this phase, and has ended")
    deadline = time.monotonic() + 15
    while not all(map(is_gone, (pids | started.pids()).values())):
        assert time.monotonic() < deadline, "a process is left"
        time.sleep(0.05)
    return output


def assert_goes_on_to_the_same_end(started: Started, whole: RunFolder, output: str) -> None:
    """Resuming gives the weights of the run that nothing stopped, to the last bit."""
    if (folder := started.run()) is None:
        return
    if folder.state() != RunState.EVALUATED:
        resume(folder.path, progress=False)
    assert folder.state() == RunState.EVALUATED
    weights = load_policy(whole.policy).agent.state_dict()
    for name, x in load_policy(folder.policy).agent.state_dict().items():
        assert torch.equal(x, weights[name]), name
    assert not [path for path in folder.path.iterdir() if path.name.endswith(".saving")]
