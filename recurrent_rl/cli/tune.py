"""`recurrent-rl tune`: a search for settings."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from recurrent_rl.cli.terminal import figure, print_labelled, quoted
from recurrent_rl.runs.progress import make_console

if TYPE_CHECKING:
    from recurrent_rl.experiments.tuning.search import Confirmation, TuneResult


def tune_command(arguments: Sequence[str]) -> int:
    """Search for better settings, with Optuna."""
    from recurrent_rl.cli.configuration import parse_over_files
    from recurrent_rl.cli.tune_arguments import GROUPS, TuneArguments
    from recurrent_rl.experiments.tuning.search import tune
    from recurrent_rl.signals import StopSignals

    given, console = parse_over_files(TuneArguments, "tune", arguments, GROUPS), make_console()
    again = shlex.join(["recurrent-rl", "tune", *arguments])
    with StopSignals() as stop:  # until what there is has been told
        found = tune(
            given.config,
            trials=given.trials,
            storage=given.storage,
            search=given.search,
            seeds_per_trial=given.seeds_per_trial,
            finalists=given.finalists,
            confirm_seeds=given.confirm_seeds,
            processes=given.processes,
            prune=given.prune,
            keep_trials=given.keep_trials,
            progress=not given.quiet,
            stop=stop,
        )
        if given.quiet:
            console.print(_line(found, again), soft_wrap=True, highlight=False)
        else:
            _print_result(console, found, again)
    return stop.exit_status


def _line(found: TuneResult, again: str) -> str:
    """The result on one line."""
    text = f"{found.files.storage}: {_counts(found)}"
    if found.best is not None:
        text += f", best {found.best.score:.4g} in trial {found.best.number}: {found.files.best}"
    if found.stopped_by is not None:
        return f"{text}, stopped early; go on: {again}"
    if found.lost:
        text += f"; processes that ended early: {', '.join(found.lost)}"
    if found.confirmation is not None:
        text += f"; with fresh seeds {_verdict(found.confirmation)}"
    return text


def _counts(found: TuneResult) -> str:
    """How many trials came to which end."""
    states = [one.state for one in found.trials]
    words = [f"{len(states)} trial{'s' * (len(states) != 1)}"]
    words += [f"{n} {word}" for word in ("pruned", "failed") if (n := states.count(word))]
    return ", ".join(words)


def _print_result(console: Console, found: TuneResult, again: str) -> None:
    """The result, and the next useful commands."""
    console.print(f"{_counts(found)} in {found.files.storage}", soft_wrap=True, highlight=False)
    if found.best is not None:
        console.print(_settings(found))
    if found.finalists:
        console.print(_finals(found))
    if found.confirmation is not None:
        console.print(_confirmed(found))
        console.print(f"With fresh seeds: {_verdict(found.confirmation)}.", highlight=False)
    elif found.best is not None and found.best.is_given:
        console.print("No settings did better than those as given.")
    lines = []
    if found.best is not None:
        lines += [("Best", str(found.files.best)), ("Picture", str(found.files.figure))]
    if found.stopped_by is not None:
        console.print("Stopped early; what has ended is kept, what was under way comes next.")
        lines.append(("Go on", again))
    elif found.best is not None:
        lines.append(("Train", f"recurrent-rl train --config {quoted(found.files.best)}"))
        lines.append(("Watch", f"recurrent-rl monitor {quoted(found.files.folder)}"))
    print_labelled(console, lines)


def _settings(found: TuneResult) -> Table:
    """What was searched: as given, in the best trial, and how much it mattered."""
    from recurrent_rl.experiments.tuning.space import shown_value

    assert found.best is not None
    given = next((one for one in found.trials if one.is_given), None)
    table = Table(title=f"Best: trial {found.best.number}")
    for column in ("", "as given", "best", "importance"):
        table.add_column(column, justify="left" if not column else "right")
    names = sorted(found.best.settings, key=lambda name: -found.importances.get(name, 0.0))
    for name in names:
        share = found.importances.get(name)
        table.add_row(
            name,
            "-" if given is None else shown_value(given.settings[name]),
            shown_value(found.best.settings[name]),
            "-" if share is None else f"{share:.0%}",
        )
    scores = (None if one is None else one.score for one in (given, found.best))
    table.add_section()
    table.add_row("mean return, last quarter", *map(figure, scores), "")
    return table


def _finals(found: TuneResult) -> Table:
    """The leading trials and the given settings, trained again."""
    from recurrent_rl.experiments.statistics import shown_mean

    table = Table(title=f"Finals: mean return with {len(found.finalists[0].returns)} other seeds")
    for column in ("trial", "score in the search", "finals"):
        table.add_column(column, justify="right")
    for one in found.finalists:
        name = f"{one.trial.number}{' (as given)' * one.trial.is_given}"
        table.add_row(name, f"{one.trial.score:.4g}", shown_mean(one.returns))
    return table


def _confirmed(found: TuneResult) -> Table:
    """The runs with fresh seeds."""
    from recurrent_rl.experiments.statistics import shown_mean

    confirmation = found.confirmation
    assert confirmation is not None
    table = Table(title="Fresh seeds")
    for column in ("seed", "as given", "best", "difference"):
        table.add_column(column, justify="right")
    columns = (confirmation.given, confirmation.best, confirmation.difference)
    for i, seed in enumerate(confirmation.seeds):
        table.add_row(str(seed), *(f"{values[i]:.4g}" for values in columns))
    table.add_section()
    table.add_row("mean", *map(shown_mean, columns))
    return table


def _verdict(confirmation: Confirmation) -> str:
    """What the fresh seeds say of the best settings."""
    from recurrent_rl.experiments.statistics import half_interval, shown_mean

    difference = confirmation.difference
    if math.isnan(difference.mean()):
        return "not compared: of a run no episode ended within the steps of its evaluation"
    shown, half = shown_mean(difference), half_interval(difference)
    if half is None:
        return f"a difference of {shown} with one seed, which is no evidence"
    if abs(difference.mean()) <= half:
        return f"no clear difference from the settings as given, difference {shown}"
    return f"{'better' if difference.mean() > 0 else 'worse'} than as given, difference {shown}"
