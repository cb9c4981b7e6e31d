"""A run's folder: how it is made and found, whose it is, how far it is, and what it keeps."""

import dataclasses
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.policy import Policy
from recurrent_rl.config import TrainConfig
from recurrent_rl.errors import UserError
from recurrent_rl.runs.callbacks import TrainingState
from recurrent_rl.runs.evaluation_result import Evaluation, EvaluationSummary, SavedEvaluation
from recurrent_rl.runs.folder import RunFolder, RunState
from recurrent_rl.runs.training import resume, train
from recurrent_rl.signals import StopSignals
from tests.recurrent_rl.runs.small_runs import held_by_another


def config(tmp_path: Path, **changes: Any) -> TrainConfig:
    return dataclasses.replace(
        TrainConfig(
            "recurrent_rl/TMaze-v0",
            log_dir=str(tmp_path),
            num_envs=4,
            num_steps=8,
            total_timesteps=4 * 8 * 3,
            num_minibatches=2,
            update_epochs=1,
            eval_episodes=0,
            agent=AgentConfig("lstm", hidden_size=4, encoder_size=4),
        ),
        **changes,
    )


def a_policy() -> Policy:
    torch.manual_seed(0)
    space = gym.spaces.Discrete(2)
    return Policy(ActorCritic(space, space, AgentConfig("gru", hidden_size=4)))


def test_a_name_with_slashes_makes_one_folder_in_the_log_directory(tmp_path: Path) -> None:
    run_dir = RunFolder.make(config(tmp_path, name="a/b: c")).path
    assert run_dir.parent == tmp_path
    assert run_dir.name.startswith("recurrent_rl-TMaze-v0__a-b- c__0__")


def test_run_folders_are_found_below_a_path_and_each_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no run in .*no folder with a config\.json"):
        RunFolder.find([tmp_path])
    (tmp_path / "README.md").touch()
    with pytest.raises(UserError, match=r"no run in '.*README\.md'"):
        RunFolder.find([tmp_path / "README.md"])
    folders = [RunFolder(tmp_path / name) for name in ("a", "b/c")]
    for folder in folders:
        assert not folder.exists()
        folder.save_config(config(tmp_path))
        assert folder.exists()
    assert RunFolder.find([tmp_path, tmp_path / "b", tmp_path / "README.md"]) == folders
    with pytest.raises(UserError, match=r"no run in '.*/misspelt'"):
        RunFolder.find([tmp_path, tmp_path / "misspelt"])


