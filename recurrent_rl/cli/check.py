"""`recurrent-rl check`: what is wrong with an environment, before anything is trained on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import tyro

from recurrent_rl.agents.settings import at_least, validated
from recurrent_rl.cli.terminal import parse
from recurrent_rl.fields import EnvId, JsonObject, ObservedKeys
from recurrent_rl.runs.progress import make_console


@validated
@dataclass(frozen=True)
class CheckArguments:
    """Check an environment by Gymnasium's rules and by what recurrent training needs.

    Ends with status 1 where there is a fault.
    """

    env_id: Annotated[EnvId, tyro.conf.Positional, tyro.conf.arg(metavar="ENV_ID")]
    """Environment to check: a Gymnasium id, or module:name, where name is an id that the module
    registers, or a class or function of it that makes an environment."""
    env_kwargs: JsonObject = field(default_factory=dict, hash=False)
    """Its arguments as a JSON object."""
    observe: ObservedKeys = ()
    """Keys of a Dict observation to see, as in training; by default all."""
    wrappers: Annotated[
        tuple[str, ...],
        tyro.conf.UseAppendAction,
        tyro.conf.arg(name="wrapper", metavar="WRAPPER"),
    ] = ()
    """Wrapper to put around it, as in training: flatten, frame-stack:4, grayscale, resize:84x84, or
    module:function. Give it once for each, the innermost first."""
    max_steps: Annotated[int | None, at_least(1)] = None
    """Steps after which an episode is given up; by default the environment's own time limit or,
    where it states none, 1,000."""
    seed: Annotated[int, at_least(0)] = 0
    """Seed of the first episode and its actions."""


def check_command(arguments: Sequence[str]) -> int:
    """Check an environment: faults and notes, each with its fix."""
    given, console = parse(CheckArguments, "check", arguments), make_console()

    from recurrent_rl.checks.check import check_env

    findings = check_env(
        given.env_id,
        env_kwargs=given.env_kwargs,
        observe=given.observe,
        wrappers=given.wrappers,
        max_steps=given.max_steps,
        seed=given.seed,
        raise_faults=False,
    )
    for one in findings:
        style = "bold red" if one.severity == "fault" else "bold"
        console.print(f"{one.severity:5}  ", style=style, end="")
        console.print(one.what, soft_wrap=True, highlight=False)
        console.print(f"{'fix':5}  {one.fix}\n", soft_wrap=True, highlight=False)
    faults = sum(one.severity == "fault" for one in findings)
    notes = len(findings) - faults
    console.print(
        f"{given.env_id}: {faults or 'no'} fault{'s' * (faults != 1)}, "
        f"{notes or 'no'} note{'s' * (notes != 1)}.",
        soft_wrap=True,
        highlight=False,
    )
    return 1 if faults else 0
