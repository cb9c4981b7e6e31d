"""`recurrent-rl train`: a new run, or an old one resumed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from recurrent_rl.cli.evaluation_table import in_a_line, print_evaluation
from recurrent_rl.cli.terminal import in_python, parse, print_labelled, quoted
from recurrent_rl.errors import ToldError, UserError
from recurrent_rl.runs.progress import make_console

if TYPE_CHECKING:
    from recurrent_rl.runs.training import TrainResult


def train_command(arguments: Sequence[str]) -> int:
    """Train an agent, or resume a run (--resume RUN)."""
    try:
        return _train(arguments)
    except ToldError:  # of torchrun's workers only the first tells it
        return 2


def _train(arguments: Sequence[str]) -> int:
    from recurrent_rl.cli.configuration import parse_over_files
    from recurrent_rl.cli.train_arguments import GROUPS, ResumeArguments, TrainArguments
    from recurrent_rl.runs.torchrun import Launch, mistakes_told_once
    from recurrent_rl.runs.training import resume, train
    from recurrent_rl.signals import StopSignals

    launch = Launch.of_this_process()
    # torchrun passes on what may have reached this process too, and ends one that is slow.
    stop = StopSignals(patient=launch is not None)
    given: ResumeArguments | TrainArguments
    if any(argument.split("=")[0] == "--resume" for argument in arguments):
        with mistakes_told_once():
            _refuse_settings(arguments)
            given = parse(ResumeArguments, "train", arguments)
    else:
        with mistakes_told_once():
            given = parse_over_files(TrainArguments, "train", arguments, GROUPS)
        if given.print_config:
            given.config.check_evaluations()
            print(given.config.to_json())
            return 0
    with stop:  # until what there is has been told
        if isinstance(given, ResumeArguments):
            result = resume(
                given.resume,
                total_timesteps=given.total_timesteps,
                device=given.device,
                workers=given.workers,
                progress=not given.quiet,
                seed_globals=True,
                stop=stop,
            )
        else:
            result = train(given.config, progress=not given.quiet, seed_globals=True, stop=stop)
        # To torchrun a stop that was asked for is an end like any other.
        status = stop.exit_status if result.stopped_by is not None and launch is None else 0
        if launch is not None and launch.rank > 0:
            return status
        if given.quiet:
            make_console().print(_line(result), soft_wrap=True, highlight=False)
        else:
            _print_result(make_console(), result)
    return status


def _refuse_settings(arguments: Sequence[str]) -> None:
    """Refuse the environment and the settings that a resumed run keeps.

    Raises:
        UserError: names the argument.
    """
    from recurrent_rl.cli.train_arguments import GROUPS, ResumeArguments

    settings = {name for group in GROUPS.values() for name in group}
    settings -= {field.name for field in dataclasses.fields(ResumeArguments)}
    is_value = False
    for argument in arguments:
        # Not where a shell has put in the names of several runs, which is told apart.
        if not argument.startswith("-") and not is_value and not Path(argument).exists():
            raise UserError(
                f"{argument} cannot go with --resume: a run keeps the environment it was started "
                "on. Leave it out, or train anew from the run's policy: recurrent-rl train "
                f"{argument} --init-from RUN."
            )
        is_value = argument.startswith("--") and "=" not in argument and argument != "--quiet"
        flag = argument.split("=")[0]
        if flag.startswith("--") and flag[2:].removeprefix("no-").replace("-", "_") in settings:
            raise UserError(
                f"{flag} cannot go with --resume: a run keeps the settings it was started with. "
                "Leave it out, or train anew from its policy: recurrent-rl train ENV_ID "
                "--init-from RUN."
            )


def _line(result: TrainResult) -> str:
    """The result on one line."""
    from recurrent_rl.runs.folder import RunFolder, short

    run_dir = short(result.run_dir)
    text = f"{run_dir}: {result.timesteps:,} steps"
    if result.stop_reason is not None:
        text += f", stopped: {result.stop_reason}"
    if result.stopped_by is not None:
        return f"{text}, stopped early; resume: {RunFolder(run_dir).to_resume()}"
    if result.evaluation is not None:
        text += f", {in_a_line({'deterministic': result.evaluation})}"
    return text


def _print_result(console: Console, result: TrainResult) -> None:
    """The result, and the next useful commands."""
    from recurrent_rl.runs.folder import RunFolder, short

    run_dir, policy = short(result.run_dir), short(result.policy_path)
    if taken := result.timesteps - result.resumed_from:
        in_all = f", {result.timesteps:,} in all" if result.resumed_from else ""
        console.print(f"Trained for {taken:,} steps in {result.seconds:.0f} s{in_all}.")
    else:
        console.print(
            f"{run_dir} has all its {result.timesteps:,} steps already; "
            "raise --total-timesteps to train further.",
            soft_wrap=True,
        )
    if result.stopped_by is not None:
        console.print(f"Stopped early; everything is saved in {run_dir}", soft_wrap=True)
        print_labelled(console, [("Resume", RunFolder(run_dir).to_resume())])
        return
    if result.stop_reason is not None:
        console.print(f"Stopped early: {result.stop_reason}.", soft_wrap=True)
    config = RunFolder(result.run_dir).load_config()
    if result.evaluation is not None:
        print_evaluation(
            console,
            {"deterministic": result.evaluation},
            config.eval_episodes,
            config.environment,
            config.env,
            str(run_dir),
        )
    best = result.best_policy_path
    lines = [
        ("Policy", str(policy)),
        *([("Best", str(short(best)))] if best is not None else []),
        ("Watch", f"recurrent-rl monitor {quoted(config.log_dir)}"),
        ("Evaluate", f"recurrent-rl evaluate {quoted(run_dir)}"),
        ("Import", f"recurrent_rl.load_policy({in_python(policy)}).actor()"),
    ]
    print_labelled(console, lines)
