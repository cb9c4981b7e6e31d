"""`recurrent-rl train`: what it prints, how it ends, and what of a run and its disk is told."""

import errno
import re
import sys
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from recurrent_rl.cli import _fault_of_machine
from recurrent_rl.runs.folder import RunFolder
from tests.recurrent_rl.cli.commands import TINY, ended, run
from tests.recurrent_rl.unwritable import unwritable


def test_training_ends_with_an_evaluation_and_the_next_commands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run(
        "train", "recurrent_rl/TMaze-v0", *TINY, "--eval-episodes=20", "--memory=lstm", cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    (run_dir,) = (tmp_path / "runs").iterdir()
    text = result.stdout.replace("\n", "")
    for expected in (
        "Trained for 512 steps",
        "20 episodes",
        "95 % interval",
        "best memoryless",
        f"Policy:    runs/{run_dir.name}/policy.safetensors",
        "recurrent-rl monitor runs",
        f"recurrent-rl evaluate runs/{run_dir.name}",
        "recurrent_rl.load_policy(",
    ):
        assert expected in text
    assert "Training: 512 of 512" in result.stderr
    events = EventAccumulator(str(tmp_path / "runs" / run_dir.name))
    events.Reload()
    (evaluated,) = events.Scalars("eval/mean_reward")
    assert evaluated.step == 512
    resume = ["train", "--resume", str(run_dir)]
    status, out, err = ended([*resume, "--total-timesteps=1024"], capsys)
    assert status == 0, err
    assert re.search(r"Trained for 512 steps in \d+ s, 1,024 in all\.", out)
    assert "the learning rate goes from" in out
    assert "20 episodes" in out
    status, out, err = ended(resume, capsys)
    assert status == 0, err
    assert "has all its 1,024 steps already; raise --total-timesteps" in out
    assert "20 episodes" not in out
    status, _, err = ended([*resume, "--total-timesteps=512"], capsys)
    assert status == 2
    assert "1,024 steps already, more than total_timesteps 512" in err


WEARS_OUT = """
import gymnasium as gym

class WearsOut(gym.Env):
    # Pays a reward for 3,000 steps in all, and none after them.
    observation_space = gym.spaces.Box(-1.0, 1.0, (2,))
    action_space = gym.spaces.Discrete(2)
    taken = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.here = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        WearsOut.taken += 1
        self.here += 1
        paid = float(WearsOut.taken < 3_000)
        return self.observation_space.sample(), paid, self.here == 4, False, {}
"""


@pytest.mark.parametrize(("kept", "told"), [([], True), (["--eval-interval=512"], False)])
def test_a_policy_that_fell_is_said_to_have_been_better(
    kept: list[str],
    told: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = f"wears_out_{told}"
    (tmp_path / f"{name}.py").write_text(WEARS_OUT)
    monkeypatch.chdir(tmp_path)
    task = ["train", f"{name}:WearsOut", *TINY, "--total-timesteps=6000", *kept]
    status, out, err = ended(task, capsys)
    assert status == 0, err
    fell = re.search(r"was 4 after ([\d,]+) steps, and fell to 0\. To keep.*--eval-interval N", out)
    assert (fell is not None) == told
    if fell is not None:
        assert 400 <= int(fell[1].replace(",", "")) < 3_000


def test_a_module_of_the_working_directory_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the installed command runs: its path begins with the folder of scripts, not with this."""
    (tmp_path / "corridor_here.py").write_text(
        "import gymnasium as gym\ngym.register('Here-v0', 'recurrent_rl.envs.tmaze:TMazeEnv')\n"
    )
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.chdir(tmp_path)
    status, _, err = ended(["train", "corridor_here:Here-v0", *TINY, "--eval-episodes=0"], capsys)
    assert status == 0, err


@pytest.mark.parametrize("where", ["os.fsync", "recurrent_rl.runs.monitor.Monitor.log"])
def test_a_full_disk_ends_training_with_status_2_and_the_fix(
    where: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(where, fail)
    task = ["recurrent_rl/TMaze-v0", *TINY, "--log-dir", str(tmp_path)]
    status, _, err = ended(["train", *task], capsys)
    assert status == 2
    assert err.count("No space left on device") == 1
    assert "ake room" in err
    assert "is untouched" not in err  # there was no file before
    (run_dir,) = tmp_path.iterdir()
    assert not list(run_dir.glob(".*.saving"))


@pytest.mark.parametrize("kind", ["without a reader", "hung up", "on a full disk"])
def test_output_that_cannot_be_written_ends_no_training(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("recurrent_rl.runs.progress.LOG_SECONDS", 0.0)
    out, err = unwritable(kind), unwritable(kind)
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr("sys.stderr", err)
    task = ["recurrent_rl/TMaze-v0", *TINY, "--log-dir", str(tmp_path), "--eval-episodes=8"]
    status, *_ = ended(["train", *task], capsys)
    assert status == (2 if kind == "on a full disk" else 0)  # the results had no room
    (run_dir,) = tmp_path.iterdir()
    assert RunFolder(run_dir).evaluated_timesteps() == 512
    for stream in (out, err):
        stream.close()  # raises where something is left to write


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.EMFILE, "Too many open files"), "ulimit -n 4096"),
        (OSError(errno.EAGAIN, "Resource temporarily unavailable"), "no room for another process"),
        (MemoryError(), "not enough memory (MemoryError). Make what is trained smaller"),
        (RuntimeError("CUDA out of memory. Tried"), "not enough memory (CUDA out of memory"),
    ],
)
def test_what_the_machine_lacks_is_told_with_the_fix_and_how_to_resume(
    error: Exception,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("recurrent_rl.trainer.Trainer.iterate", fail)
    task = ["recurrent_rl/TMaze-v0", *TINY, "--log-dir", str(tmp_path)]
    status, _, err = ended(["train", *task], capsys)
    assert status == 2
    assert told in err
    assert "recurrent-rl train --resume" in err


def test_a_real_allocation_that_fails_is_one_of_memory(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**60, dtype=torch.uint8)
    assert "not enough memory" in (_fault_of_machine(raised.value) or "")
    assert _fault_of_machine(RuntimeError("shapes differ")) is None
    assert _fault_of_machine(OSError(errno.EIO, "Input/output error")) is None


def test_a_run_folder_that_cannot_be_written_to_is_told(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("filelock.FileLock.acquire", fail)
    status, _, err = ended(["train", "--resume", str(finished)], capsys)
    assert (status, f"{finished} cannot be written to" in err) == (2, True)


@pytest.mark.parametrize(
    "content", [b"\xff\xfe{}", b"{", b"[]", b"null", b'"text"', b"[" * 5000, b'{"agent": 3}']
)
def test_a_config_that_cannot_be_read_is_told(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_bytes(content)
    status, _, err = ended(["train", "--resume", str(tmp_path)], capsys)
    assert status == 2
    assert "config.json cannot be read" in err


FAILING = """
import gymnasium as gym
import numpy as np

class Failing(gym.Env):
    observation_space, action_space = gym.spaces.Box(-1, 1, (2,)), gym.spaces.Discrete(2)
    t = 0
    def reset(self, *, seed=None, options=None):
        return np.zeros(2, np.float32), {}
    def step(self, action):
        self.t += 1
        if self.t > 40:
            raise ConnectionError("simulator lost")
        return np.zeros(2, np.float32), 1.0, self.t % 5 == 0, False, {}

gym.register("Failing-v0", Failing)
"""


def test_an_error_of_an_environment_is_told_with_its_line_and_how_to_resume(
    tmp_path: Path,
) -> None:
    (tmp_path / "my_envs.py").write_text(FAILING)
    result = run("train", "my_envs:Failing-v0", *TINY, cwd=tmp_path)
    assert result.returncode == 1
    (run_dir,) = (tmp_path / "runs").iterdir()
    line = FAILING.splitlines().index('            raise ConnectionError("simulator lost")') + 1
    where = f"(line {line} of {tmp_path / 'my_envs.py'})"
    assert f"Your code raised ConnectionError: simulator lost {where}." in result.stderr
    assert "Traceback" not in result.stderr
    assert f"recurrent-rl train --resume runs/{run_dir.name}" in result.stderr
    assert (run_dir / "checkpoint.safetensors").exists()
    if sys.version_info >= (3, 11):
        assert result.stderr.splitlines()[-1].startswith("The run on my_envs:Failing-v0 failed in")
