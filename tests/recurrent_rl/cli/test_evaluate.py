"""`recurrent-rl evaluate`: what it prints and saves, where it plays, and what it imports."""

import io
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

from recurrent_rl.agents.files import FileWriteError
from recurrent_rl.agents.policy import load_policy
from recurrent_rl.cli import main
from recurrent_rl.runs import evaluation
from tests.recurrent_rl.cli.commands import TINY, ended


def test_evaluation_shows_what_memory_is_worth(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = []
    for target in (finished, finished / "policy.safetensors", finished):
        arguments = ["evaluate", str(target), "--episodes=30", "--num-envs=10"]
        status, out, err = ended(arguments, capsys)
        assert status == 0, err
        for expected in (
            "30 episodes",
            "deterministic actions",
            "stochastic actions",
            "memory reset",
            "best possible",
            "success",
        ):
            assert expected in out
        shown.append(out)
    assert shown[2] == shown[0]


def test_a_policy_plays_in_another_environment_of_the_same_spaces(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = "--env-id=recurrent_rl/RepeatFirst-Easy-v0"
    arguments = ["evaluate", str(finished), "--episodes=5", other, "--no-compare"]
    status, out, err = ended(arguments, capsys)
    assert status == 0, err
    assert "RepeatFirst-Easy" in out
    assert "memory reset" not in out


def test_a_damaged_policy_or_one_for_other_spaces_is_refused(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = tmp_path / "policy.safetensors"
    damaged.write_bytes((finished / "policy.safetensors").read_bytes()[:-9])
    for arguments, message in (
        ([str(damaged)], "is truncated"),
        ([str(finished), "--env-id=CartPole-v1"], "Box"),
        ([str(finished / "checkpoint.safetensors")], "is not a recurrent_rl.policy file"),
    ):
        status, _, err = ended(["evaluate", *arguments], capsys)
        assert (status, message in err) == (2, True)


FOREVER = """
import gymnasium, numpy

class Forever(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (2,), numpy.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        return numpy.zeros(2, numpy.float32), {}

    def step(self, action):
        return numpy.zeros(2, numpy.float32), float(action), False, False, {}

gymnasium.register("Forever-v0", Forever)
"""


def test_a_task_that_never_ends_is_trained_and_evaluated_to_a_limit_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "forever.py").write_text(FOREVER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert evaluation.STEP_LIMIT == 10_000
    monkeypatch.setattr(evaluation, "STEP_LIMIT", 1_000)  # takes less time
    try:
        arguments = ["train", "forever:Forever-v0", *TINY, "--eval-episodes=2"]
        status, out, err = ended(arguments, capsys)
        assert status == 0, err
        (run_dir,) = (tmp_path / "runs").iterdir()
        for expected in (
            "2 of 2 episodes did not end within 1,000 steps and were given up. None ended",
            f"recurrent-rl evaluate runs/{run_dir.name} --max-steps N",
        ):
            assert expected in out
        arguments = [f"runs/{run_dir.name}", "--episodes=3", "--num-envs=2", "--max-steps=20"]
        status, out, err = ended(["evaluate", *arguments], capsys)
        assert status == 0, err
    finally:
        gym.registry.pop("Forever-v0", None)
        sys.modules.pop("forever", None)
    for way in ("deterministic actions", "stochastic actions", "memory reset every step"):
        assert f"{way}: 2 of 3 episodes did not end within 20 steps" in out
    assert "1 that were to follow them were not begun" in out
    assert "--max-steps N" in out


def test_a_module_that_only_a_file_names_is_not_imported(
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whoever sends a policy file must not choose what runs here."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    marker = tmp_path / "imported"
    (tmp_path / "sent.py").write_text(f"open({str(marker)!r}, 'w').close()\n{FOREVER}")
    policy = load_policy(finished / "policy.safetensors")
    for env_id in ("sent:Forever-v0", "sent:sub:Forever-v0", "sent:Forever"):
        policy.summary["env_id"] = env_id
        policy.save(tmp_path / "policy.safetensors")
        load_policy(tmp_path / "policy.safetensors")
        for target in ("policy.safetensors", "."):  # a folder that holds no config.json
            with pytest.raises(SystemExit, match="2"):
                main(["evaluate", target])
            command = f"recurrent-rl evaluate {target} --env-id {env_id}"
            assert command in capsys.readouterr().err
            assert not marker.exists()
    try:
        with pytest.raises(SystemExit, match="2"):
            main(["evaluate", "policy.safetensors", "--env-id=sent:Forever-v0"])
        assert marker.exists()
        assert "observation space" in capsys.readouterr().err  # it is a policy for another task
    finally:
        gym.registry.pop("Forever-v0", None)
        sys.modules.pop("sent", None)


def test_a_policy_file_whose_module_is_imported_by_now_plays(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = load_policy(finished / "policy.safetensors")
    policy.summary["env_id"] = "nowhere:recurrent_rl/TMaze-v0"
    policy.save(tmp_path / "policy.safetensors")
    arguments = ["evaluate", str(tmp_path / "policy.safetensors"), "--episodes=3", "--no-compare"]
    with pytest.raises(SystemExit, match="0"):
        main(arguments)
    assert "recurrent_rl/TMaze-v0, 3 episodes" in capsys.readouterr().out
    for env in ("x", {"colour": "red"}, {"hide_indices": 3}):
        policy.summary["env"] = env
        policy.save(tmp_path / "policy.safetensors")
        with pytest.raises(SystemExit, match="2"):
            main(arguments)
        assert "settings of its environment cannot be read" in capsys.readouterr().err


def test_a_run_is_played_as_its_settings_say_whatever_its_policy_says(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(finished, run_dir)
    policy = load_policy(run_dir / "policy.safetensors")
    policy.summary["env_id"] = "nowhere:Nothing-v0"
    policy.save(run_dir / "policy.safetensors")
    with pytest.raises(SystemExit, match="0"):
        main(["evaluate", str(run_dir), "--episodes=3", "--no-compare"])
    assert "recurrent_rl/TMaze-v0, 3 episodes" in capsys.readouterr().out


def test_a_finer_evaluation_is_kept_and_the_command_says_so(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(finished, run_dir)
    saved = run_dir / "evaluation.json"
    saved.unlink(missing_ok=True)  # of another test
    for episodes, kept in ((40, False), (3, True), (41, False)):
        before = saved.exists() and saved.read_text()
        with pytest.raises(SystemExit, match="0"):
            main(["evaluate", str(run_dir), f"--episodes={episodes}", "--no-compare"])
        told = (
            "Not saved: the run's evaluation.json has 40 finished episodes"
            in capsys.readouterr().out
        )
        assert told == kept
        assert (saved.read_text() == before) == kept


def test_what_was_found_is_told_where_it_cannot_be_saved(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> None:
        raise FileWriteError("evaluation.json cannot be written: No space left on device.")

    monkeypatch.setattr("recurrent_rl.runs.folder.RunFolder.save_evaluation", full)
    status, out, err = ended(["evaluate", str(finished), "--episodes=20"], capsys)
    assert status == 2
    assert "deterministic actions" in out
    assert "No space left on device" in err


def test_a_path_that_the_terminal_cannot_show_is_no_mistake(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = tmp_path / "tr\u00e4in \u76ee"
    shutil.copytree(finished, run_dir)
    printed = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(printed, encoding="ascii"))
    with pytest.raises(SystemExit) as caught:
        main(["evaluate", str(run_dir), "--episodes=5"])
    assert caught.value.code == 0
    sys.stdout.flush()
    assert b"tr\\xe4in \\u76ee" in printed.getvalue()


def test_a_folder_that_cannot_be_written_is_told_of_before_anything_is_played(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def read_only(*_: Any, **__: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", read_only)
    monkeypatch.setattr(
        "recurrent_rl.runs.evaluation.evaluate", lambda *_, **__: pytest.fail("played")
    )
    with pytest.raises(SystemExit, match="2"):
        main(["evaluate", str(finished)])
    assert "Read-only file system" in capsys.readouterr().err
