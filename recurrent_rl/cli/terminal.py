"""What all commands share: how arguments are read and where text is printed."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

Arguments = TypeVar("Arguments")
TYRO_OPTIONS = (tyro.conf.OmitArgPrefixes, tyro.conf.CascadeSubcommandArgs)
NUMBERS = ConstructorRegistry()


def parse(arguments_type: type[Arguments], name: str, arguments: Sequence[str]) -> Arguments:
    """Read a command's arguments; its help and its own errors end the program here."""
    return tyro.cli(
        arguments_type,
        prog=f"recurrent-rl {name}",
        args=list(arguments),
        config=TYRO_OPTIONS,
        registry=NUMBERS,
    )


@NUMBERS.primitive_rule
def _whole_number(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """Read 1e6 too where a whole number is asked for; which number is one, the settings check."""
    if info.type is not int:
        return None

    def read(arguments: list[str]) -> float:
        (text,) = arguments
        try:
            return int(text)
        except ValueError:
            return float(text)

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT",
        instance_from_str=read,
        is_instance=lambda value: isinstance(value, int),
        str_from_instance=lambda value: [str(value)],
    )


def quoted(path: str | Path) -> str:
    """A path as one word of a shell's command."""
    return shlex.quote(str(path))


def in_python(path: Path) -> str:
    """A path as a string of Python's."""
    return json.dumps(str(path), ensure_ascii=False)
