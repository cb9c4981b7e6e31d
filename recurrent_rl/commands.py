"""The commands of `recurrent-rl`: their arguments, and what they do and print."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table

from recurrent_rl.errors import UserError
from recurrent_rl.terminal import escape, make_console, parse

# Each command imports what it needs when it runs: `recurrent-rl envs` needs no PyTorch.
if TYPE_CHECKING:
    from recurrent_rl.evaluation import Evaluation

# ------------------------------------------------------------------------------------- train


@dataclass(frozen=True)
class ResumeArguments:
    """Go on with a run from its last checkpoint, with the settings it was started with."""

    resume: str
    """Run folder to go on with."""
    total_timesteps: int | None = None
    """Train to this many steps in all; by default as many as the run was started for."""


def train_command(arguments: Sequence[str]) -> int:
    """Train an agent, or go on with a run (--resume RUN)."""
    from recurrent_rl.config import TrainConfig
    from recurrent_rl.monitor import Monitor
    from recurrent_rl.signals import StopSignals
    from recurrent_rl.training import load_config, resume, train

    stop = StopSignals()
    if any(argument.split("=")[0] == "--resume" for argument in arguments):
        asked = parse(ResumeArguments, "train", arguments)
        result = resume(
            asked.resume, total_timesteps=asked.total_timesteps, seed_globals=True, stop=stop
        )
    else:
        result = train(parse(TrainConfig, "train", arguments), seed_globals=True, stop=stop)

    console = make_console()
    console.print(f"Trained for {result.timesteps:,} steps in {result.seconds:.0f} s.")
    if result.stopped_by is not None:
        console.print(f"Stopped early; everything is saved in {result.run_dir}", soft_wrap=True)
        console.print(f"Go on:     recurrent-rl train --resume {result.run_dir}", soft_wrap=True)
        return stop.exit_status
    config = load_config(result.run_dir)
    status = 0
    if config.eval_episodes:
        asked_of_it = EvaluateArguments(
            str(result.run_dir), config.eval_episodes, seed=config.seed, compare=False
        )
        status, played = evaluate_and_print(asked_of_it, console)
        with Monitor(result.run_dir, config, result.timesteps) as monitor:
            for evaluation in played:
                monitor.log(evaluation.scalars(), result.timesteps)
    for label, text in (
        ("Policy", str(result.policy_path)),
        ("Watch", f"recurrent-rl monitor {config.log_dir}"),
        ("Evaluate", f"recurrent-rl evaluate {result.run_dir}"),
        ("Import", f'recurrent_rl.load_policy("{result.policy_path}").actor()'),
    ):
        console.print(f"{label + ':':10} {escape(text)}", soft_wrap=True, highlight=False)
    return status


# ---------------------------------------------------------------------------------- evaluate


@dataclass(frozen=True)
class EvaluateArguments:
    """Play episodes with a trained policy, with its memory and without."""

    policy: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_OR_POLICY")]
    """Run folder or policy file."""
    episodes: int = 1000
    """Episodes to play."""
    env_id: str | None = None
    """Environment to play in; by default the one the policy was trained on."""
    env_kwargs: str | None = None
    """Its arguments as a JSON object; by default those of the training."""
    num_envs: int = 64
    """Copies of the environment stepped side by side."""
    seed: int = 0
    """Seed of the environments; training with the same seed saw other episodes."""
    compare: bool = True
    """Play the episodes again with actions sampled as in training, and with the memory reset at
    every step."""

    def __post_init__(self) -> None:
        for name in ("episodes", "num_envs"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; it must be at least 1.")


def evaluate_command(arguments: Sequence[str]) -> int:
    """Play episodes with a policy, with its memory and with the memory switched off."""
    return evaluate_and_print(parse(EvaluateArguments, "evaluate", arguments), make_console())[0]


def evaluate_and_print(asked: EvaluateArguments, console: Console) -> tuple[int, list[Evaluation]]:
    """Evaluate as asked and print a table; returns the exit status and what was played."""
    from recurrent_rl.agents.policy import load_policy
    from recurrent_rl.config import EnvConfig
    from recurrent_rl.evaluation import WAYS, SavedEvaluation, evaluate_ways
    from recurrent_rl.seeding import seed_process
    from recurrent_rl.signals import StopSignals
    from recurrent_rl.vectorize import known_returns, make_vector_env

    seed_process(asked.seed)
    policy = load_policy(policy_path(asked.policy))
    env_id = asked.env_id or policy.summary.get("env_id")
    if env_id is None:
        raise UserError("The policy does not say which environment it is for; name it: --env-id ID")
    env_config = EnvConfig()
    if env_id == policy.summary.get("env_id"):
        env_config = EnvConfig.from_dict(policy.summary["env"])
    if asked.env_kwargs is not None:
        env_config = dataclasses.replace(env_config, env_kwargs=asked.env_kwargs)

    env = make_vector_env(env_id, min(asked.num_envs, asked.episodes), env_config)
    try:
        with StopSignals() as stop:
            played = evaluate_ways(
                policy, env, asked.episodes, seed=asked.seed, stop=stop, compare=asked.compare
            )
    finally:
        env.close()
    if stop:
        console.print("Stopped; an evaluation cut short would favour short episodes.")
        return stop.exit_status, []
    table = Table(title=f"{env_id}, {asked.episodes:,} episodes")
    for column in ("", "mean return", "95 % interval", "episode length", "success"):
        table.add_column(column, justify="left" if not column else "right")
    for name, result in played.items():
        low, high = result.ci95
        table.add_row(
            WAYS[name].label,
            f"{result.mean:.4g}",
            f"[{low:.4g}, {high:.4g}]".replace("[", r"\["),
            f"{result.lengths.mean():.4g}",
            "-" if result.success_rate is None else f"{result.success_rate:.1%}",
        )
    memoryless, best = known_returns(env)
    if memoryless is not None:
        table.add_row("best memoryless policy", f"{memoryless:.4g}", "as stated", "", "")
    if best is not None:
        table.add_row("best possible", f"{best:.4g}", "as stated", "", "")
    console.print(table)
    if Path(asked.policy).is_dir() and asked.env_id is None and asked.env_kwargs is None:
        # A run played where it was trained: what `recurrent-rl compare` reads.
        SavedEvaluation.of(policy, played).save(Path(asked.policy))
    return 0, list(played.values())


def policy_path(run_or_policy: str) -> Path:
    """The policy file of a run folder, or the file itself.

    Raises:
        UserError: there is no such file or folder, or no policy in it.
    """
    path = Path(run_or_policy)
    if path.is_dir():
        path = path / "policy.safetensors"
        if not path.exists():
            raise UserError(f"The run folder {run_or_policy} holds no policy.safetensors yet.")
    return path


# -------------------------------------------------------------------------------------- envs


@dataclass(frozen=True)
class EnvsArguments:
    """List the environments of this library."""

    probes: bool = False
    """Also list the tiny environments that test a training loop."""


def envs_command(arguments: Sequence[str]) -> int:
    """List our environments: spaces, length, memoryless and best return."""
    import gymnasium as gym

    import recurrent_rl.envs  # noqa: F401 (registers them)

    asked = parse(EnvsArguments, "envs", arguments)
    table = Table(title="Environments of recurrent-rl")
    for column in ("id", "observation", "action", "steps", "memoryless", "best"):
        table.add_column(column, no_wrap=column == "id")
    for env_id, spec in sorted(gym.registry.items()):
        if spec.namespace != "recurrent_rl" or (spec.name.startswith("Probe") > asked.probes):
            continue
        env = gym.make_vec(env_id, num_envs=1)
        env_any: Any = env.unwrapped
        table.add_row(
            env_id,
            _describe(env.single_observation_space),
            _describe(env.single_action_space),
            str(env_any.max_episode_steps),
            _figure(env_any.memoryless_return),
            _figure(env_any.best_return),
        )
        env.close()
    console = make_console()
    console.print(table)
    console.print("Any other Gymnasium id trains too.  Train: recurrent-rl train ENV_ID")
    return 0


def _describe(space: Any) -> str:
    """A space in a word: the bounds of a Box have no room in a table."""
    short = f"Box{space.shape}" if type(space).__name__ == "Box" else str(space)
    return escape(short)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


# ----------------------------------------------------------------------------------- monitor


@dataclass(frozen=True)
class MonitorArguments:
    """Serve TensorBoard over the run folders, until Ctrl-C."""

    log_dir: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="LOG_DIR")] = "runs"
    """Folder that holds the run folders, or one run folder."""
    port: int = 6006
    """Port to listen on; 0 picks a free one."""
    host: str = "localhost"
    """Address to listen on."""


def monitor_command(arguments: Sequence[str]) -> int:
    """Watch runs in TensorBoard."""
    import time

    from tensorboard import program

    from recurrent_rl.signals import StopSignals

    asked = parse(MonitorArguments, "monitor", arguments)
    if not Path(asked.log_dir).is_dir():
        raise UserError(f"There is no folder {asked.log_dir!r}; train first, or name another.")
    board = program.TensorBoard()
    board.configure(logdir=asked.log_dir, port=asked.port, host=asked.host)
    try:
        url = board.launch()
    except program.TensorBoardServerException as error:
        raise UserError(f"TensorBoard could not start: {error} Try --port 0.") from error
    console = make_console()
    console.print(f"TensorBoard shows {asked.log_dir} at {url}  (Ctrl-C ends it)", soft_wrap=True)
    with StopSignals() as stop:
        while not stop:
            time.sleep(0.2)
    return stop.exit_status


# --------------------------------------------------------------------- benchmark and compare


@dataclass(frozen=True)
class BenchmarkArguments:
    """Train and evaluate a suite of tasks with several memories and seeds, and compare them.

    A benchmark that was stopped goes on where it was: give the same command again.
    """

    suite: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SUITE")]
    """Name of the suite; `recurrent-rl benchmark list` lists them."""
    tasks: tuple[str, ...] = ()
    """Only the tasks of the suite whose names begin with one of these."""
    memories: tuple[str, ...] = ()
    """Memories to train with; by default the suite's."""
    seeds: int | None = None
    """Runs of each task with each memory; by default the suite's."""
    total_timesteps: int | None = None
    """Environment steps of each run; by default each task's."""
    settings: str = "{}"
    """Changes to the defaults of `train` as a JSON object, the agent's under "agent", for example
    '{"gae_lambda": 1.0, "agent": {"hidden_size": 256}}'."""
    name: str | None = None
    """Name of these settings, in the names of the run folders. The results compare all runs in
    the folder, so that settings tried one after the other stand side by side."""
    episodes: int = 1000
    """Episodes to evaluate each policy on."""
    jobs: int = 0
    """Runs side by side; 0 for one on each core."""
    out: str | None = None
    """Folder of the run folders and the results; by default runs/benchmark-SUITE."""

    def __post_init__(self) -> None:
        for name, least in (("episodes", 1), ("jobs", 0), ("seeds", 1), ("total_timesteps", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UserError(f"{name} is {value}; it must be at least {least}.")


def benchmark_command(arguments: Sequence[str]) -> int:
    """Train and evaluate a suite: tasks x memories x seeds."""
    from recurrent_rl.suites import SUITES, find_suite

    asked = parse(BenchmarkArguments, "benchmark", arguments)
    console = make_console()
    if asked.suite == "list":
        table = Table(title="Suites")
        for column in ("suite", "tasks", "memories", "seeds", "what"):
            table.add_column(column)
        for name, suite in SUITES.items():
            memories = ", ".join(suite.memories)
            table.add_row(
                name, str(len(suite.tasks)), memories, str(suite.seeds), suite.description
            )
        console.print(table)
        return 0
    suite = find_suite(asked.suite).only(asked.tasks)

    from recurrent_rl.benchmark import plan, run_all
    from recurrent_rl.config import parse_json_object
    from recurrent_rl.evaluation import is_evaluated
    from recurrent_rl.results import find_runs
    from recurrent_rl.trainer import available_cores

    out = Path(asked.out or f"runs/benchmark-{asked.suite}")
    workers = asked.jobs or available_cores()
    jobs = plan(
        suite,
        out,
        memories=asked.memories or suite.memories,
        seeds=asked.seeds or suite.seeds,
        episodes=asked.episodes,
        settings=parse_json_object("settings", asked.settings),
        name=asked.name,
        threads=1 if workers > 1 else 0,
        total_timesteps=asked.total_timesteps,
    )
    outcome = run_all(jobs, workers)
    done = [job.run_dir for job in jobs if job.done]
    if done:
        # With those of other settings in the same folder, which --name has told apart.
        _compare([path for path in find_runs([out]) if is_evaluated(path)], out, console)
    for run_dir, reason in outcome.failed.items():
        console.print(f"Failed: {run_dir}: {escape(reason)}  (see its log.txt)", soft_wrap=True)
    if outcome.stopped_by is not None:
        console.print(f"Stopped early; {len(done)} of {len(jobs)} runs are done.")
    if len(done) < len(jobs):
        console.print("Go on: the same command again.")
    else:
        console.print(f"Watch:    recurrent-rl monitor {out}", soft_wrap=True)
    if outcome.stopped_by is not None:
        return 128 + outcome.stopped_by
    return 1 if outcome.failed else 0


@dataclass(frozen=True)
class CompareArguments:
    """Compare finished runs: a table by task, aggregate scores with intervals, learning curves."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folders, or folders that hold some. Runs that differ in nothing but the seed count as
    one method."""
    out: str = "comparison"
    """Folder to write results.md and curves.png to."""


def compare_command(arguments: Sequence[str]) -> int:
    """Compare finished runs, on one task or many."""
    from recurrent_rl.results import find_runs

    asked = parse(CompareArguments, "compare", arguments)
    if not asked.runs:
        raise UserError("Name the run folders to compare, or a folder that holds some.")
    _compare(find_runs(map(Path, asked.runs)), Path(asked.out), make_console())
    return 0


def _compare(run_dirs: Sequence[Path], out: Path, console: Console) -> None:
    from rich.markdown import Markdown

    from recurrent_rl.comparison import Comparison
    from recurrent_rl.results import load_run

    comparison = Comparison([load_run(run_dir) for run_dir in run_dirs])
    report, curves = comparison.save(out)
    console.print(Markdown(report.read_text()))
    console.print(f"Results:  {report}", soft_wrap=True)
    console.print(f"Curves:   {curves}", soft_wrap=True)


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "train": train_command,
    "evaluate": evaluate_command,
    "envs": envs_command,
    "monitor": monitor_command,
    "benchmark": benchmark_command,
    "compare": compare_command,
}
