"""Runs that fail: their whole iterations are saved, and the error says what resuming loses."""

import re
import shutil
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import pytest

from recurrent_rl.agents.files import FileWriteError, unwritable
from recurrent_rl.agents.policy import load_policy
from recurrent_rl.collector import Collector
from recurrent_rl.errors import RaisedError, UserError
from recurrent_rl.runs.callbacks import Callback, TrainingState
from recurrent_rl.runs.checkpoint_file import read_timesteps
from recurrent_rl.runs.folder import CHECKPOINT, POLICY, RunFolder
from recurrent_rl.runs.training import resume, train
from recurrent_rl.trainer import Trainer
from recurrent_rl.vector_env.config import EnvConfig
from tests.recurrent_rl.runs.checkpoints import load_checkpoint
from tests.recurrent_rl.runs.small_runs import assert_same, config, fail_at, registered, weights


class Failing(gym.Env[Any, Any]):
    """Returns NaN or raises an error after so many steps."""

    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, error: BaseException | None, after: int = 40) -> None:
        self.t = 0
        self.error = error
        self.after = after

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray[Any, Any], dict[str, Any]]:
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action: int) -> tuple[np.ndarray[Any, Any], float, bool, bool, dict[str, Any]]:
        self.t += 1
        if self.t > self.after and self.error is not None:
            raise self.error
        bad = np.nan if self.t > self.after else 0.0
        return np.full(2, bad, np.float32), float(action), self.t % 10 == 0, False, {}


def notes(error: BaseException, capsys: pytest.CaptureFixture[str]) -> str:
    """What an error's traceback ends in; printed before it in Python 3.10."""
    return "".join(getattr(error, "__notes__", ())) or capsys.readouterr().err


LOST = (
    r"Its 2 whole iterations \(256 steps\) are saved; to resume loses the episodes under way and "
)
LOST += r"the \d+ steps of the unfinished rollout: recurrent-rl train --resume "


def test_a_run_whose_environment_returns_nan_keeps_its_whole_iterations(tmp_path: Path) -> None:
    with (
        registered(lambda: Failing(None)) as env_id,
        pytest.raises(UserError, match=rf"step 41.*on Mine-v0 failed in iteration 3.*{LOST}"),
    ):
        train(config(tmp_path, env_id), progress=False)
    (run_dir,) = tmp_path.iterdir()
    assert load_policy(run_dir / POLICY).summary["timesteps"] == 8 * 16 * 2


@pytest.mark.filterwarnings("ignore::UserWarning")  # Gymnasium's log of a worker's error
@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_a_run_whose_environment_raises_an_error_keeps_its_whole_iterations_and_the_error(
    tmp_path: Path,
    vectorization: Literal["sync", "async"],
    capsys: pytest.CaptureFixture[str],
) -> None:
    lost = ConnectionError("simulator lost")
    env = EnvConfig(vectorization=vectorization)
    with (
        registered(lambda: Failing(lost)) as env_id,
        pytest.raises(ConnectionError, match=r"^simulator lost") as raised,
    ):
        train(config(tmp_path, env_id, env=env), progress=False)
    if vectorization == "sync":
        assert raised.value is lost
    assert re.search(
        rf"on Mine-v0 failed in iteration 3, after step 40 of each environment. {LOST}",
        notes(raised.value, capsys),
    )
    (run_dir,) = tmp_path.iterdir()
    with registered(lambda: Failing(None)):
        saved = Trainer(RunFolder(run_dir).load_config())
        assert not load_checkpoint(saved, run_dir / CHECKPOINT)  # new episodes
        saved.close()
    assert saved.iteration == 2
    with registered(lambda: Failing(None)) as env_id:  # fails nowhere in two iterations
        twin = Trainer(config(tmp_path, env_id))
        for _ in range(2):
            twin.iterate()
        twin.close()
    assert_same(weights(saved), weights(twin))


EXITS = r"nvironment.* called exit\({}\) after step {} \(line \d+ of .*test_failures.py\)\. An env"


