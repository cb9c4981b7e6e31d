"""The command that trains with given settings."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recurrent_rl.agents.hub import SCHEME
from recurrent_rl.config import NO_MATTER_OF_WHAT_IS_LEARNT, TrainConfig
from recurrent_rl.fields import is_description

NOT_TOLD = NO_MATTER_OF_WHAT_IS_LEARNT | {"env_id"}
"""Settings without a flag in the command."""
FLAGS = {"wrappers": "wrapper"}
"""Flags that are not named as their settings."""
REPEATED = ("wrappers",)
"""Settings whose flag is given once for each value."""


def command_of(config: TrainConfig) -> str | None:
    """The command that trains what these settings train, but for rounding.

    Of a policy that training began with it tells the last part of the path: where it lies on this
    machine is nobody's business, and a policy that is shared holds the command.

    Returns:
        It; None where the environment was given in Python, which no command can name.
    """
    if config.env_id is None or is_description(config.env_id):
        return None
    words = ["recurrent-rl", "train", config.env_id]
    requested = config.as_requested()
    return shlex.join([*words, *flags_of(requested, TrainConfig())])


def flags_of(settings: Any, default: Any) -> Iterator[str]:
    """The flags of the settings that are not at their default, those within them included."""
    for field in dataclasses.fields(settings):
        name = field.name
        value, usual = getattr(settings, name), getattr(default, name)
        if dataclasses.is_dataclass(value):
            yield from flags_of(value, usual)
        elif value != usual and name not in NOT_TOLD:
            yield from _words(name, value)


def _words(name: str, value: Any) -> Iterator[str]:
    """The words of one flag."""
    flag = FLAGS.get(name, name).replace("_", "-")
    if isinstance(value, bool):
        yield f"--{flag}" if value else f"--no-{flag}"
    elif name in REPEATED:
        for one in value:
            yield from (f"--{flag}", str(one))
    else:
        yield f"--{flag}"
        if isinstance(value, dict):
            yield json.dumps(value)
        elif isinstance(value, tuple):
            yield from map(str, value)
        elif name == "init_from" and not value.startswith(SCHEME):
            yield Path(value).name
        else:
            yield str(value)
