"""`recurrent-rl compare`: finished runs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from recurrent_rl.agents.settings import validated
from recurrent_rl.cli.terminal import Imports, parse, print_labelled
from recurrent_rl.errors import UserError
from recurrent_rl.fields import FolderPath
from recurrent_rl.runs.progress import make_console


@validated
@dataclass(frozen=True)
class CompareArguments:
    """Compare finished runs: a table by task, aggregate scores with intervals, learning curves."""

    runs: Annotated[tuple[FolderPath, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folders, or folders that hold some. Runs that differ in nothing but the seed count as
    one method, and a seed of it once. What is not finished is left out."""
    out: FolderPath = "comparison"
    """Folder to write results.md and curves.png to."""
    imports: Imports = ()


def compare_command(arguments: Sequence[str]) -> int:
    """Compare finished runs, on one task or many."""
    given = parse(CompareArguments, "compare", arguments)

    from recurrent_rl.runs.folder import RunFolder

    if not given.runs:
        raise UserError("Name the run folders to compare, or a folder that holds some.")
    found = RunFolder.find(map(Path, given.runs))
    compare([folder.path for folder in found], Path(given.out), make_console())
    return 0


def compare(run_dirs: Sequence[Path], out: Path, console: Console, quiet: bool = False) -> None:
    """Save the comparison of these runs in a folder, and print it or, quietly, where it is.

    Those that cannot be compared are left out, and told with the reason.

    Raises:
        UserError: none can be compared, what draws them is not installed, or the folder cannot be
            written to.
    """
    from rich.markdown import Markdown

    from recurrent_rl.experiments.comparison import Comparison
    from recurrent_rl.experiments.results import load_evaluated_run

    runs, left_out = [], []
    for run_dir in run_dirs:
        try:
            runs.append(load_evaluated_run(run_dir))
        except UserError as error:
            left_out.append(str(error))
    if left_out and not runs:
        raise UserError(left_out[0])
    comparison = Comparison(runs)
    report, curves = comparison.save(out)
    for one, kept in comparison.left_out.items():
        left_out.append(f"{one} has the settings and the seed of {kept}, which counts.")
    lines = [("Results", str(report))]
    if not quiet:
        console.print(Markdown(report.read_text()))
        lines.append(("Curves", str(curves)))
    for reason in left_out:
        console.print(f"Left out: {reason}", soft_wrap=True)
    print_labelled(console, lines)
