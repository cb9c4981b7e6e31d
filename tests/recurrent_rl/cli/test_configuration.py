"""Settings from files and tuned ones, and what goes before what."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from recurrent_rl.agents.settings import OTHER_NAMES
from recurrent_rl.cli import main
from recurrent_rl.cli.configuration import flat_settings
from recurrent_rl.cli.grouping import settings_of
from recurrent_rl.cli.tune_arguments import TuneArguments
from recurrent_rl.config import TrainConfig
from recurrent_rl.experiments.presets import PRESETS
from recurrent_rl.experiments.suites import SUITES
from recurrent_rl.resolve import choose_sizes

TASK = "recurrent_rl/TMaze-v0"


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> TrainConfig:
    """What `train ... --print-config` prints."""
    with pytest.raises(SystemExit) as end:
        main(["train", *arguments, "--print-config"])
    captured = capsys.readouterr()
    assert end.value.code == 0, captured.err
    return TrainConfig.from_json(captured.out)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as end:
        main(["train", *arguments])
    assert end.value.code == 2
    return capsys.readouterr().err.replace("\n", " ")


def test_flags_go_before_the_file_and_the_file_before_the_defaults(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(
        "env_id: recurrent_rl/TMaze-v0\n"
        "total_timesteps: 5000\n"
        "gamma: 0.9\n"
        "agent:\n  memory: lstm\n  hidden_size: 32\n"
        "hide_indices: [1, 0]\n"
        "env:\n  env_kwargs: {length: 12}\n"
    )
    config = printed(capsys, "--config", str(path), "--gamma", "0.7", "--hidden-size=16")
    assert config.env_id == TASK
    assert (config.total_timesteps, config.gamma, config.gae_lambda) == (5000, 0.7, 0.9)
    assert (config.agent.memory, config.agent.hidden_size) == ("lstm", 16)
    assert (config.env.env_kwargs, config.env.hide_indices) == ({"length": 12}, (1, 0))
    other = printed(capsys, "recurrent_rl/Recall-v0", f"--config={path}")
    assert other.env_id == "recurrent_rl/Recall-v0"


def test_what_is_printed_is_a_file_of_the_same_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--schedules", '{"clip_coef": [0.3, 0.1]}', "--env-kwargs", '{"length": 5}']
    config = printed(capsys, TASK, *flags, "--hide-indices", "1", "--name", "mine", "--seed", "3")
    path = tmp_path / "same.json"
    path.write_text(config.to_json())
    assert printed(capsys, "--config", str(path)) == config


def test_the_settings_of_a_run_are_a_file_whose_choices_are_made_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = TrainConfig(TASK, seed=4, total_timesteps=20_000)
    path = tmp_path / "config.json"
    path.write_text(choose_sizes(config, 22).to_json())
    assert printed(capsys, "--config", str(path)) == config


def test_a_file_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.json"
    settings = {"env_id": TASK, "log_dir": str(tmp_path / "runs"), "eval_episodes": 2}
    path.write_text(json.dumps(settings | {"total_timesteps": 2048, "memory": "gru"}))
    with pytest.raises(SystemExit) as end:
        main(["train", "--config", str(path), "--quiet"])
    assert end.value.code == 0
    (run_dir,) = (tmp_path / "runs").iterdir()
    assert "__gru__" in run_dir.name


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("run.json", '{"gama": 0.9}', "gama is no setting. Did you mean gamma?"),
        ("run.json", '{"agent": {"memry": "gru"}}', "memry is no setting. Did you mean memory?"),
        ("run.json", '{"n_steps": 3}', "n_steps is no setting. Here it is num_steps."),
        ("run.json", '{"gamma": 0.9, "gamma": 0.5}', "gamma is given twice"),
        ("run.yaml", "gamma: 0.9\ngamma: 0.5", "gamma is given twice"),
        ("run.yaml", "memory: gru\nagent: {memory: rnn}", "memory is given twice: alone, and wi"),
        ("run.json", '{"gamma": 0.9} // as ever', "JSON has no comments"),
        ("run.json", "{", "cannot be read"),
        ("run.yaml", "a: [", "cannot be read"),
        ("run.yaml", "a: 1\ngamma: {{ gamma }}", "in line 2 a list or mapping is where a name"),
        ("run.yaml", "? [1, 2]\n: 3", "cannot be read: in line 1 a list or mapping is where"),
        ("run.yaml", "a: !!set {? [1]}", "cannot be read: in line 1 a list or mapping is"),
        *(
            ("run.yaml", text, "run.yaml cannot be read: a value is not of the type that its tag")
            for text in (
                "a: !exponent [1]",
                'a: !!int ""',
                'a: !!float ""',
                "a: !!bool x",
                "a: !!timestamp x",
            )
        ),
        ("run.yaml", "- a\n- b", "must hold settings by their names"),
        ("run.yaml", "# gamma: 0.9\n", "run.yaml is empty; it must hold settings by their names"),
        ("run.yaml", "agent: lstm", "agent is 'lstm'; it must hold settings by their names: agent"),
        ("run.yaml", "num_envs: 010", "010 in line 1 would be read as 8: YAML takes"),
        ("run.yaml", "a: 1\nenv: {env_kwargs: {at: 1:30}}", "1:30 in line 2 would be read as 90"),
        ("run.json", f'{{"env_id": "{TASK}", "gamma": 7}}', "gamma is 7"),
        ("run.json", f'{{"env_id": "{TASK}", "gamma": "much"}}', "gamma"),
        ("run.json", f'{{"env_id": "{TASK}", "total_timesteps": "many"}}', "total_timesteps"),
    ],
)
def test_a_file_that_cannot_be_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str, what: str
) -> None:
    path = tmp_path / name
    path.write_text(text)
    assert what in refused(capsys, "--config", str(path), "--print-config")


def test_a_part_without_settings_and_a_mapping_that_takes_in_another_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.yaml"
    kwargs = "{base: &base {length: 12}, task: {<<: *base, dim: 0}}"
    path.write_text(f"env_id: {TASK}\nagent:\nseed: 0\nenv:\n  env_kwargs: {kwargs}\n")
    kept = printed(capsys, "--config", str(path)).env.env_kwargs
    assert kept == {"base": {"length": 12}, "task": {"length": 12, "dim": 0}}


def test_the_home_folder_is_where_a_path_begins_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No shell has put it there in a file, in Python, or after a flag's equals sign."""
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / "run.yaml"
    path.write_text(f"env_id: {TASK}\nlog_dir: ~/runs\n")
    assert printed(capsys, "--config=~/run.yaml").log_dir == f"{tmp_path}/runs"
    assert printed(capsys, TASK, "--log-dir=~/mine").log_dir == f"{tmp_path}/mine"
    assert TrainConfig(log_dir=Path("~/runs")).log_dir == f"{tmp_path}/runs"


