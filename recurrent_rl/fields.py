"""Kinds of settings that the core has: paths, names, environments' ids, JSON objects, sizes."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Annotated, Any

from recurrent_rl.agents.settings import Must, Read, SettingError, shown

LARGEST_SIZE = 1_000_000
"""Of copies, minibatches and steps of a rollout: more asks for more memory than there is."""

_ENV_ID = re.compile(r"(?!\.)[\w:.-]+(/[\w:.-]+)?")  # as Gymnasium's own, with a module before it
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_BREAKS_A_FOLDER_NAME = re.compile(r'[/\\:*?"<>|]')


def _path(name: str, value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _is_path(text: str) -> bool:
    return bool(text) and "\0" not in text


def _is_label(text: str) -> bool:
    return ".." not in re.split(r"[/\\]", text) and not _CONTROL.search(text)


def _json_object(name: str, value: Any) -> str:
    """A dictionary, or JSON text of an object, as JSON text."""
    example = """Write it as '{"name": value}'."""
    try:
        held = json.loads(value) if isinstance(value, str) else value
        if not isinstance(held, Mapping):
            raise SettingError(f"{name} is {shown(value)}, not a JSON object. {example}")
        return json.dumps(_plain(name, held), allow_nan=False)
    except json.JSONDecodeError as error:
        raise SettingError(f"{name} is not JSON ({error}): {shown(value)}. {example}") from None
    except RecursionError:
        raise SettingError(f"{name} is nested too deeply, or holds itself.") from None
    except SettingError:
        raise
    except ValueError as error:  # NaN, an infinity, or thousands of digits
        raise SettingError(f"{name} is {shown(value)}, which JSON cannot hold: {error}.") from None


def _plain(name: str, value: Any) -> Any:
    """The value in the types that JSON has; `name` is where it stands."""
    if hasattr(value, "tolist"):  # of NumPy or torch
        value = value.tolist()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        if wrong := [key for key in value if not isinstance(key, str)]:
            raise SettingError(f"{name} has the key {shown(wrong[0])}; in JSON keys are text.")
        return {key: _plain(f"{name}.{key}", inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(f"{name}[{index}]", inner) for index, inner in enumerate(value)]
    raise SettingError(
        f"{name} is {shown(value)}, which JSON cannot hold: use numbers, text, True, False, None, "
        "and lists and dicts of these."
    )


FolderPath = Annotated[
    str, Read(_path), Must("the path of a folder: not empty, without null characters", _is_path)
]
"""A folder, as text or path."""

Label = Annotated[
    str, Must('a name for folders: without ".." between slashes, line ends and the like', _is_label)
]
"""A part of folders' names, after `folder_part`."""

EnvId = Annotated[
    str,
    Must("a Gymnasium id such as CartPole-v1, or module:EnvId", lambda id: _ENV_ID.fullmatch(id)),
]
"""An environment's id, after the module that registers it where that has to be imported."""

JsonObject = Annotated[str, Read(_json_object)]
"""A JSON object as text; a dictionary is made into one."""


def folder_part(text: str) -> str:
    """The text as a part of a folder's name: what separates paths becomes a dash."""
    return _BREAKS_A_FOLDER_NAME.sub("-", text)
