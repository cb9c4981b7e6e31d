"""The command line as a user meets it: what it prints, how it ends, and never a traceback."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from recurrent_rl.agents.actor_critic import AgentConfig
from recurrent_rl.benchmark import Outcome
from recurrent_rl.cli import main
from recurrent_rl.config import TrainConfig
from recurrent_rl.training import locked, train

TINY = [
    "--num-envs=8",
    "--num-steps=16",
    "--total-timesteps=512",
    "--hidden-size=8",
    "--encoder-size=8",
]


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "recurrent_rl", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=120,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = TrainConfig(
        "recurrent_rl/TMaze-v0",
        log_dir=str(tmp_path_factory.mktemp("runs")),
        num_envs=8,
        num_steps=16,
        total_timesteps=256,
        agent=AgentConfig("lstm", hidden_size=8, encoder_size=8),
    )
    return train(config, progress=False).run_dir


def test_training_ends_with_an_evaluation_and_the_next_commands(tmp_path: Path) -> None:
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
    again = run("train", "--resume", str(run_dir), "--total-timesteps=1024", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "Trained for 1,024 steps" in again.stdout


def test_evaluation_shows_what_memory_is_worth(finished: Path) -> None:
    for target in (finished, finished / "policy.safetensors"):
        result = run("evaluate", str(target), "--episodes=30", "--num-envs=10")
        assert result.returncode == 0, result.stderr
        for expected in (
            "30 episodes",
            "likeliest actions",
            "sampled actions",
            "memory reset",
            "best possible",
            "success",
        ):
            assert expected in result.stdout
    again = run("evaluate", str(finished), "--episodes=30", "--num-envs=10")
    assert again.stdout == result.stdout


def test_a_policy_plays_in_another_environment_of_the_same_spaces(finished: Path) -> None:
    result = run(
        "evaluate",
        str(finished),
        "--episodes=5",
        "--env-id=recurrent_rl/RepeatFirst-Easy-v0",
        "--no-compare",
    )
    assert result.returncode == 0, result.stderr
    assert "RepeatFirst-Easy" in result.stdout
    assert "memory reset" not in result.stdout


def test_environments_are_listed_with_what_can_be_earned() -> None:
    result = run("envs")
    assert result.returncode == 0, result.stderr
    for expected in ("recurrent_rl/TMaze-v0", "Discrete(4)", "memoryless", "-0.49"):
        assert expected in result.stdout
    assert "Probe" not in result.stdout
    assert "Probe" in run("envs", "--probes").stdout


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--help"],
        ["--version"],
        *([c, "--help"] for c in ("train", "evaluate", "envs", "monitor")),
    ],
)
def test_help_is_help(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.returncode == 0
    assert "recurrent-rl" in result.stdout
    if arguments == ["train", "--help"]:
        for expected in ("--num-envs", "--memory", "Memory cell: none, rnn", "--hide-indices"):
            assert expected in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tarin"], "Unknown command 'tarin'; use one of train, evaluate, envs, monitor"),
        (["train", "CartPol-v1"], "Did you mean CartPole-v1"),
        (["train", "CartPole-v1", "--memory", "lsmt"], "Did you mean lstm"),
        (["train", "CartPole-v1", "--num-envs", "-1"], "num_envs is -1; it must be at least 0"),
        (["train", "CartPole-v1", "--hidden-size", "-3"], "hidden_size is -3"),
        (["train", "CartPole-v1", "--num-envs", "6"], "does not divide the 6 chunks"),
        (["train", "CartPole-v1", "--env-kwargs", "{"], "not JSON"),
        (["train", "CartPole-v1", "--device", "tpu"], "Device 'tpu' cannot be used"),
        (["train", "CartPole-v1", "--colour", "red"], "--colour"),
        (["train", "--resume", "nowhere"], "nowhere holds no run"),
        (["evaluate", "nowhere.safetensors"], "There is no file nowhere.safetensors"),
        (["monitor", "nowhere"], "no folder 'nowhere'"),
    ],
)
def test_a_mistake_is_answered_with_the_fix_status_2_and_no_traceback(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    result = run(*arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert message in (result.stderr + result.stdout).replace("\n", " ")
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "runs").exists()


def test_a_damaged_policy_or_one_for_other_spaces_is_refused(
    finished: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "policy.safetensors"
    damaged.write_bytes((finished / "policy.safetensors").read_bytes()[:-9])
    result = run("evaluate", str(damaged))
    assert (result.returncode, "is truncated" in result.stderr) == (2, True)
    result = run("evaluate", str(finished), "--env-id=CartPole-v1")
    assert (result.returncode, "CartPole" in result.stderr or "Box" in result.stderr) == (2, True)
    result = run("evaluate", str(finished / "checkpoint.safetensors"))
    assert (result.returncode, "is not a recurrent_rl.policy file" in result.stderr) == (2, True)


# ------------------------------------------------------------- names that rich would take as markup

ODD = "[bold]x[/bold] [/] :smile:"


def ended(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[Any, str, str]:
    """Status, output and errors of a command, run in this process."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    printed = capsys.readouterr()
    return caught.value.code, printed.out, printed.err


