"""What is left to read of a long command with --quiet, or where Ctrl-C comes at its end."""

import re
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from recurrent_rl.cli import main

TUNE = "recurrent_rl.experiments.tuning.search.tune"
TINY = ["--num-envs=8", "--num-steps=16", "--total-timesteps=256", "--hidden-size=8"]


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit, match="0"):
        main([*arguments])
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def test_long_commands_print_one_line_where_they_are_quiet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    train = ["train", "recurrent_rl/TMaze-v0", *TINY, "--eval-episodes=5"]
    line = printed(capsys, *train, "--quiet")
    (run_dir,) = Path("runs").iterdir()
    figures = r"mean return of 5 episodes: deterministic actions -?[\d.]+"
    assert re.fullmatch(rf"{run_dir}: 256 steps, {figures}\n", line)

    line = printed(capsys, "train", "--resume", str(run_dir), "--total-timesteps=384", "-q")
    assert re.fullmatch(rf"{run_dir}: 384 steps, {figures}\n", line)
    line = printed(capsys, "evaluate", str(run_dir), "--episodes=5", "-q")
    others = r", stochastic actions -?[\d.]+, memory reset every step -?[\d.]+"
    assert re.fullmatch(rf"{run_dir}/policy.safetensors: {figures}{others}\n", line)
    line = printed(capsys, "evaluate", str(run_dir), "--episodes=1", "-q", "--no-compare")
    assert ": mean return of 1 episode: deterministic" in line
    assert printed(capsys, *train, "-q", "--eval-episodes=0").endswith(": 256 steps\n")


def test_a_quiet_benchmark_prints_where_its_results_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["benchmark", "memory", "--tasks=TMaze", "--memories=gru", "--seeds=1", "--jobs=1"]
    arguments += ["--total-timesteps=256", "--episodes=5", "-q"]
    assert printed(capsys, *arguments) == "Results:   runs/benchmark-memory/results.md\n"
    assert Path("runs/benchmark-memory/curves.png").exists()


def test_a_quiet_command_keeps_its_errors(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["train", "CartPol-v1", "--quiet"])
    assert "Did you mean CartPole-v1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "trained", "status"),
    [("train", "recurrent_rl.runs.training.train", 0), ("tune", TUNE, signal.SIGINT + 128)],
)
def test_ctrl_c_while_a_result_is_printed_lets_it_be_told_to_its_end(
    command: str,
    trained: str,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def printing(*_: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        print("Next:")

    monkeypatch.setattr(trained, lambda *_, **__: SimpleNamespace(stopped_by=None))
    monkeypatch.setattr(f"recurrent_rl.cli.{command}._print_result", printing)
    with pytest.raises(SystemExit, match=str(status)):
        main([command, "recurrent_rl/TMaze-v0"])
    assert capsys.readouterr().out == "Next:\n"
