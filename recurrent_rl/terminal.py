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


def make_console() -> Console:
    """The terminal as it is; where output goes to a file, wide enough for the tables."""
    console = Console()
    return console if console.is_terminal else Console(width=120)


def escape(text: str) -> str:
    """Text as it is, for a console that reads square brackets as markup."""
    return text.replace("[", r"\[")
