"""`recurrent-rl benchmark`: a suite of tasks with several memories and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.table import Table

from recurrent_rl.agents.settings import at_least, at_most, validated
from recurrent_rl.cli.compare import compare
from recurrent_rl.cli.terminal import Quiet, parse, print_labelled, quoted
from recurrent_rl.errors import UserError
from recurrent_rl.fields import FolderPath, JsonObject, Label
from recurrent_rl.runs.progress import make_console

OPTIONS = {
    "seed": "--seeds",
    "agent.memory": "--memories",
    "total_timesteps": "--total-timesteps",
    "eval_episodes": "--episodes",
    "name": "--name",
    "log_dir": "--out",
}
"""The options that say what `--settings` could say too."""


@validated
@dataclass(frozen=True)
class BenchmarkArguments:
    """Train and evaluate a suite of tasks with several memories and seeds, and compare them.

    A benchmark that was stopped resumes where it was: give the same command again. Given on several
    machines that share the folder, the command shares the runs among them.
    """

    suite: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SUITE")]
    """Name of the suite; `recurrent-rl benchmark list` lists them."""
    tasks: tuple[str, ...] = ()
    """Only the tasks of the suite whose names begin with one of these."""
    memories: tuple[str, ...] = ()
    """Memories to train with; by default the suite's."""
    seeds: Annotated[int | None, at_least(1)] = None
    """Runs of each task with each memory; by default the suite's."""
    total_timesteps: Annotated[int | None, at_least(1)] = None
    """Environment steps of each run; by default each task's."""
    settings: JsonObject = field(default_factory=dict)
    """Changes to the defaults of `train` as a JSON object, the agent's under "agent", for example
    '{"gae_lambda": 1.0, "agent": {"hidden_size": 256}}'."""
    name: Label | None = None
    """Name of these settings, in the names of the run folders. The results compare all runs in
    the folder, so that settings tried one after the other are side by side."""
    episodes: Annotated[int, at_least(1)] = 1000
    """Episodes to evaluate each policy on."""
    jobs: Annotated[int | None, at_least(1), at_most(1024)] = None
    """Runs side by side; by default one on each core."""
    out: FolderPath | None = None
    """Folder of the run folders and the results; by default runs/benchmark-SUITE."""
    quiet: Quiet = False


def benchmark_command(arguments: Sequence[str]) -> int:
    """Train and evaluate a suite: tasks x memories x seeds."""
    given = parse(BenchmarkArguments, "benchmark", arguments)

    from recurrent_rl.experiments.suites import find_suite

    console = make_console()
    if given.suite == "list":
        console.print(_table_of_suites())
        return 0
    suite = find_suite(given.suite).only(given.tasks)

    from recurrent_rl.experiments.benchmark import plan, run_all
    from recurrent_rl.process import available_cores
    from recurrent_rl.runs.folder import LOG, RunFolder, RunState

    _check(given.settings)
    out = Path(given.out or f"runs/benchmark-{given.suite}")
    workers = given.jobs or available_cores()
    jobs = plan(
        suite,
        out,
        memories=given.memories or suite.memories,
        seeds=given.seeds or suite.seeds,
        episodes=given.episodes,
        settings=given.settings,
        name=given.name,
        threads=1 if workers > 1 else None,
        total_timesteps=given.total_timesteps,
    )
    outcome = run_all(jobs, workers, not given.quiet)
    done = [job.run_dir for job in jobs if job.done]
    try:
        if done:
            # With those of other settings in the same folder, which --name has told apart.
            folders = [one for one in RunFolder.find([out]) if one.state() is RunState.EVALUATED]
            compare([folder.path for folder in folders], out, console, given.quiet)
    finally:
        for run_dir, reason in outcome.failed.items():
            console.print(f"Failed: {run_dir}: {reason}  (see its {LOG})", soft_wrap=True)
    if outcome.stopped_by is not None:
        console.print(f"Stopped early; {len(done)} of {len(jobs)} runs are done.")
    if len(done) < len(jobs):
        console.print("Resume: give the same command again.")
    elif not given.quiet:
        print_labelled(console, [("Watch", f"recurrent-rl monitor {quoted(out)}")])
    if outcome.stopped_by is not None:
        return 128 + outcome.stopped_by
    return 1 if outcome.failed else 0


def _check(settings: Mapping[str, Any]) -> None:
    """Refuse settings that have an option of their own, or that make other tasks of the suite's.

    Raises:
        UserError: names one, and the option.
    """
    from recurrent_rl.config import flat
    from recurrent_rl.vector_env.config import NO_MATTER_OF_THE_TASK

    given = flat(dict(settings))
    for name, option in OPTIONS.items():
        if name in given:
            raise UserError(
                f"{name} is among the settings, and would be that of all runs: say {option} "
                "instead."
            )
    of_task = [name for name in settings if name == "env_id"]
    if isinstance(of_env := settings.get("env"), Mapping):
        of_task += [f"env.{name}" for name in of_env if name not in NO_MATTER_OF_THE_TASK]
    if of_task:
        raise UserError(
            f"{of_task[0]} is among the settings, and would make other tasks of the suite's: leave "
            "it out. --tasks chooses among them; recurrent-rl train takes any."
        )


def _table_of_suites() -> Table:
    """A row for each suite."""
    from recurrent_rl.experiments.suites import SUITES

    table = Table(title="Suites")
    for column in ("suite", "tasks", "memories", "seeds", "what"):
        table.add_column(column)
    for name, suite in SUITES.items():
        memories = ", ".join(suite.memories)
        table.add_row(name, str(len(suite.tasks)), memories, str(suite.seeds), suite.description)
    return table
