"""The command that trains with given settings is read as these settings."""

import contextlib
import dataclasses
import shlex
from typing import Any

import pytest

from recurrent_rl.cli.terminal import parse
from recurrent_rl.cli.train_arguments import GROUPS, TrainArguments
from recurrent_rl.command import NOT_TOLD, command_of
from recurrent_rl.config import TrainConfig
from recurrent_rl.errors import UserError

VALUES = (
    *(
        True,
        False,
        None,
        3,
        0.25,
        "constant",
        "bfloat16",
        "relu",
        "gru",
        "module:Class",
        "hf://a/b",
    ),
    *((2, 0), ("flatten", "frame-stack:4"), {"gamma": [0.5, 0.9]}, {"it's": "a b"}),
)


def changed(settings: Any) -> Any:
    """The settings, each with a value that is not its default where one fits with those before."""
    for field in dataclasses.fields(settings):
        before = getattr(settings, field.name)
        inner = [changed(before)] if dataclasses.is_dataclass(before) else VALUES
        for value in () if field.name in NOT_TOLD else inner:
            with contextlib.suppress(UserError):
                after = dataclasses.replace(settings, **{field.name: value})
                if getattr(after, field.name) != before:
                    settings = after
                    break
    return settings


def test_a_command_is_read_as_the_settings_that_it_was_made_of() -> None:
    given = changed(TrainConfig("CartPole-v1"))
    command = command_of(given)
    assert command is not None
    words = shlex.split(command)
    assert len([word for word in words if word.startswith("--")]) > 45
    assert words[:2] == ["recurrent-rl", "train"]
    assert parse(TrainArguments, "train", words[2:], GROUPS).config == given


def test_where_a_run_lies_and_an_environment_without_a_name_are_not_told() -> None:
    config = TrainConfig("CartPole-v1", log_dir="of/mine", workers=2, name="x")
    assert command_of(config) == "recurrent-rl train CartPole-v1"
    assert command_of(TrainConfig("<make_env>")) is None


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/mine/runs/Maze__gru__0", "Maze__gru__0"),
        ("runs/a b.safetensors", "'a b.safetensors'"),
        ("hf://me/maze", "hf://me/maze"),
    ],
)
def test_where_the_policy_lies_that_training_began_with_is_not_told(path: str, told: str) -> None:
    command = command_of(TrainConfig("CartPole-v1", init_from=path))
    assert command == f"recurrent-rl train CartPole-v1 --init-from {told}"
