"""How a setting is refused: a sentence that says what came, what was expected, and what is near."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from recurrent_rl.agents.errors import UserError


class SettingError(UserError):
    """A setting that cannot be: names it, what came, and what was expected."""


def refusal(name: str, value: object, expected: str) -> str:
    """The sentence that says what came, and what was expected."""
    return f"{name} is {shown(value)}; it must be {expected}."


def shown(value: object) -> str:
    """The value as a message shows it."""
    try:
        text = repr(value)
    except Exception:  # a number too long to print, or any fault of a foreign class
        text = f"of type {type(value).__name__}"
    return text if len(text) <= 100 else f"{text[:97]}..."


def nearest(value: Any, choices: Collection[str]) -> str:
    """A hint at the choice that was likely meant; nothing where none is near."""
    near = close_matches(value, choices, most=1, cutoff=0.4) if isinstance(value, str) else []
    return f" Did you mean {near[0]}?" if near else ""


def did_you_mean(name: str, choices: Iterable[str], prefix: str = "") -> str:
    """A sentence that names up to three of the choices that are like the name; else nothing."""
    near = close_matches(name, choices, most=3, cutoff=0.6)
    return f" Did you mean {' or '.join(prefix + one for one in near)}?" if near else ""


def close_matches(text: str, choices: Iterable[str], most: int, cutoff: float) -> list[str]:
    """So many of the choices that are like the text in any case of letters, the nearest first.

    Args:
        text: what was written.
        choices: what could have been meant.
        most: choices to return.
        cutoff: how alike they must be, from 0 to 1, as for `difflib.get_close_matches`.
    """
    lower = {choice.lower(): choice for choice in choices}
    return [lower[one] for one in difflib.get_close_matches(text.lower(), lower, most, cutoff)]


@contextmanager
def within(name: str) -> Iterator[None]:
    """Let a message about a field say which class's field it is: `agent.memory`."""
    try:
        yield
    except ValueError as refused:
        raise SettingError(f"{name}.{refused}") from None
