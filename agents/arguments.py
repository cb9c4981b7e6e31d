"""Arguments of public functions: of their declared types, or refused by name in one sentence."""

from __future__ import annotations

import os
from typing import Any

from recurrent_rl.agents.errors import UserError
from recurrent_rl.agents.settings import SettingError, parser, refusal

PATH = ((str, os.PathLike), "a path: text or a pathlib.Path")
"""For `check_is`: a file or folder."""


def argument(name: str, value: Any, kind: Any) -> Any:
    """An argument brought to its type, as `settings` does with a field.

    Args:
        name: of the argument.
        value: as given.
        kind: a type that a field may have, for example `Annotated[int | None, at_least(1)]`.

    Raises:
        SettingError: names the argument, what came and what was expected.
    """
    return parser(kind)(name, value)


def check_is(
    name: str, value: object, kind: Any, expected: str, error: type[UserError] = SettingError
) -> None:
    """Refuse an argument of another class. It costs no more than `isinstance`.

    Args:
        name: of the argument.
        value: as given.
        kind: the class, or a tuple of several.
        expected: ends the message: "a Policy, as load_policy(path) gives".
        error: raised.

    Raises:
        error: names the argument, what came and what was expected.
    """
    if not isinstance(value, kind):
        raise error(refusal(name, value, expected))
