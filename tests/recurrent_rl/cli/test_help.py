"""The help of the commands: what people change most comes first, and nothing is missing."""

import re
import subprocess
import sys

import pytest

from recurrent_rl.cli import COMMANDS, main
from recurrent_rl.cli.grouping import settings_of
from recurrent_rl.cli.terminal import parse
from recurrent_rl.cli.train_arguments import GROUPS, TrainArguments
from recurrent_rl.config import TrainConfig
from tests.recurrent_rl.cli.commands import ended


def help_of(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str
) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit, match="0"):
        main([*arguments])
    return capsys.readouterr().out


def test_the_groups_name_every_setting_of_a_training_once() -> None:
    grouped = [name for names in GROUPS.values() for name in names]
    assert len(grouped) == len(set(grouped))
    assert {*grouped, "env_id"} == set(settings_of(TrainConfig))
    assert len(GROUPS["most-changed"]) == 10


def test_the_help_of_train_shows_resume_and_what_is_changed_most_then_the_other_groups(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = help_of(capsys, monkeypatch, "train", "--help")
    found = re.findall(r"^\W{1,3}(?:-\w, )?--(\w[\w-]*)|^\W+ ([\w-]+) options", text, re.MULTILINE)
    shown = [option or f"[{title}]" for option, title in found]
    expected = ["help", "resume", "import", "config", "preset", "print-config", "quiet"]
    for title, names in GROUPS.items():
        flags = ("wrapper" if name == "wrappers" else name.replace("_", "-") for name in names)
        expected += [f"[{title}]", *flags]
    assert shown == expected
    assert max(map(len, text.splitlines())) <= 80


def test_the_help_breaks_lines_only_where_they_are_full(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = help_of(capsys, monkeypatch, "train", "--help")
    assert "their longest length is" in text  # where the docstring has a line end
    assert "time limit or, where" in help_of(capsys, monkeypatch, "evaluate", "--help")


def test_options_of_every_group_reach_the_settings_they_name() -> None:
    arguments = ["X-v0", "--memory=gru", "--hide-indices", "1", "--gae-lambda=0.5", "--num_envs=3"]
    given = parse(TrainArguments, "train", [*arguments, "--no-previous-action"], GROUPS).config
    assert given.env_id == "X-v0"
    assert given.agent.memory == "gru"
    assert given.agent.previous_action is False
    assert given.env.hide_indices == (1,)
    assert given.gae_lambda == 0.5
    assert given.num_envs == 3
    assert parse(TrainArguments, "train", ["X-v0"], GROUPS).config == TrainConfig("X-v0")


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
        for expected in ("--num-envs", "--memory", "remembers with: none, rnn", "--hide-indices"):
            assert expected in out


def test_help_that_is_cut_off_by_head_ends_without_a_traceback() -> None:
    command = f"{sys.executable} -m recurrent_rl train --help | head -n 1"
    result = subprocess.run(
        command, shell=True, capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stdout.count("\n") == 1
    assert result.stderr == ""


@pytest.mark.parametrize("command", [*COMMANDS, None])
def test_help_command_is_command_help(
    command: str | None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = [command] if command else []
    text = help_of(capsys, monkeypatch, "help", *name)
    assert text == help_of(capsys, monkeypatch, *name, "--help")
    assert text.startswith(f"usage: recurrent-rl {command or 'COMMAND'} ")


def test_help_for_an_unknown_command_says_which_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["help", "tarin"])
    assert "Unknown command 'tarin'; use one of train, evaluate" in capsys.readouterr().err


NEEDS_NO_PYTORCH = """
import sys
from contextlib import suppress
from recurrent_rl.cli import COMMANDS, main

for name in COMMANDS.keys() - {"train", "tune"}:  # whose options are a training's settings
    with suppress(SystemExit):
        main([name, "--help"])
    if "torch" in sys.modules:
        sys.exit(f"{name} imports torch")
"""


def test_help_needs_no_pytorch() -> None:
    """Each command imports what it needs when it runs; so Ctrl-C in that time ends it quietly."""
    done = subprocess.run(
        [sys.executable, "-c", NEEDS_NO_PYTORCH], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert (done.returncode, done.stderr) == (0, b"")