def test_a_time_limit_as_a_flag_is_answered_with_the_way_to_give_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    told = refused(capsys, TASK, "--max-episode-steps", "5")
    assert "has no --max-episode-steps. Here it is --env-kwargs" in told
    assert "wrappers (--wrapper) 'gymnasium.wrappers:TimeLimit" in told


def test_a_missing_file_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "none.yaml")
    assert f"The settings in {path} cannot be read" in refused(capsys, TASK, "--config", path)


def test_without_pyyaml_it_is_said_what_to_install(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    path = tmp_path / "run.yaml"
    path.write_text("seed: 1")
    assert "pip install 'recurrent-rl[yaml]'" in refused(capsys, TASK, "--config", str(path))


def test_tuned_settings_come_with_the_library(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = "recurrent_rl/Autoencode-Hard-v0"
    config = printed(capsys, task, "--preset")
    assert (config.agent.memory, config.agent.hidden_size) == ("gru-matrix", 192)
    assert config.total_timesteps == 2_000_000
    path = tmp_path / "run.json"
    path.write_text('{"hidden_size": 64, "seed": 5}')
    config = printed(capsys, task, "--preset", "--config", str(path), "--seed", "6")
    assert (config.agent.memory, config.agent.hidden_size, config.seed) == ("gru-matrix", 64, 6)


def test_where_there_are_none_the_nearest_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    told = refused(capsys, "recurrent_rl/CountRecal-Hard-v0", "--preset")
    assert (
        "no tuned settings for recurrent_rl/CountRecal-Hard-v0. Did you mean CountRecall-" in told
    )
    assert "There are RepeatPrevious-Easy" in refused(capsys, "Xyz-v0", "--preset")


def test_every_preset_is_of_a_task_of_the_results_and_can_be() -> None:
    tasks = {task.env_id for suite in SUITES.values() for task in suite.tasks}
    known: dict[str, Any] = dict(settings_of(TrainConfig))
    for name, preset in PRESETS.items():
        assert f"recurrent_rl/{name}-v0" in tasks
        fields = preset.fields()
        assert flat_settings(fields).keys() <= known.keys()
        text = json.loads(TrainConfig(f"recurrent_rl/{name}-v0").to_json())
        agent = text["agent"] | fields.pop("agent", {})
        TrainConfig.from_json(json.dumps(text | fields | {"agent": agent}))


def test_a_file_is_read_as_people_write_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """YAML with comments, exponents and Python's None; a byte order mark, Windows' line ends."""
    lines = [f"env_id: {TASK}  # ours", "# short", "learning_rate: 3e-4", "total_timesteps: 1e5"]
    lines += ["horizon: None", "name: 'None'", "agent:", "  memory: none", "env_kwargs: {n: 1e1}"]
    path = tmp_path / "run.YML"
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    found = printed(capsys, "--config", str(path))
    assert (found.learning_rate, found.total_timesteps, found.name) == (3e-4, 100_000, "None")
    assert (found.agent.horizon, found.agent.memory) == (None, "none")
    assert found.env.env_kwargs == {"n": 10}
    path = tmp_path / "run.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps({"env_id": TASK}, indent=1).encode())
    assert printed(capsys, "--config", str(path)).env_id == TASK


def test_a_folder_is_no_file_of_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "is a folder; give a file of settings" in refused(capsys, "--config", str(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["train", "--n-steps", "3"], "recurrent-rl train has no --n-steps. Here it is --num-st"),
        (["train", "--env_name=X"], "Here it is ENV_ID, without a flag."),
        (["train", "--env-id", "X"], "Write ENV_ID, without a flag."),
        (["train", "X", "--env-wrapper", "y"], "Here it is --wrapper."),
        (["tune", "X", "--n-trials", "3"], "Here it is --trials."),
        (["evaluate", "X", "--n-eval-episodes", "3"], "Did you mean --episodes?"),
    ],
)
def test_a_flag_of_another_library_is_answered_with_ours(
    capsys: pytest.CaptureFixture[str], arguments: list[str], what: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert what in capsys.readouterr().err


def test_names_of_other_libraries_stand_for_settings_that_there_are() -> None:
    known = settings_of(TuneArguments)
    assert [ours.name for ours in OTHER_NAMES.values() if ours.name not in known] == []
    assert [name for name in OTHER_NAMES if name in known] == []  # it would never be told
