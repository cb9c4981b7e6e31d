"""`recurrent-rl evaluate`: episodes with a trained policy, with its memory and without."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from recurrent_rl.agents.settings import at_least, at_most, settle
from recurrent_rl.cli.evaluation_table import print_evaluation
from recurrent_rl.cli.terminal import parse
from recurrent_rl.errors import UserError
from recurrent_rl.fields import LARGEST_SIZE, EnvId, FolderPath, JsonObject
from recurrent_rl.runs.progress import make_console

if TYPE_CHECKING:
    from recurrent_rl.agents.policy import Policy
    from recurrent_rl.config import EnvConfig


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
    from recurrent_rl.process import seed_process
    from recurrent_rl.runs.evaluation import SavedEvaluation, check_writable, evaluate_ways
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
    from recurrent_rl.runs.training import CONFIG, load_config

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
