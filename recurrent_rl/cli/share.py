"""`recurrent-rl share`: a policy with its card, on the Hugging Face Hub or in a folder."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from recurrent_rl.agents.settings import validated
from recurrent_rl.cli.terminal import Best, Imports, parse, print_labelled, quoted
from recurrent_rl.fields import FolderPath
from recurrent_rl.runs.progress import make_console


@validated
@dataclass(frozen=True)
class ShareArguments:
    """Share a policy on the Hugging Face Hub, with a card that says what it does.

    Log in first: hf auth login. The card has the results of the run's evaluations, at its end or by
    `recurrent-rl evaluate RUN`.
    """

    policy: Annotated[FolderPath, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_OR_POLICY")]
    """Run folder or policy file."""
    repo: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OWNER/NAME")]
    """Repository to share it in, made where there is none."""
    best: Best = False
    folder: FolderPath | None = None
    """Write what would be uploaded into this folder, and upload nothing."""
    revision: str | None = None
    """Branch to commit to, made where there is none; by default the main one."""
    private: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Make a new repository private."""
    message: str = "A policy of recurrent-rl"
    """Message of the commit."""
    imports: Imports = ()


def share_command(arguments: Sequence[str]) -> int:
    """Share a policy on the Hugging Face Hub, or write what would be shared into a folder."""
    given, console = parse(ShareArguments, "share", arguments), make_console()

    from recurrent_rl.agents.hub import check_repository
    from recurrent_rl.runs.sharing import results_of, with_command
    from recurrent_rl.runs.trained_on import chosen_policy

    check_repository(given.repo)
    policy, source, *_ = chosen_policy(given.policy, given.best)
    policy = with_command(policy, source)
    results = results_of(policy, source)
    if not results and source.is_dir():
        why = "results are kept of a run's last policy" if given.best else "it was not evaluated"
        fix = "" if given.best else f" First: recurrent-rl evaluate {quoted(source)}"
        console.print(f"The card has no table of results: {why}.{fix}", soft_wrap=True)
    if given.folder is not None:
        folder = Path(given.folder)
        policy.save_with_card(folder, given.repo, results)
        again = shlex.join(["recurrent-rl", "share", *_without_folder(arguments)])
        tried = f"recurrent-rl evaluate {quoted(folder)}"
        print_labelled(console, [("Written", str(folder)), ("Try", tried), ("Share", again)])
        return 0
    page = policy.push_to_hub(
        given.repo,
        results,
        revision=given.revision,
        private=given.private or None,
        message=given.message,
    )
    at = f"@{given.revision}" if given.revision else ""
    played = f"recurrent-rl evaluate hf://{given.repo}{at}"
    print_labelled(console, [("Shared", page), ("Play", played)])
    return 0


def _without_folder(arguments: Sequence[str]) -> list[str]:
    """The arguments of the command that uploads."""
    kept, rest = [], iter(arguments)
    for argument in rest:
        if argument == "--folder":
            next(rest, None)
        elif not argument.startswith("--folder="):
            kept.append(argument)
    return kept