def test_a_folder_tells_how_far_its_run_is(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no run"):
        _ = RunFolder(tmp_path).state()
    folder = RunFolder(tmp_path / "run")
    settings = config(tmp_path)
    folder.save_config(settings)
    assert folder.state() is RunState.NEW

    stop = StopSignals()
    seen: list[RunState] = []

    def stop_after_two(state: TrainingState) -> None:
        seen.append(folder.state())
        if state.timesteps == 64:
            stop.received = 15

    resume(folder.path, progress=False, callbacks=[stop_after_two], stop=stop)
    assert seen == [RunState.RUNNING, RunState.RUNNING]
    assert folder.state() is RunState.STOPPED
    early = SavedEvaluation(64, 10, EvaluationSummary(0.0, (0.0, 0.0), 1.0, None))
    folder.save_evaluation(early)
    assert folder.state() is RunState.STOPPED

    resume(folder.path, progress=False)
    assert folder.state() is RunState.FINISHED
    folder.save_evaluation(dataclasses.replace(early, timesteps=96))
    assert folder.state() is RunState.EVALUATED
    folder.save_config(dataclasses.replace(settings, total_timesteps=1000))
    assert folder.state() is RunState.STOPPED


def test_an_evaluation_counts_where_it_is_of_the_checkpoint_and_of_all_steps(
    tmp_path: Path,
) -> None:
    folder = RunFolder(train(config(tmp_path), progress=False).run_dir)
    evaluation = SavedEvaluation(96, 10, EvaluationSummary(0.0, (0.0, 0.0), 1.0, None))
    folder.save_evaluation(evaluation)
    assert folder.state() is RunState.EVALUATED
    policy, checkpoint = folder.policy.read_bytes(), folder.checkpoint.read_bytes()
    folder.checkpoint.unlink()  # for want of room
    assert folder.state() is RunState.EVALUATED
    folder.policy.unlink()  # or it was killed between its last evaluation and its first checkpoint
    assert folder.state() is RunState.NEW

    shorter = train(config(tmp_path, total_timesteps=64), progress=False).run_dir
    folder.checkpoint.write_bytes(RunFolder(shorter).checkpoint.read_bytes())
    folder.policy.write_bytes(policy)
    assert folder.state() is RunState.STOPPED  # likewise, with an earlier one
    folder.checkpoint.write_bytes(checkpoint)
    folder.save_evaluation(dataclasses.replace(evaluation, timesteps=128))
    assert folder.state() is RunState.FINISHED  # it is of a policy that the run no longer has


def test_the_state_is_told_without_reading_the_tensors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(train(config(tmp_path), progress=False).run_dir)
    monkeypatch.setattr("recurrent_rl.agents.files.load", lambda _: pytest.fail("read"))
    assert folder.state() is RunState.FINISHED


def test_a_checkpoint_that_cannot_be_read_is_of_a_stopped_run(tmp_path: Path) -> None:
    folder = RunFolder(train(config(tmp_path), progress=False).run_dir)
    whole = folder.checkpoint.read_bytes()
    for content in (whole[:-9], whole[:20], b"", b"{}"):
        folder.checkpoint.write_bytes(content)
        assert folder.state() is RunState.STOPPED


def test_a_run_that_another_process_holds_is_running_until_that_ends(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.save_config(config(tmp_path))
    with held_by_another(folder.path):
        assert folder.state() is RunState.RUNNING
    assert folder.state() is RunState.NEW


def test_a_run_that_another_process_trains_is_refused_until_that_ends(tmp_path: Path) -> None:
    result = train(config(tmp_path), progress=False)
    with held_by_another(result.run_dir):
        before = {path: path.read_bytes() for path in result.run_dir.iterdir()}
        with pytest.raises(UserError, match=r"Another process is training .*--resume"):
            resume(result.run_dir, total_timesteps=128, progress=False)
        assert {path: path.read_bytes() for path in result.run_dir.iterdir()} == before
    assert resume(result.run_dir, total_timesteps=128, progress=False).timesteps == 128


def test_asking_for_the_state_keeps_nobody_from_training(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.save_config(config(tmp_path))
    with folder.locked():
        pass
    assert folder.state() is RunState.NEW
    with folder.locked():
        assert folder.state() is RunState.RUNNING


def saved_of(
    policy: Policy, episodes: int, ways: tuple[str, ...] = ("deterministic",)
) -> SavedEvaluation:
    played = Evaluation(np.full(episodes, 1.0), np.full(episodes, 3), np.zeros(0))
    return SavedEvaluation.of(policy, dict.fromkeys(ways, played))


def test_a_finer_evaluation_of_the_same_policy_is_kept(tmp_path: Path) -> None:
    policy, folder = a_policy(), RunFolder(tmp_path)
    policy.summary = {"timesteps": 100}
    fine = saved_of(policy, 50, ("deterministic", "stochastic"))
    assert folder.save_evaluation(fine) is fine
    for coarser in (saved_of(policy, 49, ("deterministic", "stochastic")), saved_of(policy, 50)):
        assert folder.save_evaluation(coarser) == fine
        assert folder.load_evaluation() == fine
    as_fine = saved_of(policy, 50, ("deterministic", "stochastic", "memory_ablation"))
    assert folder.save_evaluation(as_fine) is as_fine
    policy.summary = {"timesteps": 200}
    of_another_policy = saved_of(policy, 3)
    folder.save_evaluation(of_another_policy)
    assert folder.load_evaluation() == of_another_policy
    assert folder.evaluated_timesteps() == 200


def test_an_evaluation_that_cannot_be_read_is_written_anew(tmp_path: Path) -> None:
    policy, folder = a_policy(), RunFolder(tmp_path)
    for text in ("{", "[" * 100_000, '{"deterministic": 3}', "null"):
        folder.evaluation.write_text(text)
        assert folder.evaluated_timesteps() is None
        with pytest.raises(UserError, match="cannot be read"):
            folder.load_evaluation()
    saved = saved_of(policy, 3)
    assert folder.save_evaluation(saved) is saved
    assert folder.load_evaluation() == saved


def test_a_folder_that_cannot_be_written_is_refused_with_the_way_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path)
    folder.check_writable()
    assert not list(tmp_path.iterdir())

    def read_only(*_: Any, **__: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", read_only)
    with pytest.raises(UserError, match=r"Read-only file system.*saves nothing.*policy"):
        folder.check_writable()


def test_a_folder_on_a_full_disk_is_refused_before_anything_is_played(tmp_path: Path) -> None:
    """A full disk makes files, and takes nothing into them; so does a process at its limit."""
    code = """
import resource, sys
from pathlib import Path
from recurrent_rl.runs.folder import RunFolder
resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
RunFolder(Path(sys.argv[1])).check_writable()
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "evaluation.json cannot be written" in run.stderr
    assert not list(tmp_path.iterdir())


GOOD = {"mean_return": 1, "ci95": [0, 2], "mean_length": 3, "success_rate": None}
EVALUATION = {
    **{"timesteps": 1, "episodes": 1, "deterministic": GOOD},
    **{"stochastic": None, "memory_ablation": None},
}


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe",
        b"{",
        b"[]",
        b"null",
        b"7",
        b"[" * 5000,
        b'{"deterministic": null, "stochastic": null, "memory_ablation": null}',
        b'{"timesteps": "", "episodes": 1, "deterministic": GOOD'
        b', "stochastic": null, "memory_ablation": 0}',
        b'{"timesteps": 1, "episodes": 1, "deterministic": {}'
        b', "stochastic": null, "memory_ablation": null}',
        b'{"timesteps": 1, "episodes": 1, "deterministic": [1]'
        b', "stochastic": null, "memory_ablation": null}',
        *(
            json.dumps(EVALUATION | {name: value}).encode()
            for name in ("timesteps", "episodes", "max_steps")
            for value in (-1, 10**400, True, 1.5, "1", [1])
        ),
        *(
            json.dumps(EVALUATION | {"deterministic": GOOD | {name: value}}).encode()
            for name in ("unfinished", "episodes")
            for value in (-1, 10**400, True, 1.5, "1", [1])
        ),
        json.dumps(EVALUATION | {"deterministic": GOOD | {"unfinished": None}}).encode(),
        *(
            json.dumps(EVALUATION | {"deterministic": GOOD | wrong}).encode()
            for wrong in (
                {"mean_return": 10**400},
                {"success_rate": 10**400},
                {"ci95": [-(10**400), 1]},
                {"infos": {"speed": {"mean": 10**400, "final": None}}},
            )
        ),
    ],
)
def test_a_saved_evaluation_that_cannot_be_read_is_told_with_the_fix(
    content: bytes, tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path)
    folder.evaluation.write_bytes(content.replace(b"GOOD", json.dumps(GOOD).encode()))
    with pytest.raises(UserError, match=r"evaluation.json cannot be read .*recurrent-rl evaluate"):
        folder.load_evaluation()


def test_a_saved_evaluation_may_lack_what_older_ones_do(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.evaluation.write_text(json.dumps(EVALUATION))
    saved = folder.load_evaluation()
    assert saved is not None
    assert (saved.max_steps, saved.deterministic.episodes) == (None, None)
