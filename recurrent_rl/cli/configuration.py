"""Settings from a file, or tuned ones that ship with the library: what flags are laid over."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recurrent_rl.agents.arguments import argument
from recurrent_rl.agents.settings import SettingError, close_matches, parser, shown, suggestion
from recurrent_rl.cli.grouping import settings_of
from recurrent_rl.cli.settings_file import read_settings
from recurrent_rl.cli.terminal import Arguments, parse
from recurrent_rl.config import RESOLVED, TrainConfig
from recurrent_rl.errors import UserError
from recurrent_rl.experiments.presets import PRESETS
from recurrent_rl.fields import FolderPath

PARTS = ("agent", "env")
"""Settings that are classes of settings; a file may nest them, as a run's config.json does."""


def option(arguments: Sequence[str], name: str) -> str | None:
    """The value of `--name VALUE` or `--name=VALUE` among a command's arguments, the last given."""
    found = None
    for i, word in enumerate(arguments):
        if word == name and i + 1 < len(arguments):
            found = arguments[i + 1]
        elif word.startswith(f"{name}="):
            found = word.partition("=")[2]
    return found


def parse_over_files(
    kind: type[Arguments], name: str, arguments: Sequence[str], groups: Mapping[str, Sequence[str]]
) -> Arguments:
    """Read the arguments of a command that takes --config FILE and --preset: flags go before both.

    Args:
        kind: its settings class, which has a TrainConfig and `preset`.
        name: of the command.
        arguments: of the command.
        groups: as for `parse`.
    """
    file = option(arguments, "--config")
    of_file = {} if file is None else settings_of_file(Path(argument("--config", file, FolderPath)))
    given: Any = parse(kind, name, arguments, groups, of_file)
    if given.preset:
        defaults = preset_of(given.config.environment) | of_file
        given = parse(kind, name, arguments, groups, defaults)
    read: Arguments = given
    return read


def settings_of_file(path: Path) -> dict[str, Any]:
    """The settings that a file holds, by name: JSON, or YAML where its name says so.

    A run's config.json is such a file; what was chosen for it is left to be chosen again.

    Raises:
        UserError: it cannot be read, or holds a name that is no setting.
    """
    held = read_settings(path)
    if RESOLVED in held:
        held = json.loads(TrainConfig.from_json(json.dumps(held)).as_requested().to_json())
    try:
        return flat_settings(held)
    except SettingError as error:
        raise UserError(f"In {path}: {error}") from error


def preset_of(env_id: str) -> dict[str, Any]:
    """The tuned settings for this environment, by name.

    Raises:
        UserError: there are none; names those there are.
    """
    task = re.sub(r"-v\d+$", "", env_id.rpartition("/")[2])
    if (found := PRESETS.get(task)) is not None:
        return flat_settings(found.fields())
    near = close_matches(task, PRESETS, most=2, cutoff=0.6)
    hint = f" Did you mean {' or '.join(near)}?" if near else f" There are {', '.join(PRESETS)}."
    raise UserError(f"There are no tuned settings for {env_id}.{hint}")


def flat_settings(held: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by name, those of the agent and the environment without nesting.

    Raises:
        SettingError: a name is no setting or given twice, or a value cannot be.
    """
    known = settings_of(TrainConfig)
    flat: dict[str, Any] = {}
    for name, value in held.items():
        if name in PARTS and (value is None or isinstance(value, Mapping)):
            found = flat_settings(value or {})
        elif name == "agent":
            raise SettingError(
                f"agent is {shown(value)}; it must hold settings by their names: agent: {{memory: "
                "lstm}, or memory: lstm without it."
            )
        elif name in known:
            found = {name: parser(known[name].hint)(name, value)}
        else:
            hint = suggestion(str(name), {one: one for one in known})
            raise SettingError(f"{name} is no setting.{hint} `recurrent-rl train --help` has all.")
        if twice := found.keys() & flat.keys():
            raise SettingError(f"{twice.pop()} is given twice: alone, and within {name}.")
        flat |= found
    return flat
