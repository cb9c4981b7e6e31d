"""`recurrent-rl evaluate`: episodes with a trained policy, with its memory and without."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from recurrent_rl.cli.evaluate_arguments import EvaluateArguments
from recurrent_rl.cli.evaluation_table import in_a_line, print_evaluation, print_policy
from recurrent_rl.cli.terminal import parse
from recurrent_rl.runs.progress import make_console

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from recurrent_rl.runs.evaluation_result import SavedEvaluation
    from recurrent_rl.runs.folder import RunFolder

EPISODES = 1000
"""Played where no number was given, and none is shown."""


def evaluate_command(arguments: Sequence[str]) -> int:
    """Play episodes with a policy, with its memory and with the memory switched off."""
    given, console = parse(EvaluateArguments, "evaluate", arguments), make_console()

    from recurrent_rl.process import seed_process
    from recurrent_rl.runs.evaluation import evaluate_ways
    from recurrent_rl.runs.evaluation_result import SavedEvaluation
    from recurrent_rl.runs.trained_on import chosen_policy, environment_of
    from recurrent_rl.signals import StopSignals

    seed_process(given.seed)
    policy, source, file, label = chosen_policy(given.policy, given.best)
    env_id, env_config = environment_of(policy, source, given.env_id, given.env_kwargs)
    if given.video is not None or given.watch:
        from recurrent_rl.cli.showing import Show

        with StopSignals() as stop:
            show = Show(given, policy, label, env_id, env_config, stop, console)
            return show.watch() if given.watch else show.film()
    episodes = given.episodes or EPISODES
    folder = _own_folder(source, given)
    if folder is not None:
        folder.check_writable()
    with StopSignals() as stop:
        played = evaluate_ways(
            policy,
            env_id,
            env_config,
            episodes,
            given.seed,
            stop,
            num_envs=given.num_envs,
            compare=given.compare,
            max_steps=given.max_steps,
            progress=not given.quiet,
        )
    if not played:
        console.print("Stopped; an evaluation cut short would favour short episodes.")
        return stop.exit_status
    if given.quiet:
        console.print(f"{label}: {in_a_line(played)}", soft_wrap=True, highlight=False)
    else:
        print_policy(console, policy, source, label)
        again = str(file if given.best else given.policy)
        print_evaluation(console, played, episodes, env_id, env_config, again)
    if folder is not None:  # last, so that what was found is told where it cannot be saved
        found = SavedEvaluation.of(policy, played)
        there = folder.save_evaluation(found)
        if there is not found and not given.quiet:
            _print_not_saved(console, folder, there)
    return 0


def _own_folder(source: Path, given: EvaluateArguments) -> RunFolder | None:
    """The folder of a run whose last policy plays where it was trained; else None.

    What is played then is saved there, and `recurrent-rl compare` reads it.
    """
    from recurrent_rl.runs.folder import RunFolder

    is_elsewhere = given.env_id is not None or given.env_kwargs is not None
    if is_elsewhere or given.best or not source.is_dir():
        return None
    return RunFolder(source).fixed()


def _print_not_saved(console: Console, folder: RunFolder, finer: SavedEvaluation) -> None:
    """Say that the run has an evaluation of more episodes, which stays."""
    console.print(
        f"Not saved: the run's {folder.evaluation.name} has {finer.episodes:,} finished episodes "
        f"of this policy, and stays. To replace it play as many in the same ways: --episodes "
        f"{finer.episodes} or more.",
        soft_wrap=True,
    )
