"""`recurrent-rl completion`: the script with which a shell completes our commands and options."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from functools import reduce
from io import StringIO
from operator import or_
from types import NoneType
from typing import Annotated, Any, Literal, get_args

import tyro

from recurrent_rl.agents.importing import imported
from recurrent_rl.agents.settings import OneOf, validated
from recurrent_rl.cli.grouping import grouped
from recurrent_rl.cli.terminal import RULES, TYRO_OPTIONS, parse

# Tyro's scripts complete no positional argument, so none of `recurrent-rl evaluate RUN`. Here is
# what stands in them, and what takes its place.
COMPLETE_FILES = {
    # Where no answer is known, a mark that they take for "complete files".
    "get_completions(words, current_index, COMPLETION_SPEC)": (
        "get_completions(words, current_index, COMPLETION_SPEC)"
        " or (['__TYRO_COMPLETE_FILES__'] if current_index > 1 else [])"
    ),
    # bash: the word itself, not with those before it; and folders end in a slash.
    'compgen -f -- "$cur"': 'compgen -f -- "${COMP_WORDS[COMP_CWORD]}"',
    "complete -F ": "complete -o filenames -F ",
    # fish: with the word at the cursor, without which every option is an answer.
    "set -l current (count $words)": (
        "set -l current (count $words)\n    set words $words (commandline -ct)"
    ),
}


@validated
@dataclass(frozen=True)
class CompletionArguments:
    """Print the script with which a shell completes commands and options.

    Save it once where your shell looks for such scripts, and open a new shell:

    recurrent-rl completion bash > ~/.local/share/bash-completion/completions/recurrent-rl

    recurrent-rl completion zsh > "${fpath[1]}/_recurrent-rl"

    recurrent-rl completion fish > ~/.config/fish/completions/recurrent-rl.fish
    """

    shell: Annotated[Literal["bash", "zsh", "fish"], tyro.conf.Positional]
    """Shell to print the script for."""


def completion_command(arguments: Sequence[str]) -> int:
    """Print the script that completes commands in bash, zsh or fish."""
    print(script(parse(CompletionArguments, "completion", arguments).shell), end="")
    return 0


def script(shell: str) -> str:
    """The script, tyro's but for one thing: where it knows no answer, files and folders are one."""
    commands: list[Any] = [
        Annotated[_with_choices(grouped(kind, {})), tyro.conf.subcommand(name)]
        for name, kind in arguments_of_commands().items()
    ]
    any_command: Any = reduce(or_, commands)
    with redirect_stdout(StringIO()) as written, suppress(SystemExit):
        tyro.cli(  # prints the script and ends the program
            any_command,
            prog="recurrent-rl",
            args=["--tyro-write-completion", shell, "-"],
            config=TYRO_OPTIONS,
            registry=RULES,
        )
    text = written.getvalue()
    for theirs, ours in COMPLETE_FILES.items():
        text = text.replace(theirs, ours)
    return text


def _with_choices(kind: type) -> type:
    """The class, with the names of memories and the like as choices.

    They are no `Literal` where arguments are read, since `module:Class` is taken too.
    """
    choice: Any = Literal
    for name, hint in kind.__annotations__.items():
        for note in getattr(hint, "__metadata__", ()):
            if isinstance(note, OneOf) and note.names:
                names = choice[tuple(note.names)]
                if NoneType in get_args(hint.__origin__):
                    names |= None
                kind.__annotations__[name] = Annotated[(names, *hint.__metadata__)]
    return kind


def arguments_of_commands() -> dict[str, type[Any]]:
    """The settings class of each command's arguments."""
    from recurrent_rl.cli import COMMANDS  # which has this command too

    return {
        name: imported(f"recurrent_rl.cli.{command.arguments}", "command")
        for name, command in COMMANDS.items()
    }
