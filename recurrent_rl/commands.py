"""The commands of `recurrent-rl`: their arguments, and what they do and print."""

from __future__ import annotations

import dataclasses
import json
import math
import shlex
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table

from recurrent_rl.agents.settings import at_least, at_most, between, settle
from recurrent_rl.errors import UserError
from recurrent_rl.fields import LARGEST_SIZE, EnvId, FolderPath, JsonObject, Label
from recurrent_rl.terminal import make_console, parse

# Each command imports what it needs when it runs: `recurrent-rl envs` needs no PyTorch.
if TYPE_CHECKING:
    from recurrent_rl.agents.policy import Policy
    from recurrent_rl.config import EnvConfig
    from recurrent_rl.evaluation import Evaluation

# ------------------------------------------------------------------------------------- train


@dataclass(frozen=True)
class ResumeArguments:
    """Go on with a run from its last checkpoint, with the settings it was started with."""

    resume: FolderPath
    """Run folder to go on with."""
    total_timesteps: Annotated[int | None, at_least(1)] = None
    """Train to this many steps in all; by default as many as the run was started for."""
    device: str | None = None
    """Device to compute on from now on: cpu, cuda ...; by default the run's own."""

    def __post_init__(self) -> None:
        settle(self, UserError)


def train_command(arguments: Sequence[str]) -> int:
    """Train an agent, or go on with a run (--resume RUN)."""
    from recurrent_rl.config import TrainConfig
    from recurrent_rl.signals import StopSignals
    from recurrent_rl.training import load_config, resume, train

    stop = StopSignals()
    if any(argument.split("=")[0] == "--resume" for argument in arguments):
        asked = parse(ResumeArguments, "train", arguments)
        result = resume(
            asked.resume,
            total_timesteps=asked.total_timesteps,
            device=asked.device,
            seed_globals=True,
            stop=stop,
        )
    else:
        result = train(parse(TrainConfig, "train", arguments), seed_globals=True, stop=stop)

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
            f"Go on:     recurrent-rl train --resume {_quoted(result.run_dir)}", soft_wrap=True
        )
        return stop.exit_status
    config = load_config(result.run_dir)
    if result.evaluation is not None:
        print_evaluation(
            console,
            {"greedy": result.evaluation},
            config.eval_episodes,
            config.env_id,
            config.env,
            str(result.run_dir),
        )
    for label, text in (
        ("Policy", str(result.policy_path)),
        ("Watch", f"recurrent-rl monitor {_quoted(config.log_dir)}"),
        ("Evaluate", f"recurrent-rl evaluate {_quoted(result.run_dir)}"),
        ("Import", f"recurrent_rl.load_policy({_in_python(result.policy_path)}).actor()"),
    ):
        console.print(f"{label + ':':10} {text}", soft_wrap=True, highlight=False)
    return 0


def _quoted(path: str | Path) -> str:
    """A path as one word of a shell's command."""
    return shlex.quote(str(path))


def _in_python(path: Path) -> str:
    """A path as a string of Python's."""
    return json.dumps(str(path), ensure_ascii=False)


# ---------------------------------------------------------------------------------- evaluate


