"""What a run left in its folder, read again, and evaluated anew."""

import os
import signal
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from recurrent_rl.agents.files import PolicyFileError
from recurrent_rl.config import TrainConfig
from recurrent_rl.envs.tmaze import TMazeEnv
from recurrent_rl.errors import UserError
from recurrent_rl.experiments.results import load_evaluated_run, load_run
from recurrent_rl.runs.callbacks import AnyCallback
from recurrent_rl.runs.folder import RunFolder
from recurrent_rl.runs.run_evaluation import evaluate_run
from recurrent_rl.runs.training import resume, train
from recurrent_rl.signals import StopSignals
from tests.recurrent_rl.cli.commands import ended
from tests.recurrent_rl.runs.small_runs import config


def test_runs_that_cannot_be_compared_say_what_to_do(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.save_config(TrainConfig("recurrent_rl/TMaze-v0"))
    with pytest.raises(UserError, match="no evaluation yet; make it: recurrent-rl evaluate"):
        load_evaluated_run(tmp_path)
    folder = RunFolder(tmp_path / "my runs")
    folder.path.mkdir()
    folder.save_config(TrainConfig("recurrent_rl/TMaze-v0"))
    with pytest.raises(UserError, match=r"make it: recurrent-rl evaluate '.*/my runs'"):
        load_evaluated_run(folder.path)
    folder.evaluation.write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        load_evaluated_run(folder.path)


@pytest.mark.parametrize("ends", ["settings", "callback"])
def test_a_run_that_was_ended_on_purpose_is_compared_after_its_last_step(
    ends: str, tmp_path: Path
) -> None:
    changes: dict[str, Any] = {"eval_episodes": 2}
    callbacks: list[AnyCallback] = []
    if ends == "settings":
        changes |= {"eval_interval": 256, "stop_at_return": -9.0}
    else:
        callbacks = [lambda state: state.stop("enough") if state.timesteps == 256 else None]
    result = train(config(tmp_path, **changes), progress=False, callbacks=callbacks)
    assert load_run(result.run_dir).evaluation == load_evaluated_run(result.run_dir).evaluation
    assert load_evaluated_run(result.run_dir).evaluation.timesteps == 256
    folder = RunFolder(result.run_dir)
    assert folder.stop_reason() == result.stop_reason
    if ends == "callback":
        resume(folder.path, progress=False)
        assert folder.stop_reason() is None
        assert load_evaluated_run(folder.path).evaluation.timesteps == 768


def test_a_run_that_a_signal_stopped_is_not_compared_though_it_was_evaluated(
    tmp_path: Path,
) -> None:
    def interrupt(state: Any) -> None:
        if state.timesteps == 256:
            os.kill(os.getpid(), signal.SIGINT)

    settings = config(tmp_path, eval_episodes=2)
    folder = RunFolder(
        train(settings, progress=False, callbacks=[interrupt], stop=StopSignals()).run_dir
    )
    evaluate_run(folder.path, 3, progress=False)
    evaluation = load_run(folder.path).evaluation
    assert evaluation is not None
    assert (evaluation.timesteps, evaluation.episodes) == (256, 3)
    with pytest.raises(UserError, match=r"it has 256 of 768 steps.*Resume it \(recurrent-rl train"):
        load_evaluated_run(folder.path)
    folder.evaluation.write_text(folder.evaluation.read_text().replace("256", "128"))
    assert load_run(folder.path).evaluation is None
    resume(folder.path, progress=False)
    assert load_evaluated_run(folder.path).evaluation.timesteps == 768


def test_a_run_without_an_evaluation_is_read_and_evaluated_from_python(tmp_path: Path) -> None:
    folder = RunFolder(train(config(tmp_path), progress=False).run_dir)
    before = load_run(folder.path)
    assert (before.config, before.evaluation) == (folder.load_config(), None)
    assert before.steps.tolist() == [256, 384, 512, 640, 768]  # none ended in the first rollout
    few = evaluate_run(folder.path, 3, compare=False, progress=False)
    assert (few.timesteps, few.episodes, few.stochastic) == (768, 3, None)
    found = evaluate_run(folder.path, 4, progress=False)
    assert found.stochastic is not None
    assert found.memory_ablation is not None
    assert evaluate_run(folder.path, 2, progress=False) == found  # which is finer, and stays
    after = load_evaluated_run(folder.path)
    assert after.evaluation == found == folder.load_evaluation()
    np.testing.assert_array_equal(after.returns, before.returns)


def test_a_run_is_evaluated_from_python_as_by_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder(train(config(tmp_path, seed=3), progress=False).run_dir)
    found = evaluate_run(folder.path, 6, compare=False, progress=False)
    folder.evaluation.unlink()
    assert ended(["evaluate", str(folder.path), "--episodes", "6", "--no-compare"], capsys)[0] == 0
    assert folder.load_evaluation() == found


def test_the_evaluation_of_a_run_takes_the_environment_that_was_given_to_it(tmp_path: Path) -> None:
    def make() -> gym.Env[Any, Any]:
        return gym.make("recurrent_rl/TMaze-v0", length=3)

    settings = config(tmp_path, None)
    folder = RunFolder(train(settings, make, progress=False).run_dir)
    advice = r"make it: recurrent_rl\.evaluate_run\('.*', env=\.\.\.\)"
    with pytest.raises(UserError, match=advice):
        load_evaluated_run(folder.path)
    with pytest.raises(UserError, match=r"evaluate_run\('.*', env=\.\.\.\)"):
        evaluate_run(folder.path, 2, progress=False)
    assert evaluate_run(folder.path, 2, env=make, progress=False).episodes == 2
    named = RunFolder(train(config(tmp_path), progress=False).run_dir)
    with pytest.raises(UserError, match="env is"):
        evaluate_run(named.path, 2, env=TMazeEnv, progress=False)
    named.policy.unlink()
    with pytest.raises(PolicyFileError):
        evaluate_run(named.path, 2, progress=False)
