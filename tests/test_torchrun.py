"""Workers that torchrun starts: they join, survive being killed, and leave when asked to."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from recurrent_rl import load_policy
from recurrent_rl.runs.folder import RunFolder

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
TRAIN = (
    *("-m", "recurrent_rl", "train", "recurrent_rl/RepeatPrevious-Easy-v0", "--quiet"),
    *("--num-envs", "8", "--num-steps", "52", "--hidden-size", "16", "--device", "cpu"),
    *("--checkpoint-interval", "0", "--eval-episodes", "0"),
)


def start(folder: Path, steps: int, *options: str) -> subprocess.Popen[str]:
    folder.mkdir()
    command = [*TORCHRUN, *options, *TRAIN, "--total-timesteps", str(steps)]
    return subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd())},
    )


def workers_of(launcher: subprocess.Popen[str]) -> list[int]:
    """The processes that torchrun has started."""
    found = subprocess.run(
        ["pgrep", "-P", str(launcher.pid), "-f", "recurrent_rl"], capture_output=True, text=True
    )
    return [int(pid) for pid in found.stdout.split()]


def run_of(folder: Path) -> RunFolder:
    (path,) = (folder / "runs").iterdir()
    return RunFolder(path)


def wait_for_checkpoint(folder: Path, launcher: subprocess.Popen[str], after: float) -> bool:
    """Wait for one that is newer; false where torchrun has ended."""
    while launcher.poll() is None:
        for file in folder.glob("runs/*/checkpoint.safetensors"):
            if file.stat().st_mtime > after:
                return True
        time.sleep(0.02)
    return False


@pytest.mark.slow
def test_workers_that_are_killed_learn_what_the_undisturbed_do(tmp_path: Path) -> None:
    """With as many kills as KILLS says, 3 by default."""
    kills, steps = int(os.environ.get("KILLS", "3")), 416 * 60
    undisturbed = start(tmp_path / "undisturbed", steps)
    assert undisturbed.communicate(timeout=600)[0] is not None
    killed, chance = 0, random.Random(0)
    launcher = start(tmp_path / "disturbed", steps, "--max-restarts", "100")
    since = time.time()
    while killed < kills and wait_for_checkpoint(tmp_path / "disturbed", launcher, since):
        time.sleep(chance.random() * 0.2)
        if pids := workers_of(launcher):
            os.kill(chance.choice(pids), signal.SIGKILL)
            killed += 1
            since = time.time() + 0.5
    output, _ = launcher.communicate(timeout=600)
    assert killed == kills, output
    assert launcher.returncode == 0, output
    one, other = (run_of(tmp_path / name) for name in ("undisturbed", "disturbed"))
    weights = load_policy(one.policy).agent.state_dict()
    for name, x in load_policy(other.policy).agent.state_dict().items():
        assert torch.equal(x, weights[name]), name


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_worker_saves_and_looks_like_success(tmp_path: Path, rank: int) -> None:
    launcher = start(tmp_path / "it", 416 * 10_000)
    assert wait_for_checkpoint(tmp_path / "it", launcher, 0.0)
    os.kill(sorted(workers_of(launcher))[rank], signal.SIGTERM)
    output, _ = launcher.communicate(timeout=60)
    assert launcher.returncode == 0, output
    assert run_of(tmp_path / "it").state().value == "stopped"
    assert output.count("resume: recurrent-rl train --resume") == 1