@pytest.mark.parametrize(("code", "shown"), [(0, "0"), (None, ""), ("no licence", "'no licence'")])
def test_an_environment_that_calls_exit_is_at_fault_and_whole_iterations_are_kept(
    tmp_path: Path, code: Any, shown: str
) -> None:
    with (
        registered(lambda: Failing(SystemExit(code))) as env_id,
        pytest.raises(RaisedError, match=rf"{EXITS.format(shown, 40)}.*iteration 3.*{LOST}"),
    ):
        train(config(tmp_path, env_id), progress=False)
    (run_dir,) = tmp_path.iterdir()
    assert load_policy(run_dir / POLICY).summary["timesteps"] == 8 * 16 * 2


def test_an_environment_that_calls_exit_in_the_evaluation_is_at_fault_too(tmp_path: Path) -> None:
    made: list[Failing] = []

    def make() -> Failing:
        made.append(Failing(SystemExit(0), 5 if len(made) >= 8 else 1000))
        return made[-1]

    settings = config(tmp_path, None, total_timesteps=128, eval_episodes=4)
    with pytest.raises(RaisedError, match=rf"could not be evaluated: .*{EXITS.format('0', 5)}"):
        train(settings, env=make, progress=False)


def test_an_error_before_the_first_whole_iteration_leaves_a_run_that_starts_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (
        registered(lambda: Failing(ConnectionError("lost"))) as env_id,
        pytest.raises(ConnectionError) as raised,
    ):
        train(config(tmp_path, env_id, num_steps=64, seq_len=64), progress=False)
    assert "From its first step: recurrent-rl train --resume" in notes(raised.value, capsys)
    (run_dir,) = tmp_path.iterdir()
    assert not (run_dir / CHECKPOINT).exists()
    with registered(lambda: Failing(None, 10**6)):
        assert resume(run_dir, progress=False).timesteps == 8 * 64 * 2


def test_a_run_whose_callback_raises_an_error_resumes_as_if_it_had_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = train(config(tmp_path / "whole"), progress=False)
    with pytest.raises(LookupError) as raised:
        train(config(tmp_path / "broken"), progress=False, callbacks=[fail_at(8 * 16 * 4)])
    told = notes(raised.value, capsys)
    assert "failed after iteration 4, after step 64 of each environment" in told
    assert "4 whole iterations (512 steps) are saved; to resume loses nothing:" in told
    (run_dir,) = (tmp_path / "broken").iterdir()
    resume(run_dir, progress=False)
    first, second = (
        load_policy(path / POLICY).agent.state_dict() for path in (whole.run_dir, run_dir)
    )
    assert_same(first, second)


def test_an_exact_checkpoint_is_not_replaced_by_one_with_new_episodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    collect = Collector.collect

    def fail(collector: Collector, iteration: int) -> Any:
        if collector.environments.steps == 64:
            collector.environments.steps += 3
            raise ConnectionError("lost")
        return collect(collector, iteration)

    monkeypatch.setattr(Collector, "collect", fail)
    with pytest.raises(ConnectionError) as raised:
        train(config(tmp_path, checkpoint_interval=0.0), progress=False)
    told = notes(raised.value, capsys)
    assert "to resume loses the 24 steps of the unfinished rollout: " in told
    (run_dir,) = tmp_path.iterdir()
    trainer = Trainer(config(tmp_path))
    assert load_checkpoint(trainer, run_dir / CHECKPOINT)
    assert trainer.iteration == 4


def test_a_disk_that_is_full_is_told_once_with_what_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Trainer, path: Path, *rest: Any) -> None:
        raise unwritable(path, OSError(28, "No space left on device"))

    monkeypatch.setattr("recurrent_rl.runs.checkpoint.save_checkpoint", full)
    settings = config(tmp_path, checkpoint_interval=0)
    with pytest.raises(UserError, match=r"Saving it failed too, for the same reason\.") as raised:
        train(settings, progress=False)
    assert str(raised.value).count("No space left on device") == 1
    (policy,) = tmp_path.glob("*/policy.safetensors")
    whole = f"What was learnt is whole in {policy}, to play with or for init_from (--init-from)."
    assert whole in str(raised.value)
    assert load_policy(policy).summary["timesteps"] == 8 * 16


