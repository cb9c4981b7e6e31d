"""Runs that cannot be compared beside others that can."""

from pathlib import Path

import numpy as np
import pytest

from recurrent_rl.experiments.benchmark import Outcome
from recurrent_rl.experiments.job import Job
from recurrent_rl.runs.evaluation_result import Evaluation, EvaluationSummary, SavedEvaluation
from recurrent_rl.runs.folder import RunFolder
from tests.recurrent_rl.cli.commands import ended
from tests.recurrent_rl.runs.small_runs import config

pytest.importorskip("matplotlib", reason="the extra plot is not installed")
pytest.importorskip("scipy", reason="the extra plot is not installed")


def a_run(path: Path, timesteps: int, seed: int = 0, episodes: int = 4) -> RunFolder:
    """A run of 768 steps whose evaluation is after so many."""
    folder = RunFolder(path)
    folder.begin(config(path.parent, seed=seed))
    played = Evaluation(np.full(episodes, 0.5), np.full(episodes, 7), np.zeros(0))
    folder.save_evaluation(SavedEvaluation(timesteps, episodes, EvaluationSummary.of(played)))
    return folder


def test_what_is_left_out_of_a_comparison_is_told_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    a_run(Path("runs/whole"), 768)
    a_run(Path("runs/stopped"), 256, seed=1)
    a_run(Path("runs/twice"), 768, episodes=3)
    RunFolder(Path("runs/fresh")).begin(config(tmp_path))
    status, out, err = ended(["compare", "runs"], capsys)
    assert (status, err) == (0, "")
    assert out.count("Left out: ") == 3
    assert "Left out: runs/stopped cannot be compared: its evaluation is of 256 of 768" in out
    assert "Left out: runs/fresh has no evaluation yet; make it: recurrent-rl evaluate" in out
    assert "Left out: runs/twice has the settings and the seed of runs/whole, which counts" in out
    assert "| TMaze | 0.000768 M | 1 | 0.500 ± 0.000 |" in Path("comparison/results.md").read_text()

    status, _, err = ended(["compare", "runs/stopped", "runs/fresh"], capsys)
    assert (status, "runs/stopped cannot be compared" in err) == (2, True)


def test_a_benchmark_tells_of_runs_that_failed_where_no_other_can_be_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    failed = Outcome({Path("there"): "no such door"}, None)
    monkeypatch.setattr("recurrent_rl.experiments.benchmark.run_all", lambda *_: failed)
    monkeypatch.setattr(Job, "done", True)
    status, out, err = ended(["benchmark", "memory", "--out", "nothing"], capsys)
    assert "Failed: there: no such door  (see its log.txt)\n" in out
    assert (status, "There is no run in 'nothing'" in err) == (2, True)
