"""The arguments of `recurrent-rl train`, and how its help groups them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from recurrent_rl.agents.settings import at_least, validated
from recurrent_rl.cli.terminal import Imports, Quiet
from recurrent_rl.config import TrainConfig
from recurrent_rl.fields import FolderPath, Workers

GROUPS: dict[str, tuple[str, ...]] = {
    "most-changed": (
        "total_timesteps",
        "memory",
        "hidden_size",
        "learning_rate",
        "gamma",
        "ent_coef",
        "env_kwargs",
        "hide_indices",
        "name",
        "seed",
    ),
    "agent": (
        "num_layers",
        "horizon",
        "previous_action",
        "previous_reward",
        "action_persistence",
        "normalize_observations",
        "normalize_returns",
    ),
    "critic": ("separate_memory", "critic_memory", "critic_keys", "actor_keys"),
    "network": (
        "encoder_size",
        "encoder_layers",
        "activation",
        "one_hot",
        "image_features",
        "actor_layers",
        "critic_layers",
        "layers_activation",
        "encoder",
        "head",
    ),
    "environment": (
        "vectorization",
        "observe",
        "wrappers",
        "flicker",
        "observation_noise",
        "observation_delay",
    ),
    "rollout": ("num_envs", "num_steps", "seq_len", "refresh_state"),
    "learning": (
        "lr_schedule",
        "ent_schedule",
        "schedules",
        "gae_lambda",
        "update_epochs",
        "num_minibatches",
        "target_kl",
        "clip_coef",
        "clip_value",
        "normalize_advantages",
        "vf_coef",
        "aux_loss",
        "aux_coef",
        "max_grad_norm",
        "adam_eps",
    ),
    "evaluation": (
        "eval_episodes",
        "eval_interval",
        "stop_at_return",
        "patience",
        "video_interval",
    ),
    "run": (
        "log_dir",
        "init_from",
        "save_interval",
        "checkpoint_interval",
        "log_interval",
        "memory_interval",
        "info_metrics",
        "track",
    ),
    "hardware": ("device", "threads", "workers", "worker_timeout", "precision"),
}
"""The settings as the help shows them: by the title of their group, what is changed most first."""


@dataclass(frozen=True)
class TrainArguments:
    """Train an agent (ENV_ID), or resume a run that was stopped (--resume RUN).

    It does not learn? docs/troubleshooting.md says what to try, in order.
    """

    config: TrainConfig
    resume: Annotated[FolderPath | None, tyro.conf.arg(metavar="RUN")] = None
    """Resume the run in this folder from its last checkpoint, with its own settings. Only
    --total-timesteps, --device, --workers, --import and --quiet can be given with it."""
    imports: Imports = ()
    config_file: Annotated[FolderPath | None, tyro.conf.arg(name="config", metavar="FILE")] = None
    """Take settings from this file: JSON or YAML, such as an earlier run's config.json. Flags
    override it."""
    preset: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Take the tuned settings for this environment that come with the library. Flags and a file
    override them."""
    print_config: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print the settings that result, as a file for --config, and train nothing."""
    quiet: Quiet = False


@validated
@dataclass(frozen=True)
class ResumeArguments:
    """Resume a run from its last checkpoint, with the settings it was started with."""

    resume: Annotated[FolderPath, tyro.conf.arg(metavar="RUN")]
    """Run folder to resume."""
    total_timesteps: Annotated[int | None, at_least(1)] = None
    """Train to this many steps in all; by default as many as the run was started for."""
    device: str | None = None
    """Device to compute on from now on: cpu, cuda ...; by default the run's own."""
    workers: Workers | None = None
    """Processes that train together from now on; by default the run's own number."""
    imports: Imports = ()
    quiet: Quiet = False