@pytest.mark.parametrize("checkpoint_interval", [0.0, 1000.0])
def test_where_the_last_save_fails_too_the_first_error_comes_out(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    checkpoint_interval: float,
) -> None:
    def full(state: TrainingState) -> None:
        if state.timesteps == 8 * 16 * 4:
            monkeypatch.setattr("recurrent_rl.runs.checkpoint.save_checkpoint", no_space)
            raise LookupError("no such dashboard")

    def no_space(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter.close", no_space)
    settings = config(tmp_path, checkpoint_interval=checkpoint_interval)
    with pytest.raises(LookupError) as raised:
        train(settings, progress=False, callbacks=[full])
    told = notes(raised.value, capsys)
    assert "Saving it failed too (OSError(28, 'No space left on device'))." in told
    assert re.search(r"What was learnt is whole in \S+policy\.safetensors, to play with", told)
    kept = "From the last checkpoint" if checkpoint_interval == 0 else "From its first step"
    assert f"{kept}: recurrent_rl.resume(" in told
    assert told.count("callbacks=[...])") == 1
    assert "Closing failed too" in told


def test_a_checkpoint_that_was_deleted_is_written_again(tmp_path: Path) -> None:
    class Deleting(Callback):
        def on_rollout(self, state: TrainingState) -> None:
            if state.iteration == 3:  # which is saved already
                shutil.rmtree(state.run_dir)
                raise UserError("That is enough.")

    settings = config(tmp_path, checkpoint_interval=0)
    with pytest.raises(UserError, match=r"(?s)enough\..*made again for them") as raised:
        train(settings, progress=False, callbacks=[Deleting()])
    assert "Its 3 whole iterations (384 steps) are saved" in str(raised.value)
    (checkpoint,) = tmp_path.glob(f"*/{CHECKPOINT}")
    assert read_timesteps(checkpoint) == 384


def test_a_run_whose_folder_is_moved_is_saved_where_it_was_and_resumes(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """TensorBoard's file is gone then, and is the first to be written."""
    moved = tmp_path / "moved"

    def move(state: TrainingState) -> None:
        if state.iteration == 2:
            state.run_dir.rename(moved)
        state.writer.flush()

    whole = train(config(tmp_path / "whole"), progress=False)
    with pytest.raises(FileWriteError, match="moved or deleted meanwhile") as raised:
        train(config(tmp_path / "runs"), progress=False, callbacks=[move])
    assert "whole iterations" in str(raised.value)
    assert "made again for them; what was logged before is not in it." in str(raised.value)
    assert "Traceback" not in capfd.readouterr().err
    (run_dir,) = (tmp_path / "runs").iterdir()
    again = resume(run_dir, progress=False)
    assert_same(*(load_policy(x.policy_path).agent.state_dict() for x in (whole, again)))


def test_an_error_with_a_name_of_its_own_keeps_it(tmp_path: Path) -> None:
    def full(state: TrainingState) -> None:
        raise FileWriteError("Make room.")

    with pytest.raises(FileWriteError, match=r"Make room\. The run on .* to resume loses nothing"):
        train(config(tmp_path), progress=False, callbacks=[full])


@pytest.mark.parametrize("kind", [ZeroDivisionError, UserError])
def test_an_error_in_on_end_says_that_all_is_saved_and_how_to_resume(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: type[Exception]
) -> None:
    class Last(Callback):
        def on_end(self, state: TrainingState) -> None:
            raise kind("mine")

    settings = config(tmp_path, total_timesteps=256)
    with pytest.raises(kind, match="mine") as error:
        train(settings, callbacks=[Last()], progress=False)
    (run_dir,) = tmp_path.iterdir()
    assert read_timesteps(RunFolder(run_dir).checkpoint) == 256
    told = str(error.value) + notes(error.value, capsys)
    assert "That was in on_end; all 256 steps are saved. To resume: recurrent_rl.resume('" in told
    assert f"{run_dir}', callbacks=[...])" in told


class Stuck(Failing):
    """Cannot be closed."""

    how: BaseException = ValueError("5")

    def close(self) -> None:
        raise self.how


@pytest.mark.parametrize(("how", "interval"), [(ValueError("5"), None), (SystemExit(0), 256)])
def test_an_environment_that_cannot_be_closed_is_told_of_and_the_run_is_evaluated(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    how: BaseException,
    interval: int | None,
) -> None:
    monkeypatch.setattr(Stuck, "how", how)
    settings = config(tmp_path, None, eval_interval=interval, eval_episodes=4)
    result = train(settings, env=lambda: Stuck(None, 10**6), progress=False)
    assert result.evaluation is not None
    told = capsys.readouterr().err
    name = type(how).__name__
    assert re.search(rf"The environments could not be closed: Your code raised {name}: \d", told)