@dataclass(frozen=True)
class EvaluateArguments:
    """Play episodes with a trained policy, with its memory and without."""

    policy: Annotated[FolderPath, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_OR_POLICY")]
    """Run folder or policy file."""
    episodes: Annotated[int, at_least(1)] = 1000
    """Episodes to play."""
    env_id: EnvId | None = None
    """Environment to play in; by default the one the policy was trained on."""
    env_kwargs: JsonObject | None = None
    """Its arguments as a JSON object; by default those of the training."""
    num_envs: Annotated[int, at_least(1), at_most(LARGEST_SIZE)] = 64
    """Copies of the environment stepped side by side."""
    seed: Annotated[int, at_least(0)] = 0
    """Seed of the environments; training with the same seed saw other episodes."""
    max_steps: Annotated[int | None, at_least(1)] = None
    """Steps after which an episode is given up; by default the environment's own time limit or,
    where it tells of none, 10,000."""
    compare: bool = True
    """Play the episodes again with actions sampled as in training, and with the memory reset at
    every step."""

    def __post_init__(self) -> None:
        settle(self, UserError)


def evaluate_command(arguments: Sequence[str]) -> int:
    """Play episodes with a policy, with its memory and with the memory switched off."""
    from recurrent_rl.agents.policy import load_policy
    from recurrent_rl.evaluation import SavedEvaluation, check_writable, evaluate_ways
    from recurrent_rl.seeding import seed_process
    from recurrent_rl.signals import StopSignals
    from recurrent_rl.vectorize import make_vector_env

    asked, console = parse(EvaluateArguments, "evaluate", arguments), make_console()
    seed_process(asked.seed)
    run_dir = Path(asked.policy) if Path(asked.policy).is_dir() else None
    policy = load_policy(policy_path(asked.policy))
    env_id, env_config = environment_of(asked, policy)
    # A run played where it was trained: what `recurrent-rl compare` reads.
    kept = run_dir if asked.env_id is None and asked.env_kwargs is None else None
    if kept is not None:
        check_writable(kept)
    env = make_vector_env(
        env_id,
        min(asked.num_envs, asked.episodes),
        env_config,
        hide_by_wrapper=not policy.agent.reader.hide_indices,
    )
    with closing(env), StopSignals() as stop:
        played = evaluate_ways(
            policy, env, asked.episodes, asked.seed, stop, asked.compare, asked.max_steps
        )
    if stop:
        console.print("Stopped; an evaluation cut short would favour short episodes.")
        return stop.exit_status
    print_evaluation(console, played, asked.episodes, env_id, env_config, asked.policy)
    if kept is not None:
        found = SavedEvaluation.of(policy, played)
        if (there := found.save(kept)) is not found:
            console.print(
                f"Not saved: the run's evaluation.json is finer, with {there.episodes:,} finished "
                "episodes of this policy. As many, in the same ways of playing, take its place.",
                soft_wrap=True,
            )
    return 0


def environment_of(asked: EvaluateArguments, policy: Policy) -> tuple[str, EnvConfig]:
    """The environment to play in: the one asked for, else the one that the policy was trained on.

    A module is imported for it where the command line or a run's config.json names it, never
    because a policy file does: a file may come from anyone.

    Raises:
        UserError: neither the command line nor the policy says which, or only a policy file names
            the module; gives the command then.
    """
    from recurrent_rl.config import EnvConfig
    from recurrent_rl.training import CONFIG, load_config

    path = Path(asked.policy)
    own_id: Any
    own_env: EnvConfig | None
    if path.is_dir() and (path / CONFIG).is_file():
        config = load_config(path)
        own_id, own_env = config.env_id, config.env
    else:
        own_id, own_env = policy.summary.get("env_id"), None
        if asked.env_id is None:
            own_id = _without_import(own_id, asked.policy)
    env_id = asked.env_id or str(own_id)
    env_config = EnvConfig()
    if isinstance(own_id, str) and env_id.rpartition(":")[2] == own_id.rpartition(":")[2]:
        env_config = own_env or environment_settings(policy)
    if asked.env_kwargs is not None:
        env_config = dataclasses.replace(env_config, env_kwargs=asked.env_kwargs)
    return env_id, env_config


def _without_import(env_id: Any, policy: str) -> str:
    """The id that a policy file names, where it is registered without an import."""
    import gymnasium as gym

    if not isinstance(env_id, str):
        raise UserError("The policy does not say which environment it is for; name it: --env-id ID")
    module, _, name = env_id.rpartition(":")
    if module and name not in gym.registry:
        command = shlex.join(["recurrent-rl", "evaluate", policy, "--env-id", env_id])
        raise UserError(
            f"The policy file says that it was trained on {env_id!r}. What a file names is not "
            f"imported by itself; if you trust that module: {command}"
        )
    return name


def environment_settings(policy: Policy) -> EnvConfig:
    """The settings of the environment that a policy file was trained on, as the file tells them.

    Raises:
        UserError: they cannot be read.
    """
    from recurrent_rl.config import EnvConfig

    try:
        return EnvConfig.from_dict(policy.summary["env"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"The policy file's settings of its environment cannot be read ({error!r}). Evaluate "
            "its run folder instead."
        ) from error


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
        episodes: that were asked of each.
        env_id: where they were played.
        env_config: its settings.
        policy: the file or run folder that played.
    """
    from recurrent_rl.evaluation import WAYS
    from recurrent_rl.vectorize import stated_returns

    table = Table(title=f"{env_id}, {episodes:,} episodes")
    for column in ("", "mean return", "95 % interval", "episode length", "success"):
        table.add_column(column, justify="left" if not column else "right")
    for name, result in played.items():
        low, high = result.ci95
        table.add_row(
            WAYS[name].label,
            _known(result.mean),
            f"[{low:.4g}, {high:.4g}]" if math.isfinite(low) else "-",
            _known(result.mean_length),
            "-" if result.success_rate is None else f"{result.success_rate:.1%}",
        )
    for label, value in zip(
        ("best memoryless policy", "best possible"), stated_returns(env_id, env_config), strict=True
    ):
        if value is not None:
            table.add_row(label, _known(value), "as stated", "", "")
    console.print(table)
    for name, result in played.items():
        if result.unfinished:
            console.print(f"{WAYS[name].label}: {_unfinished(result, episodes)}", soft_wrap=True)
    if any(result.unfinished for result in played.values()):
        again = shlex.join(["recurrent-rl", "evaluate", policy])
        console.print(f"Longer:    {again} --max-steps N", soft_wrap=True, highlight=False)


def _known(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4g}"


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

    def __post_init__(self) -> None:
        settle(self, UserError)


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
    return f"Box{space.shape}" if type(space).__name__ == "Box" else str(space)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


# ----------------------------------------------------------------------------------- monitor


@dataclass(frozen=True)
class MonitorArguments:
    """Serve TensorBoard over the run folders, until Ctrl-C."""

    log_dir: Annotated[FolderPath, tyro.conf.Positional, tyro.conf.arg(metavar="LOG_DIR")] = "runs"
    """Folder that holds the run folders, or one run folder."""
    port: Annotated[int, between(0, 65_535)] = 6006
    """Port to listen on; 0 picks a free one."""
    host: str = "localhost"
    """Address to listen on."""

    def __post_init__(self) -> None:
        settle(self, UserError)


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
    seeds: Annotated[int | None, at_least(1)] = None
    """Runs of each task with each memory; by default the suite's."""
    total_timesteps: Annotated[int | None, at_least(1)] = None
    """Environment steps of each run; by default each task's."""
    settings: JsonObject = "{}"
    """Changes to the defaults of `train` as a JSON object, the agent's under "agent", for example
    '{"gae_lambda": 1.0, "agent": {"hidden_size": 256}}'."""
    name: Label | None = None
    """Name of these settings, in the names of the run folders. The results compare all runs in
    the folder, so that settings tried one after the other stand side by side."""
    episodes: Annotated[int, at_least(1)] = 1000
    """Episodes to evaluate each policy on."""
    jobs: Annotated[int, at_least(0), at_most(1024)] = 0
    """Runs side by side; 0 for one on each core."""
    out: FolderPath | None = None
    """Folder of the run folders and the results; by default runs/benchmark-SUITE."""

    def __post_init__(self) -> None:
        settle(self, UserError)


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
        settings=json.loads(asked.settings),
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
        console.print(f"Failed: {run_dir}: {reason}  (see its log.txt)", soft_wrap=True)
    if outcome.stopped_by is not None:
        console.print(f"Stopped early; {len(done)} of {len(jobs)} runs are done.")
    if len(done) < len(jobs):
        console.print("Go on: the same command again.")
    else:
        console.print(f"Watch:    recurrent-rl monitor {_quoted(out)}", soft_wrap=True)
    if outcome.stopped_by is not None:
        return 128 + outcome.stopped_by
    return 1 if outcome.failed else 0


@dataclass(frozen=True)
class CompareArguments:
    """Compare finished runs: a table by task, aggregate scores with intervals, learning curves."""

    runs: Annotated[tuple[FolderPath, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folders, or folders that hold some. Runs that differ in nothing but the seed count as
    one method."""
    out: FolderPath = "comparison"
    """Folder to write results.md and curves.png to."""

    def __post_init__(self) -> None:
        settle(self, UserError)


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
