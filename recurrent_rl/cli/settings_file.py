"""A file of settings as a dictionary: JSON, or YAML where its name says so."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from recurrent_rl.agents.extras import optional
from recurrent_rl.agents.settings import shown
from recurrent_rl.errors import UserError
from recurrent_rl.fields import each_once, float_or_whole

YAML_NAMES = (".yaml", ".yml")
MERGE = "tag:yaml.org,2002:merge"
"""What PyYAML makes of `<<`, which takes in the names of another mapping."""
_MISREAD = re.compile(r"[-+]?(0[\d_]+|[\d_]+(:[\d_.]+)+)")
"""Numbers that YAML 1.1 reads to the base of 8 or of 60: 010, and 1:30."""


def read_settings(path: Path) -> dict[str, Any]:
    """What the file holds, by name. A mark of the byte order and any line ends may be in it.

    Raises:
        UserError: it cannot be read, is no JSON or YAML, holds a name twice, or no names.
    """
    if path.is_dir():
        raise UserError(
            f"{path} is a folder; give a file of settings, such as the config.json in a run's."
        )
    is_yaml = path.suffix.lower() in YAML_NAMES
    try:
        text = path.read_text(encoding="utf-8-sig")
        held = _yaml(path, text) if is_yaml else _json(text)
    except json.JSONDecodeError as error:
        raise UserError(
            f"The settings in {path} cannot be read as JSON: {error}. JSON has no comments, and no "
            "comma before a closing bracket; a file whose name ends in .yaml may have both."
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"The settings in {path} cannot be read: {error}") from error
    if held is None:
        raise UserError(f"{path} is empty; it must hold settings by their names.")
    if not isinstance(held, dict):
        raise UserError(f"{path} holds {shown(held)}; it must hold settings by their names.")
    return held


def _json(text: str) -> Any:
    return json.loads(text, parse_float=float_or_whole, object_pairs_hook=each_once)


def _yaml(path: Path, text: str) -> Any:
    yaml = optional("yaml", f"A file of settings such as {path}", "write it as .json")

    class Loader(yaml.SafeLoader):  # type: ignore[misc, name-defined]
        """YAML as people write it, also where PyYAML would read text: 3e-4, 1e6 and None."""

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            """Each name once, and names alone."""
            names = [key for key, _ in node.value if key.tag != MERGE]
            for name in names:
                if not isinstance(name, yaml.ScalarNode):
                    raise ValueError(
                        f"in line {name.start_mark.line + 1} a list or mapping is where a name "
                        "belongs. Fill in {{ templates }} first."
                    )
            each_once((self.construct_object(name), None) for name in names)
            mapping: dict[Any, Any] = super().construct_mapping(node, deep)
            return mapping

    exponent = re.compile(r"[-+]?(\d[\d_]*\.?[\d_]*|\.\d+)[eE][-+]?\d+$")
    Loader.add_implicit_resolver("!exponent", exponent, [*"-+.0123456789"])
    Loader.add_constructor("!exponent", lambda _, node: float_or_whole(node.value))
    for kind, construct in (
        ("int", Loader.construct_yaml_int),
        ("float", Loader.construct_yaml_float),
    ):
        Loader.add_constructor(f"tag:yaml.org,2002:{kind}", partial(_number, construct))
    Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile("None$"), ["N"])
    try:
        return yaml.load(text, Loader)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    except (TypeError, LookupError, AttributeError) as error:  # of PyYAML, where a tag says so
        raise ValueError(f"a value is not of the type that its tag says ({error!r}).") from error


def _number(construct: Callable[[Any, Any], Any], loader: Any, node: Any) -> Any:
    """The number, as PyYAML reads it.

    Raises:
        ValueError: it would be another one than who wrote it meant.
    """
    number = construct(loader, node)
    if _MISREAD.fullmatch(node.value):
        raise ValueError(
            f"{node.value} in line {node.start_mark.line + 1} would be read as {number}: YAML "
            "takes a number with a 0 before it to the base of 8, and one with colons to the base "
            "of 60. Leave the 0 out; put text in quotes."
        )
    return number
