"""What an exported policy takes and gives: names, shapes, types and meaning, as its file says."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Container
from dataclasses import dataclass
from itertools import count

VERSION = 1
"""Of the text that a file holds."""
RESERVED = frozenset(
    [
        *("auto", "bool", "break", "case", "catch", "char", "class", "const", "continue"),
        *("default", "delete", "do", "double", "else", "enum", "explicit", "export", "extern"),
        *("float", "for", "friend", "goto", "if", "inline", "int", "long", "mutable"),
        *("namespace", "new", "operator", "private", "protected", "public", "register"),
        *("restrict", "return", "short", "signed", "sizeof", "static", "struct", "switch"),
        *("template", "this", "throw", "try", "typedef", "typename", "union", "unsigned"),
        *("using", "virtual", "void", "volatile", "while"),
    ]
)
"""Words of C and C++ that are no names there."""


@dataclass(frozen=True)
class Field:
    """One input or output of a step."""

    name: str
    """As runtimes know it: letters, digits and underscores."""
    shape: tuple[int | None, ...]
    """None is the batch, where it is dynamic."""
    dtype: str
    """float32, float64, int64, int32, int8, uint8 or bool."""
    meaning: str
    """In a sentence."""


@dataclass(frozen=True)
class Signature:
    """All inputs and outputs of a step, in their order, and how its state goes round."""

    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...]
    state: dict[str, str] = dataclasses.field(hash=False)
    """For each input that is state, the output that is its value at the next step. Zeros before the
    first; where `episode_start` is true it is not read."""
    batch: int | None
    """Streams stepped at once; None: any number."""

    def to_json(self) -> str:
        """As text, for the metadata of a file."""
        return json.dumps({"version": VERSION, **dataclasses.asdict(self)})

    @classmethod
    def from_json(cls, text: str) -> Signature:
        """The inverse of `to_json`."""
        found = json.loads(text)
        inputs, outputs = (
            tuple(Field(**{**field, "shape": tuple(field["shape"])}) for field in found[name])
            for name in ("inputs", "outputs")
        )
        return cls(inputs, outputs, found["state"], found["batch"])


def plain_name(text: str) -> str:
    """A name of letters, digits and underscores made of any text."""
    return re.sub(r"\W", "_", text, flags=re.ASCII)


def free_name(text: str, taken: Container[str], first: int = 1) -> str:
    """A plain name made of any text, with a number behind it where that is taken.

    Args:
        text: what is to be named.
        taken: names that others have.
        first: number to try.
    """
    name = plain_name(text)
    if name not in taken:
        return name
    return next(x for i in count(first) if (x := f"{name}_{i}") not in taken)
