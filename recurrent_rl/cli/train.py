"""`recurrent-rl train`: a new run, or an old one resumed."""

from __future__ import annotations

from collections.abc import Sequence

from recurrent_rl.cli.evaluation_table import print_evaluation
from recurrent_rl.cli.terminal import in_python, parse, quoted
from recurrent_rl.runs.progress import make_console


def train_command(arguments: Sequence[str]) -> int:
    """Train an agent, or resume a run (--resume RUN)."""
    from recurrent_rl.cli.train_arguments import GROUPS, ResumeArguments, TrainArguments
    from recurrent_rl.runs.folder import RunFolder
    from recurrent_rl.runs.training import resume, train
    from recurrent_rl.signals import StopSignals

    stop = StopSignals()
    if any(argument.split("=")[0] == "--resume" for argument in arguments):
        given = parse(ResumeArguments, "train", arguments)
        result = resume(
            given.resume,
            total_timesteps=given.total_timesteps,
            device=given.device,
            seed_globals=True,
            stop=stop,
        )
    else:
        new = parse(TrainArguments, "train", arguments, GROUPS)
        result = train(new.config, seed_globals=True, stop=stop)

    console = make_console()
    if result.timesteps > result.resumed_from:
        console.print(f"Trained for {result.timesteps:,} steps in {result.seconds:.0f} s.")
    else:
        console.print(
            f"{result.run_dir} has all its {result.timesteps:,} steps already; "
            "raise --total-timesteps to train further.",
            soft_wrap=True,
        )
    if result.stopped_by is not None:
        console.print(f"Stopped early; everything is saved in {result.run_dir}", soft_wrap=True)
        console.print(
            f"Resume:    recurrent-rl train --resume {quoted(result.run_dir)}", soft_wrap=True
        )
        return stop.exit_status
    config = RunFolder(result.run_dir).load_config()
    if result.evaluation is not None:
        print_evaluation(
            console,
            {"deterministic": result.evaluation},
            config.eval_episodes,
            config.env_id,
            config.env,
            str(result.run_dir),
        )
    for label, text in (
        ("Policy", str(result.policy_path)),
        ("Watch", f"recurrent-rl monitor {quoted(config.log_dir)}"),
        ("Evaluate", f"recurrent-rl evaluate {quoted(result.run_dir)}"),
        ("Import", f"recurrent_rl.load_policy({in_python(result.policy_path)}).actor()"),
    ):
        console.print(f"{label + ':':10} {text}", soft_wrap=True, highlight=False)
    return 0
