"""What is returned can be compared and put in a set, also where it holds arrays."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recurrent_rl import Evaluation, RecordedEpisode, TrainConfig
from recurrent_rl.agents.export.check import Check
from recurrent_rl.agents.export.formats import Exported
from recurrent_rl.agents.export.signature import Signature
from recurrent_rl.experiments.results import Run
from recurrent_rl.experiments.tuning.files import TrialRecord, TuneFiles
from recurrent_rl.experiments.tuning.search import Confirmation, Finalist, TuneResult
from recurrent_rl.runs.evaluation_result import EvaluationSummary, SavedEvaluation
from recurrent_rl.runs.training import TrainResult


def an_evaluation() -> Evaluation:
    return Evaluation(np.array([1.0, 2.0]), np.array([3, 4]), np.zeros(0))


def a_run() -> Run:
    saved = SavedEvaluation(8, 2, EvaluationSummary.of(an_evaluation()))
    curve = np.array([4, 8]), np.array([0.0, 1.0])
    return Run(Path("run"), TrainConfig("recurrent_rl/TMaze-v0"), saved, *curve)


def a_search() -> TuneResult:
    trial = TrialRecord(0, "complete", 1.0, {"gamma": 0.9}, is_given=True)
    found = np.array([1.0, 2.0])
    finalists = (Finalist(trial, TrainConfig(), found),)
    files = TuneFiles(Path("study"))
    confirmed = Confirmation((1, 2), found, found)
    return TuneResult(files, (trial,), trial, TrainConfig(), {"gamma": 1.0}, finalists, confirmed)


def an_export() -> Exported:
    signature = Signature((), (), {"state": "next_state"}, 1)
    return Exported(Path("policy.onnx"), 9, signature, Check(1, 1, {"action": 0.0}, {"action": 1}))


def a_result() -> TrainResult:
    return TrainResult(Path("run"), Path("run/policy"), 8, 1.0, None, evaluation=an_evaluation())


def an_episode() -> RecordedEpisode:
    return RecordedEpisode(np.zeros(2), np.zeros(2, int))


@pytest.mark.parametrize("make", [an_evaluation, a_run, a_search, an_export, a_result, an_episode])
def test_what_is_returned_can_be_compared_and_hashed(make: Any) -> None:
    one, other = make(), make()
    assert one == one
    assert one in {one: 0}
    assert (one == other) == (make is an_export)  # what holds arrays is one with itself alone
