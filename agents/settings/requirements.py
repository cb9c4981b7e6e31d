"""What a field says of its value beside its type, in `Annotated`: bounds, names, conversions."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

Parser = Callable[[str, Any], Any]
"""From the name and the value given, the value in its declared type; raises SettingError."""


@dataclass(frozen=True)
class Must:
    """What a field requires of its value beside its type, to stand in `Annotated`."""

    be: str
    """What is expected, as the message ends: "at least 1"."""
    holds: Callable[[Any], bool] = field(repr=False)


@dataclass(frozen=True, eq=False)  # by identity: tyro needs a hash
class OneOf:
    """The names a field may have, where they are those of a registry, to stand in `Annotated`."""

    names: Collection[str]
    beside: Must | None = None
    """What is taken too, though it is none of the names."""


@dataclass(frozen=True)
class Read:
    """What a field also takes, made into its type before that is checked; stands in `Annotated`."""

    convert: Parser


def at_least(least: float) -> Must:
    """`value >= least`."""
    return Must(f"at least {least}", lambda value: value >= least)


def above(limit: float) -> Must:
    """`value > limit`."""
    return Must(f"greater than {limit}", lambda value: value > limit)


def at_most(most: float) -> Must:
    """`value <= most`."""
    return Must(f"at most {most:,}", lambda value: value <= most)


def between(low: float, high: float) -> Must:
    """`low <= value <= high`."""
    return Must(f"between {low} and {high}", lambda value: low <= value <= high)


def no_repeats(of: str) -> Must:
    """No value of a tuple twice; `of` is what one is called: "a key"."""
    return Must(f"without {of} twice", lambda values: len(set(values)) == len(values))


def from_0_below_1() -> Must:
    """`0 <= value < 1`: a probability or share that must not be the whole."""
    return Must("in [0, 1)", lambda value: 0 <= value < 1)
