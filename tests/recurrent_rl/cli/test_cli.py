"""The command line as a user meets it: what it prints, how it ends, and never a traceback."""

import dataclasses
import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import recurrent_rl
from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.policy import load_policy
from recurrent_rl.cli import COMMANDS, main
from recurrent_rl.cli.benchmark import BenchmarkArguments
from recurrent_rl.cli.grouping import settings_of
from recurrent_rl.cli.terminal import parse
from recurrent_rl.config import TrainConfig
from recurrent_rl.errors import UserError
from recurrent_rl.experiments.benchmark import Outcome
from recurrent_rl.experiments.suites import change
from recurrent_rl.runs import evaluation
from recurrent_rl.runs.folder import RunFolder
from recurrent_rl.runs.training import train

TINY = [
    "--num-envs=8",
    "--num-steps=16",
    "--total-timesteps=512",
    "--update-epochs=1",
    "--hidden-size=8",
    "--encoder-size=8",
]


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, where that is what is tested; else see `ended`."""
    return subprocess.run(
        [sys.executable, "-m", "recurrent_rl", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=120,
    )


def ended(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[Any, str, str]:
    """Status, output and errors of a command, run in this process."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    printed = capsys.readouterr()
    return caught.value.code, printed.out, printed.err


def one_line(printed: str) -> str:
    """The text without the box that some messages stand in, and its line ends."""
    return " ".join(re.sub(r"[^\x00-\x7f]|\|", " ", printed).split())


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = TrainConfig(
        "recurrent_rl/TMaze-v0",
        log_dir=str(tmp_path_factory.mktemp("runs")),
        num_envs=8,
        num_steps=16,
        total_timesteps=256,
        eval_episodes=0,
        agent=AgentConfig("lstm", hidden_size=8, encoder_size=8),
    )
    return train(config, progress=False).run_dir


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
    assert "Trained for 1,024 steps" in out
    assert "the learning rate goes from" in out
    assert "20 episodes" in out
    status, out, err = ended(resume, capsys)
    assert status == 0, err
    assert "has all its 1,024 steps already; raise --total-timesteps" in out
    assert "20 episodes" not in out
    status, _, err = ended([*resume, "--total-timesteps=512"], capsys)
    assert status == 2
    assert "1,024 steps already, more than total_timesteps 512" in err


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


