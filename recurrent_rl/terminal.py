"""What all commands share: how arguments are read and where text is printed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import tyro
from rich.console import Console

from recurrent_rl.errors import UserError

Arguments = TypeVar("Arguments")
TYRO_OPTIONS = (tyro.conf.OmitArgPrefixes, tyro.conf.CascadeSubcommandArgs)


def parse(arguments_type: type[Arguments], name: str, arguments: Sequence[str]) -> Arguments:
    """Read a command's arguments; its help and its own errors end the program here."""
    try:
        return tyro.cli(
            arguments_type, prog=f"recurrent-rl {name}", args=list(arguments), config=TYRO_OPTIONS
        )
    except ValueError as error:  # a setting that does not make sense, said by its dataclass
        raise UserError(str(error)) from error


def make_console(stderr: bool = False) -> Console:
    """The terminal as it is, where all text is printed as it is: folders may be named "[bold]".

    Where output goes to a file it is wide enough for the tables.
    """
    console = Console(stderr=stderr, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = 120
    return console
