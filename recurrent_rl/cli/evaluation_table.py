"""How an evaluation is shown: a table, and what did not end."""

from __future__ import annotations

import math
import shlex
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from recurrent_rl.cli.terminal import figure, print_labelled

if TYPE_CHECKING:
    from pathlib import Path

    from recurrent_rl.agents.policy import Policy
    from recurrent_rl.runs.evaluation_result import Evaluation
    from recurrent_rl.vector_env.config import EnvConfig


def print_evaluation(
    console: Console,
    played: dict[str, Evaluation],
    episodes: int,
    env_id: str,
    env_config: EnvConfig,
    policy: str,
) -> None:
    """Print what was played, by its names in `WAYS`, as a table; and what did not end.

    Args:
        console: to print on.
        played: episodes of each way.
        episodes: requested of each.
        env_id: where they were played.
        env_config: its settings.
        policy: the file or run folder that played.
    """
    from recurrent_rl.runs.evaluation_result import WAYS
    from recurrent_rl.vector_env.properties import stated_returns

    table = Table(title=f"{env_id}, {_episodes(episodes)}")
    for column in ("", "mean return", "95 % interval", "episode length", "success"):
        table.add_column(column, justify="left" if not column else "right")
    for name, result in played.items():
        low, high = result.ci95
        table.add_row(
            WAYS[name].label,
            figure(result.mean),
            f"[{low:.4g}, {high:.4g}]" if math.isfinite(low) else "-",
            figure(result.mean_length),
            "-" if result.success_rate is None else f"{result.success_rate:.1%}",
        )
    for label, value in zip(
        ("best memoryless policy", "best possible"), stated_returns(env_id, env_config), strict=True
    ):
        if value is not None:
            table.add_row(label, figure(value), "as stated", "", "")
    console.print(table)
    _print_infos(console, played)
    for name, result in played.items():
        if result.unfinished:
            console.print(f"{WAYS[name].label}: {_unfinished(result, episodes)}", soft_wrap=True)
    if any(result.unfinished for result in played.values()):
        again = shlex.join(["recurrent-rl", "evaluate", policy])
        print_labelled(console, [("Longer", f"{again} --max-steps N")])


def print_policy(console: Console, policy: Policy, source: Path, label: str) -> None:
    """Say which policy has played, and of a run that has a better one how to play that.

    Args:
        console: to print on.
        policy: that has played.
        source: the run folder or file that the command named.
        label: the policy's file or address.
    """
    from recurrent_rl.runs.folder import RunFolder

    steps = policy.summary.get("timesteps")
    after = f", after {steps:,} steps" if isinstance(steps, int) else ""
    lines = [("Policy", f"{label}{after}")]
    best = RunFolder(source).best_policy
    if source.is_dir() and best.exists() and label != str(best):
        lines.append(("Best", shlex.join(["recurrent-rl", "evaluate", str(source), "--best"])))
    print_labelled(console, lines)


def _print_infos(console: Console, played: dict[str, Evaluation]) -> None:
    """What infos said, where `info_metrics` names some: a row for each, a column for each way."""
    from recurrent_rl.runs.evaluation_result import WAYS

    keys = next(iter(played.values())).infos
    if not keys:
        return
    table = Table(title="infos: mean over an episode's steps, and at its last step")
    for column in ("", *(WAYS[name].label for name in played)):
        table.add_column(column, justify="left" if not column else "right")
    for key in keys:
        infos = [result.infos[key].average() for result in played.values()]
        for what in ("mean", "final"):
            values = (getattr(info, what) for info in infos)
            table.add_row(f"{key}, {what}", *map(figure, values))
    console.print(table)


def in_a_line(played: dict[str, Evaluation]) -> str:
    """The mean return of each way of playing, and what did not end."""
    from recurrent_rl.runs.evaluation_result import WAYS

    first = next(iter(played.values()))
    texts = [f"{WAYS[name].label} {figure(result.mean)}" for name, result in played.items()]
    text = f"mean return of {_episodes(len(first.returns))}: {', '.join(texts)}"
    unfinished = sum(result.unfinished for result in played.values())
    return f"{text}; {unfinished:,} did not end" if unfinished else text


def _episodes(number: int) -> str:
    return f"{number:,} episode{'s' * (number != 1)}"


def _unfinished(played: Evaluation, episodes: int) -> str:
    """What did not end, and what that makes of the figures."""
    ended = len(played.returns)
    not_begun = episodes - ended - played.unfinished
    text = f"{played.unfinished:,} of {episodes:,} episodes did not end within "
    text += f"{played.max_steps:,} steps and were given up"
    if not_begun:
        text += f"; {not_begun:,} that were to follow them were not begun"
    if not ended:
        return f"{text}. None ended, so there are no figures."
    return f"{text}. The figures are of the {ended:,} that ended, and favour such."
