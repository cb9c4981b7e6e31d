"""A mistake at any command: status 2, a message that says the fix, and never a traceback."""

import errno
import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from gymnasium import spaces

import recurrent_rl
from recurrent_rl import ActorCritic, AgentConfig, Policy
from recurrent_rl.cli import COMMANDS, main
from tests.recurrent_rl.cli.commands import ended, one_line, run
from tests.recurrent_rl.unwritable import unwritable


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tarin"], "Unknown command 'tarin'; use one of train, evaluate, envs, check, monitor"),
        (["train", "CartPol-v1"], "Did you mean CartPole-v1"),
        (["train", "CartPole-v1", "--memory", "lsmt"], "Did you mean lstm"),
        (["train", "CartPole-v1", "--num-envs", "-1"], "num_envs is -1; it must be at least 1"),
        (["train", "CartPole-v1", "--hidden-size", "-3"], "hidden_size is -3"),
        (
            ["train", "CartPole-v1", "--num-envs", "6", "--num-minibatches", "4"],
            "does not divide the 6 chunks",
        ),
        (["train", "CartPole-v1", "--env-kwargs", "{"], "not JSON"),
        (["train", "CartPole-v1", "--device", "tpu"], "device is 'tpu'; it must be auto, or a"),
        (["train", "CartPole-v1", "--lr-schedule", "Linear"], "--lr-schedule"),
        (["train", "CartPole-v1", "--threads", "100000"], "threads is 100000; it must be at most"),
        (["train", "CartPole-v1", "--seed", str(2**64)], f"seed is {2**64}; it must be a whole"),
        (["train", "CartPole-v1", "--colour", "red"], "--colour"),
        (["train", "--resume", "nowhere"], "nowhere holds no run"),
        (["train", "--resume", "x", "--gamma=0.5"], "--gamma cannot go with --resume: a run keeps"),
        (["train", "--resume", "x", "--no-normalize-returns"], "--no-normalize-returns cannot go"),
        (["evaluate", "nowhere.safetensors"], "There is no file nowhere.safetensors"),
        (["evaluate", "nowhere", "--max-steps=0"], "max_steps is 0; it must be at least 1"),
        (["monitor", "nowhere"], "no folder 'nowhere'"),
    ],
)
def test_a_mistake_is_answered_with_the_fix_status_2_and_no_traceback(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, err = ended(arguments, capsys)
    assert status == 2
    assert message in one_line(err + out)
    assert "Traceback" not in err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "before",
    [
        ["evaluate"],
        ["export"],
        ["share"],
        ["info"],
        ["train", "--resume"],
        ["train", "CartPole-v1", "--init-from"],
    ],
)
def test_several_runs_where_one_is_read_are_told_with_the_newest(
    before: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a shell gives them for runs/*__name__* once the name was used again."""
    runs = [tmp_path / name for name in ("older", "newest", "old")]
    for run_dir, age in zip(runs, (20, 0, 10), strict=True):
        run_dir.mkdir()
        (run_dir / "config.json").write_text("{}")
        os.utime(run_dir / "config.json", (1e9 - age, 1e9 - age))
    status, _, err = ended([*before, *map(str, runs), "--best"], capsys)
    assert status == 2
    assert f"{before[0]} takes one run here, and these are 3: {runs[0]}, " in one_line(err)
    assert one_line(err).endswith(f"Name one; the newest is {runs[1]}.")


@pytest.mark.parametrize("command", ["evaluate", "export", "share", "info"])
def test_several_policies_where_one_is_read_are_told_with_the_newest(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a shell gives them for runs/*__name__*/policy.safetensors."""
    policies = [tmp_path / name / "policy.safetensors" for name in ("newest", "old")]
    for policy, age in zip(policies, (0, 10), strict=True):
        policy.parent.mkdir()
        policy.touch()
        os.utime(policy, (1e9 - age, 1e9 - age))
    status, _, err = ended([command, *map(str, policies)], capsys)
    assert status == 2
    assert f"{command} takes one policy here, and these are 2: {policies[0]}, " in one_line(err)
    assert one_line(err).endswith(f"Name one; the newest is {policies[0]}.")


def test_an_argument_too_long_for_a_path_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    longest = json.dumps({"render_mode": "x" * 300})
    status, out, _ = ended(
        ["train", "CartPole-v1", "--env-kwargs", longest, "--print-config"], capsys
    )
    assert status == 0
    assert "x" * 300 in out


def test_a_process_with_wrong_arguments_ends_with_status_2(tmp_path: Path) -> None:
    result = run("train", "CartPol-v1", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "CartPole-v1", "--total-timesteps", "1.5"], "total_timesteps is 1.5; it must"),
        (["train", "CartPole-v1", "--gamma", "nan"], "gamma is nan; it must be a finite number"),
        (["train", "CartPole-v1", "--name", "../x"], "name is '../x'; it must be a name for"),
        (["train", ""], "env_id is ''; it must be a Gymnasium id such as CartPole-v1"),
        (["train", "CartPole-v1", "--log-dir", ""], "log_dir is ''; it must be the path"),
        (["train", "CartPole-v1", "--env-kwargs", '{"a": NaN}'], "which JSON cannot hold"),
        (["evaluate", "x", "--episodes", "0"], "episodes is 0; it must be at least 1"),
        (["evaluate", "x", "--seed", "-1"], "seed is -1; it must be at least 0"),
        (["evaluate", "x", "--env-kwargs", "[]"], "--env-kwargs: it is '[]', not a JSON object"),
        (["info", ""], "run is ''; it must be the path of a folder"),
        (["monitor", ".", "--port", "70000"], "port is 70000; it must be between 0 and 65535"),
        (["benchmark", "memory", "--name", "../x"], "name is '../x'; it must be a name for"),
        (["benchmark", "memory", "--settings", "{"], "--settings: it is not JSON"),
        (["benchmark", "memory", "--settings", '{"precision": "bf16"}'], "Did you mean bfloat16"),
        (["train", "CartPole-v1", "--resume", "x"], "CartPole-v1 cannot go with --resume: a run"),
        (["train", "--resume", "x", "CartPole-v1"], "CartPole-v1 cannot go with --resume: a run"),
        (["train", "CartPole-v1", "--patience", "9", "--print-config"], "set eval_interval"),
        (["benchmark", "memory", "--settings", '{"seed": 1}'], "of all runs: say --seeds instead"),
        (
            ["benchmark", "memory", "--settings", '{"total_timesteps": 1}'],
            "total_timesteps is among the settings, and would be that of all runs: say --total-t",
        ),
        (["benchmark", "memory", "--settings", '{"eval_episodes": 0}'], "runs: say --episodes"),
        (["benchmark", "memory", "--settings", '{"log_dir": "x"}'], "runs: say --out instead"),
        (["benchmark", "memory", "--settings", '{"name": "x"}'], "runs: say --name instead"),
        (
            ["benchmark", "memory", "--settings", '{"env_id": "CartPole-v1"}'],
            "env_id is among the settings, and would make other tasks of the suite's: leave it out",
        ),
        (
            ["benchmark", "memory", "--settings", '{"env": {"env_kwargs": {}}}'],
            "env.env_kwargs is among the settings, and would make other tasks",
        ),
        (
            ["benchmark", "memory", "--settings", '{"hidden_size": 16}'],
            'is no setting of TrainConfig. Write {"agent": {"hidden_size": ...}}. Names are as in',
        ),
        (
            ["benchmark", "memory", "--settings", '{"agent": {"memory": "gru"}}'],
            "agent.memory is among the settings, and would be that of all runs: say --memories",
        ),
    ],
)
def test_a_setting_that_cannot_be_ends_any_command_with_status_2_and_its_name(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert message in one_line(capsys.readouterr().err)


@pytest.mark.parametrize(
    "command", [["envs"], ["completion", "bash"], ["check", "--help"], ["--help"], ["--version"]]
)
@pytest.mark.parametrize(
    ("kind", "status", "told"),
    [
        ("without a reader", 0, ""),
        ("hung up", 0, ""),
        ("on a full disk", 2, "Standard output cannot be written to: [Errno 28] No space left"),
    ],
)
def test_a_command_whose_reader_goes_away_ends_quietly_and_one_without_room_says_so(
    command: list[str],
    kind: str,
    status: int,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = unwritable(kind)
    monkeypatch.setattr("sys.stdout", out)
    ended_with, _, err = ended(command, capsys)
    assert (ended_with, err[: len(told) + 7]) == (status, told and f"error: {told}")
    out.close()  # raises where something is left to write


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EMFILE])
def test_another_fault_is_told_though_the_reader_of_the_output_has_gone(
    number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(_: Sequence[str]) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setitem(COMMANDS, "envs", COMMANDS["envs"]._replace(run=fails))
    with unwritable("without a reader") as out:
        monkeypatch.setattr("sys.stdout", out)
        status, _, err = ended(["envs"], capsys)
    assert (status, os.strerror(number) in err) == (2, True)


def test_an_error_that_no_code_of_the_users_has_raised_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A fault of the library; the command line calls `float` itself, with its list of words."""
    monkeypatch.setitem(COMMANDS, "envs", COMMANDS["envs"]._replace(run=float))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"must be a string or a real number"):
        main(["envs"])


@pytest.mark.parametrize("name", [name for name in recurrent_rl.__all__ if name.endswith("Error")])
def test_an_error_that_a_user_can_mend_ends_any_command_with_its_status(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kind = getattr(recurrent_rl, name)

    def fail(_: object) -> int:
        raise kind("Mend the [thing].")

    monkeypatch.setitem(COMMANDS, "envs", COMMANDS["envs"]._replace(run=fail))
    status, out, err = ended(["envs"], capsys)
    expected = 1 if name == "RaisedError" else 2
    assert (status, out, err) == (expected, "", "error: Mend the [thing].\n")


def test_a_file_sends_no_commands_to_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    agent = ActorCritic(spaces.Discrete(2), spaces.Discrete(2), AgentConfig(hidden_size=4))
    path = tmp_path / "p.safetensors"
    env = {"env_kwargs": {"\x1b[31m": 1}}
    Policy(agent, {"env_id": "CartPole-v1", "env": env}).save(path)
    status, out, err = ended(["evaluate", str(path), "--episodes=1"], capsys)
    assert (status, out) == (2, "")
    assert "unexpected keyword argument '\\x1b[31m'" in err
    assert "\x1b" not in err
