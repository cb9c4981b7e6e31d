"""`recurrent-rl completion`: the script with which a shell completes our commands and options."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from functools import reduce
from io import StringIO
from operator import or_
from typing import Annotated, Any, Literal, get_type_hints

import tyro

from recurrent_rl.agents.settings import OneOf, validated
from recurrent_rl.cli.benchmark import BenchmarkArguments
from recurrent_rl.cli.check import CheckArguments
from recurrent_rl.cli.compare import CompareArguments
from recurrent_rl.cli.convert import ConvertArguments
from recurrent_rl.cli.envs import EnvsArguments
from recurrent_rl.cli.evaluate_arguments import EvaluateArguments
from recurrent_rl.cli.export import ExportArguments
from recurrent_rl.cli.grouping import grouped
from recurrent_rl.cli.info import InfoArguments
from recurrent_rl.cli.monitor import MonitorArguments
from recurrent_rl.cli.share import ShareArguments
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
_SPECIFICATION = re.compile("^(COMPLETION_SPEC = )(.*)$", re.MULTILINE)


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
        Annotated[grouped(kind, {}), tyro.conf.subcommand(name)]
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

    def named(found: re.Match[str]) -> str:
        if shell != "fish":
            return f"{found[1]}{_with_names(found[2])!r}"
        # Within double quotes, where fish has a backslash before these.
        plain = re.sub(r'\\(["\\$])', r"\1", found[2])
        return found[1] + re.sub(r'(["\\$])', r"\\\1", repr(_with_names(plain)))

    return _SPECIFICATION.sub(named, text)


def _with_names(text: str) -> dict[str, Any]:
    """What tyro's script completes, with the names of memories and the like as choices.

    To tyro these options take any text, since `module:Class` is one too.
    """
    from recurrent_rl.agents.config import AgentConfig

    names = {
        f"--{name.replace('_', '-')}": [*rule.names]
        for name, hint in get_type_hints(AgentConfig, include_extras=True).items()
        for rule in getattr(hint, "__metadata__", ())
        if isinstance(rule, OneOf) and rule.names
    }
    specification: dict[str, Any] = ast.literal_eval(text)
    for command in specification["subcommands"].values():
        for option in command["options"]:
            for flag in option["flags"]:
                if flag in names:
                    option.update(type="choice", choices=names[flag])
    return specification


def arguments_of_commands() -> dict[str, type[Any]]:
    """The settings class of each command's arguments."""
    from recurrent_rl.cli.train_arguments import TrainArguments
    from recurrent_rl.cli.tune_arguments import TuneArguments

    return {
        "train": TrainArguments,
        "evaluate": EvaluateArguments,
        "envs": EnvsArguments,
        "check": CheckArguments,
        "monitor": MonitorArguments,
        "benchmark": BenchmarkArguments,
        "compare": CompareArguments,
        "share": ShareArguments,
        "tune": TuneArguments,
        "convert": ConvertArguments,
        "export": ExportArguments,
        "info": InfoArguments,
        "completion": CompletionArguments,
    }
