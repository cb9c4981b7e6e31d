"""Kinds of settings that the core has: paths, names, environments' ids, JSON objects, numbers."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from recurrent_rl.agents.settings import (
    LARGEST_INT,
    Must,
    Read,
    SettingError,
    at_least,
    at_most,
    no_repeats,
    refusal,
    shown,
)

GYMNASIUMS_INFOS = ("action_mask", "episode", "final_info", "final_obs")
"""Keys of infos that hold something else than a number, whatever the environment."""

LARGEST_SIZE = 1_000_000
"""Of environments, minibatches and steps of a rollout: more needs more memory than there is."""

MOST_WORKERS = 65_536
"""More than any machine runs."""

_ENV_ID = re.compile(r"(?!\.)[\w:.-]+(/[\w:.-]+)?")  # as Gymnasium's own, with a module before it
_DESCRIPTION = re.compile(r"<[\w:./-]+>")
_NOT_DESCRIBING = re.compile(r"[^\w:./-]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_BREAKS_A_FOLDER_NAME = re.compile(r'[/\\:*?"<>|]')


def _path(name: str, value: Any) -> Any:
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    return os.path.expanduser(text) if isinstance(text, str) else text  # no shell has done it


def _is_path(text: str) -> bool:
    parts = Path(text).parts
    return bool(text) and "\0" not in text and all(len(os.fsencode(part)) <= 255 for part in parts)


def _is_label(text: str) -> bool:
    return ".." not in re.split(r"[/\\]", text) and not _CONTROL.search(text)


def _is_info_key(key: str) -> bool:
    is_private = key.startswith("_") or key in GYMNASIUMS_INFOS
    return bool(key) and not is_private and not _CONTROL.search(key)


def json_object(name: str, text: str) -> dict[str, Any]:
    """The JSON object that a text holds, for example one of the command line.

    A whole number may have an exponent: 1e6 is the integer 1000000, where 1.0 stays a float.

    Raises:
        SettingError: it holds none, or a name twice.
    """
    example = """Write it as '{"name": value}'."""
    try:
        held = json.loads(text, parse_float=float_or_whole, object_pairs_hook=each_once)
    except json.JSONDecodeError as error:
        raise SettingError(f"{name} is not JSON ({error}): {shown(text)}. {example}") from None
    except RecursionError:
        raise SettingError(f"{name} is nested too deeply, or holds itself.") from None
    except SettingError as error:
        raise SettingError(f"In {name}: {error}") from None
    except ValueError as error:  # thousands of digits
        raise SettingError(f"{name} is {shown(text)}, which JSON cannot hold: {error}.") from None
    if not isinstance(held, dict):
        raise SettingError(f"{name} is {shown(text)}, not a JSON object. {example}")
    return held


def each_once(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    """The names and values of a JSON object as a dictionary.

    Raises:
        SettingError: two have one name; all readers of JSON and YAML would drop the first.
    """
    found: dict[Any, Any] = {}
    for name, value in pairs:
        if name in found:
            raise SettingError(f"{name} is given twice. Leave one of them out.")
        found[name] = value
    return found


def float_or_whole(text: str) -> float:
    """The number that is written there; with an exponent a whole one is an integer."""
    number = float(text)
    is_whole = "e" in text.lower() and number.is_integer() and abs(number) <= LARGEST_INT
    return int(number) if is_whole else number


def _plain_object(name: str, value: Any) -> Any:
    """A dictionary in the types that JSON has."""
    if not isinstance(value, Mapping):
        raise SettingError(f"{name} is {shown(value)}, not a JSON object. Give a dict.")
    try:
        plain = _plain(name, value)
        json.dumps(plain, allow_nan=False)
    except RecursionError:
        raise SettingError(f"{name} is nested too deeply, or holds itself.") from None
    except SettingError:
        raise
    except ValueError as error:  # NaN, an infinity, or thousands of digits
        raise SettingError(f"{name} is {shown(value)}, which JSON cannot hold: {error}.") from None
    return plain


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


Size = Annotated[int, at_least(1), at_most(LARGEST_SIZE)]
"""A number of environments or steps."""

WorkerCount = Annotated[int, at_least(1), at_most(MOST_WORKERS)]
Workers = WorkerCount | Literal["auto"]
"""How many processes train together; auto: `choose_sizes` chooses."""

FolderPath = Annotated[
    str | Path,
    Read(_path),
    Must("the path of a folder: not empty, no null characters, no name over 255 bytes", _is_path),
]
"""A folder, as text or path; held as text."""

Label = Annotated[
    str, Must('a name for folders: without ".." between slashes, line ends and the like', _is_label)
]
"""A part of folders' names, after `folder_part`."""


def is_description(env_id: str) -> bool:
    """Whether this describes an environment that a run was given, and names none: `<make_env>`."""
    return _DESCRIPTION.fullmatch(env_id) is not None


def described(name: str) -> str:
    """The description of an environment of this name."""
    bare = _NOT_DESCRIBING.sub("", name)
    return f"<{bare or 'environment'}>"


def bare_name(env_id: str) -> str:
    """The name in an id, `module:name` or description, without what stands around it."""
    return env_id.rpartition(":")[2].lstrip("./").strip("<>")


def is_same_environment(one: str, other: str) -> bool:
    """Whether two names, as runs record them, are surely of one environment.

    An id is the same whatever module is named before it. Else module and name count: functions of
    two modules are often called alike. A description tells nothing, unless it holds an id.
    """
    names = bare_name(one), bare_name(other)
    if names[0] != names[1]:
        return False
    if not all(part.isidentifier() for part in names[0].split(".")):  # what only an id can be
        return True
    if is_description(one) or is_description(other):
        return False
    (module, mark), (other_module, other_mark) = _module_and_mark(one), _module_and_mark(other)
    if "/" in (mark, other_mark):
        return "." not in (mark, other_mark)
    return module == other_module


def _module_and_mark(env_id: str) -> tuple[str, str]:
    """The module named in an id, and "/" where it surely is one, "." where it surely is none."""
    module, _, name = env_id.rpartition(":")
    return module, "/" if not module else name[0] if name.startswith((".", "/")) else ""


def _no_environment(name: str, value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value
    expected = "text. Give a class, a function or an environment as train(config, env=...)"
    raise SettingError(refusal(name, value, expected))


EnvId = Annotated[
    str,
    Read(_no_environment),
    Must(
        "a Gymnasium id such as CartPole-v1, or module:name",
        lambda text: _ENV_ID.fullmatch(text) or is_description(text),
    ),
]
"""An environment's id, after the module that registers it where that has to be imported; or
`module:name` of a class or function that makes it; or the description of one that was given."""

JsonObject = Annotated[dict[str, Any], Read(_plain_object)]
"""A dictionary of what JSON can hold; on the command line the text of a JSON object."""


ObservedKeys = Annotated[
    tuple[str, ...],
    no_repeats("a key"),
    tyro.conf.arg(metavar="KEY [KEY ...]"),
]
"""Keys of a Dict observation to see."""

InfoKeys = Annotated[
    tuple[
        Annotated[
            str,
            Must(
                "a key of infos: not empty, without an underscore at its start, and not "
                f"{', '.join(GYMNASIUMS_INFOS)}",
                _is_info_key,
            ),
        ],
        ...,
    ],
    no_repeats("a key"),
]
"""Keys of numbers in infos; Gymnasium keeps `_KEY` for which environments tell of it."""


def folder_part(text: str) -> str:
    """The text as a part of a folder's name: what separates paths becomes a dash."""
    return _BREAKS_A_FOLDER_NAME.sub("-", text)