def test_info_says_what_a_report_of_a_fault_should(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = ended(["info", str(finished)], capsys)
    said = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert status == 0
    assert {"recurrent-rl", "python", "torch", "kernels", "cores", "device"} <= set(said)
    assert (said["env_id"], said["agent.memory"]) == ("recurrent_rl/TMaze-v0", "lstm")
    assert "gamma" not in said  # it is the default


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--help"],
        ["--version"],
        *([c, "--help"] for c in ("train", "evaluate", "envs", "monitor")),
    ],
)
def test_help_is_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = ended(arguments, capsys)
    assert status == 0
    assert "recurrent-rl" in out
    if arguments == ["train", "--help"]:
        for expected in ("--num-envs", "--memory", "Memory cell: none, rnn", "--hide-indices"):
            assert expected in out


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
    "name", [name for name in recurrent_rl.__all__ if name.endswith("Error")] + ["ValueError"]
)
def test_an_error_that_a_user_can_mend_ends_any_command_with_status_2_and_others_are_raised(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kind = getattr(recurrent_rl, name, ValueError)

    def fail(_: object) -> int:
        raise kind("Mend the [thing].")

    monkeypatch.setitem(COMMANDS, "envs", fail)
    if kind is ValueError:
        with pytest.raises(ValueError, match=r"Mend the \[thing\]\."):
            main(["envs"])
        return
    status, out, err = ended(["envs"], capsys)
    assert (status, out, err) == (2, "", "error: Mend the [thing].\n")


def test_whole_numbers_may_be_written_with_an_exponent() -> None:
    given = parse(TrainConfig, "train", ["X-v0", "--total-timesteps=1e6", "--seq-len", "1.6e1"])
    assert given == TrainConfig("X-v0", total_timesteps=1_000_000, seq_len=16)
    assert parse(TrainConfig, "train", ["X-v0", "--seq-len", "None"]) == TrainConfig("X-v0")
    hidden = parse(TrainConfig, "train", ["X-v0", "--hide-indices", "1", "3"]).env.hide_indices
    assert hidden == (1, 3)


WHOLE = [
    name
    for name, setting in settings_of(TrainConfig).items()
    if re.search(r"\bint\b", str(setting.hint)) and "tuple" not in str(setting.hint)
]


def test_whole_settings_are_found() -> None:
    assert {"total_timesteps", "seed", "num_envs", "seq_len", "hidden_size", "threads"} <= {*WHOLE}


@pytest.mark.parametrize("name", WHOLE)
def test_every_setting_that_is_a_whole_number_takes_1e6_and_no_fraction(name: str) -> None:
    def given(text: str) -> Any:
        option = f"--{name.replace('_', '-')}"
        return settings_in(parse(TrainConfig, "train", ["X-v0", option, text]))[name]

    for text, number in (("16", 16), ("1_6", 16), ("1.6e1", 16), ("16.0", 16)):
        assert given(text) == number
        assert type(given(text)) is int
    for text in ("1.5", "1e-3", "15e-1", "inf", "nan"):
        with pytest.raises(UserError, match=rf"^{name} is .*; it must be a whole number\.$"):
            given(text)
    with pytest.raises(SystemExit, match="2"):
        given("1M")


def settings_in(config: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in vars(config).items():
        found |= settings_in(value) if dataclasses.is_dataclass(value) else {name: value}
    return found


def test_text_that_is_no_number_is_answered_with_how_to_write_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, _, err = ended(["train", "X-v0", "--total-timesteps", "1,000"], capsys)
    assert status == 2
    assert "'1,000' is no whole number; write it as 1000000, 1_000_000 or 1e6." in one_line(err)


def test_whole_numbers_in_json_may_be_written_with_an_exponent() -> None:
    text = '{"length": 1e2, "noise": 1.0, "std": 1e-3, "far": 1e300}'
    given = parse(TrainConfig, "train", ["X-v0", "--env-kwargs", text]).env.env_kwargs
    assert given == {"length": 100, "noise": 1.0, "std": 0.001, "far": 1e300}
    assert [type(value) for value in given.values()] == [int, float, float, float]
    settings = '{"total_timesteps": 1e6, "agent": {"hidden_size": 6.4e1}}'
    held = parse(BenchmarkArguments, "benchmark", ["memory", "--settings", settings]).settings
    changed = change(TrainConfig("X-v0"), held)
    assert (changed.total_timesteps, changed.agent.hidden_size) == (1_000_000, 64)
    with pytest.raises(UserError, match=r"num_envs is 1\.5; it must be a whole number"):
        change(TrainConfig("X-v0"), {"num_envs": 1.5})


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
        told = "Not saved: the run's evaluation.json is finer, with 40" in capsys.readouterr().out
        assert told == kept
        assert (saved.read_text() == before) == kept


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


# ------------------------------------------------------------- names that rich would take as markup

ODD = "[bold]x[/bold] [/] :smile:"


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
    with RunFolder(run_dir).locked():
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
    monkeypatch.setattr("recurrent_rl.experiments.benchmark.run_all", lambda *_: failed)
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


def test_an_error_of_an_environment_keeps_its_traceback_which_ends_in_how_to_resume(
    tmp_path: Path,
) -> None:
    (tmp_path / "my_envs.py").write_text(FAILING)
    result = run("train", "my_envs:Failing-v0", *TINY, cwd=tmp_path)
    assert result.returncode == 1
    (run_dir,) = (tmp_path / "runs").iterdir()
    assert "ConnectionError: simulator lost" in result.stderr
    assert f"recurrent-rl train --resume runs/{run_dir.name}" in result.stderr
    assert (run_dir / "checkpoint.safetensors").exists()
    if sys.version_info >= (3, 11):
        assert result.stderr.splitlines()[-1].startswith("The run on my_envs:Failing-v0 failed in")