def test_a_folder_of_any_name_is_printed_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    task = ["recurrent_rl/TMaze-v0", *TINY, "--memory=lstm", "--log-dir", ODD]
    status, out, _ = ended(["train", *task, "--eval-episodes=5"], capsys)
    (run_dir,) = Path(ODD).iterdir()
    assert status == 0
    assert f"Policy:    {run_dir}/policy.safetensors\n" in out
    assert f'load_policy("{run_dir}/policy.safetensors")' in out
    for line in (f"Watch:     recurrent-rl monitor '{ODD}'", f"recurrent-rl evaluate '{run_dir}'"):
        assert f"{line}\n" in out  # to be copied into a shell

    status, _, err = ended(["train", "--resume", f"{ODD}/none"], capsys)
    assert (status, f"error: {ODD}/none holds no run" in err) == (2, True)
    status, _, err = ended(["evaluate", f"{ODD}.safetensors"], capsys)
    assert (status, f"There is no file {ODD}.safetensors" in err) == (2, True)
    with locked(run_dir):
        status, _, err = ended(["train", "--resume", str(run_dir)], capsys)
        assert (status, f"Another process is training {run_dir}." in err) == (2, True)

    assert ended(["evaluate", str(run_dir), "--episodes=5"], capsys)[0] == 0
    status, out, _ = ended(["compare", ODD, "--out", f"{ODD}/out"], capsys)
    assert status == 0
    assert f"Results:  {ODD}/out/results.md\n" in out
    assert f"Curves:   {ODD}/out/curves.png\n" in out


@pytest.mark.filterwarnings("ignore:html5lib's sanitizer:DeprecationWarning")  # TensorBoard's
def test_a_benchmark_and_a_monitor_print_any_name_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    failed = Outcome({Path(ODD): "no [/] memory"}, None)
    monkeypatch.setattr("recurrent_rl.benchmark.run_all", lambda *_: failed)
    status, out, _ = ended(["benchmark", "memory", "--out", ODD], capsys)
    assert (status, f"Failed: {ODD}: no [/] memory  (see its log.txt)\n" in out) == (1, True)

    status, _, err = ended(["monitor", ODD], capsys)
    assert (status, f"There is no folder {ODD!r}" in err) == (2, True)
    Path(ODD).mkdir(parents=True)
    monkeypatch.setattr("tensorboard.program.TensorBoard.launch", lambda _: "http://[::1]:6006/")
    monkeypatch.setattr("time.sleep", lambda _: os.kill(os.getpid(), signal.SIGTERM))
    status, out, _ = ended(["monitor", ODD], capsys)
    assert status == 143
    assert f"TensorBoard shows {ODD} at http://[::1]:6006/  (Ctrl-C ends it)\n" in out


# ------------------------------------------------------------------------------ disks at fault


@pytest.mark.parametrize("where", ["os.fsync", "recurrent_rl.monitor.Monitor.log"])
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
    assert "No space left on device" in err
    assert "ake room" in err
    (run_dir,) = tmp_path.iterdir()
    assert not list(run_dir.glob(".*.saving"))


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
