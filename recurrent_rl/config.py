"""Every setting of a training run, with its meaning: the source of the command line's flags."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import torch
import tyro

from recurrent_rl.agents.arguments import check_is
from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.settings import (
    Must,
    Read,
    SettingError,
    above,
    at_least,
    at_most,
    between,
    build,
    missing,
    none_for_zero,
    refusing_other_names,
    settle,
    shown,
    within,
)
from recurrent_rl.config_json import (
    AUTOMATIC,
    RESOLVED,
    RESOLVED_FIELDS,
    checked_resolved,
    requested_and_resolved,
)
from recurrent_rl.env_config import EnvConfig
from recurrent_rl.errors import UserError
from recurrent_rl.fields import (
    LARGEST_SIZE,
    EnvId,
    FolderPath,
    JsonObject,
    Label,
    Size,
    SizeOrNone,
    WorkerCount,
    Workers,
)
from recurrent_rl.schedules import at, check_schedules

MOST_THREADS = 1024
"""OpenMP keeps a record of each thread on the stack, and ends the process where the system refuses
one: 16,384 end it on Linux with its usual limits, 100,000 crash it."""


def _is_device(name: str) -> bool:
    try:
        # torch reads cuda:300 as cuda:44. The device meta holds no values.
        return name == "auto" or (str(torch.device(name)) == name and name != "meta")
    except RuntimeError:
        return False


def _device_name(name: str, value: Any) -> Any:
    return str(value) if isinstance(value, torch.device) else value


def _no_function(name: str, value: Any) -> Any:
    """Refuse a function of the remaining progress, as Stable-Baselines3 takes."""
    if callable(value):
        raise SettingError(
            f"{name} is a function; it must be a number. What changes over the run is given by its "
            f'values: schedules={{"{name}": [first, ..., last]}}.'
        )
    return value


DeviceName = Annotated[
    str, Read(_device_name), Must("auto, or a device such as cpu, cuda, cuda:1 or mps", _is_device)
]
"""A device as torch names it, or auto."""


@refusing_other_names
@dataclass(frozen=True)
class TrainConfig:
    """Settings of one training run. Field names follow CleanRL.

    To resume a run that was stopped: recurrent-rl train --resume RUN
    """

    env_id: Annotated[EnvId | None, tyro.conf.Positional, tyro.conf.arg(metavar="ENV_ID")] = None
    """Environment to train on: a Gymnasium id, or module:name, where name is an id that the module
    registers, or a class or function of it that makes an environment. In Python None, where it is
    given as train(config, env=...)."""
    name: Label | None = None
    """Name of the experiment, part of the run folder's name; by default the memory's."""
    seed: Annotated[int, at_least(0)] = 0
    """Seed of the environments, the weights and the sampling."""
    log_dir: FolderPath = "runs"
    """Folder that holds the run folders: the log directory for TensorBoard."""

    init_from: FolderPath | None = None
    """Run folder or policy file, or hf://OWNER/NAME, whose weights and normalisers the agent begins
    with; the optimiser is fresh. It must be for the same spaces, and the agent's settings must be
    the same; only hidden_size may be larger."""

    total_timesteps: Annotated[int, at_least(1)] = 1_000_000
    """Environment steps to train for, all environments counted."""
    num_envs: SizeOrNone = None
    """Environments stepped side by side. By default (None) as many as make a rollout of 8,192
    steps, or in a short run as few, down to 8, as leave it 100 rollouts to learn from."""
    num_steps: SizeOrNone = None
    """Steps that each environment takes per rollout. By default (None) whole episodes, one or about
    128 steps of them, where their longest length is known and 8 environments leave 100 such
    rollouts; else 128."""
    seq_len: Annotated[int | None, at_least(1)] = None
    """Length of the chunks a rollout is cut into for back-propagation through time: by default
    the whole rollout. It must divide num_steps."""
    refresh_state: bool = False
    """Recompute the states stored at the starts of chunks under the newest weights before each
    epoch. Only chunks shorter than the rollout have such states."""

    learning_rate: Annotated[float, Read(_no_function), above(0)] = 1e-3
    """Step size of Adam at the start."""
    lr_schedule: Literal["constant", "linear"] = "linear"
    """Keep the learning rate, or let it fall to zero over the run."""
    adam_eps: Annotated[float, above(0)] = 1e-5
    """Adam's epsilon."""
    gamma: Annotated[float, between(0, 1)] = 0.99
    """Discount factor."""
    gae_lambda: Annotated[float, between(0, 1)] = 0.9
    """Lambda of generalised advantage estimation."""
    update_epochs: Annotated[int, at_least(1)] = 4
    """Passes over each rollout."""
    num_minibatches: Annotated[int | None, at_least(1), at_most(LARGEST_SIZE)] = None
    """Minibatches of whole chunks per pass. It must divide the number of chunks,
    num_envs * num_steps / seq_len. By default (None) 4, or the most below that divide it."""
    clip_coef: Annotated[float, Read(_no_function), above(0)] = 0.2
    """Clip range of the probability ratio."""
    clip_value: Annotated[float | None, above(0)] = None
    """Clip range of the value's change, in standard deviations of the return; none by default."""
    normalize_advantages: bool = True
    """Scale each rollout's advantages to zero mean and, at most, unit variance."""
    ent_coef: Annotated[float, at_least(0)] = 0.01
    """Weight of the entropy bonus at the start."""
    ent_schedule: Literal["constant", "linear"] = "linear"
    """Keep the weight of the entropy bonus, or let it fall to zero over the run."""
    vf_coef: Annotated[float, at_least(0)] = 0.5
    """Weight of the value loss."""
    max_grad_norm: Annotated[float, above(0)] = 0.5
    """Largest norm of the gradient; larger ones are scaled down."""
    target_kl: Annotated[float | None, above(0)] = 0.02
    """End a rollout's epochs after one whose approximate KL divergence passes this; None: never."""

    device: DeviceName = "auto"
    """cpu, cuda, cuda:1 ...; auto takes CUDA where there is one."""
    threads: Annotated[int | None, Read(none_for_zero), at_least(1), at_most(MOST_THREADS)] = None
    """CPU threads. By default (None) the memory's kernel takes all cores, with the same result to
    the last bit, and PyTorch's own operations one: their many small steps gain little from more,
    and lose much where other processes want the cores. A number is for both."""
    workers: Workers = 1
    """Processes that train the agent together, each with its share of the environments: they learn
    what one would, but for rounding. auto takes one for each core, or each GPU, but no more than
    one for 16 environments."""
    worker_timeout: Annotated[float, above(0)] = 600.0
    """Seconds that workers wait for the slowest of them before the run ends: an environment that
    hangs must end it, one that is slow must not."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16 rounds the factors of the memory's matrix products on a CPU with AMX, which makes
    these several times faster; sums, states and all else stay float32."""
    log_interval: Annotated[int, at_least(1)] = 1
    """Rollouts between two points in TensorBoard."""
    memory_interval: Annotated[int | None, Read(none_for_zero), at_least(1)] = 10
    """Rollouts between two diagnostics of the memory (the costlier memory/* tags); None: never."""
    checkpoint_interval: Annotated[float, at_least(0)] = 60.0
    """Seconds between two checkpoints."""
    eval_episodes: Annotated[int, at_least(0)] = 100
    """Episodes to evaluate the trained policy on at the end, and at each eval_interval; 0 for
    none."""
    eval_interval: Annotated[int | None, at_least(1)] = None
    """Steps between two evaluations during training, on environments of their own; the best policy
    is kept in best_policy.safetensors. None: only at the end."""
    stop_at_return: float | None = None
    """End the run where an evaluation's mean return reaches this; needs eval_interval."""
    patience: Annotated[int | None, at_least(1)] = None
    """End the run where for so many steps no evaluation was better; needs eval_interval."""
    video_interval: Annotated[int | None, at_least(1)] = None
    """Evaluations between two at which an episode is filmed for TensorBoard (eval/episode); needs
    eval_interval. None: none is."""
    track: Literal["wandb", "mlflow", "trackio"] | None = None
    """Also send the figures to Weights & Biases, MLflow or Trackio, whose package must be
    installed; its own environment variables say where to."""
    save_interval: Annotated[int | None, at_least(1)] = None
    """Steps between two policies kept in the run's folder policies. None: only the last is."""
    schedules: JsonObject = field(default_factory=dict, hash=False)
    """Settings that change over the run: a dict or, on the command line, a JSON object such as
    '{"clip_coef": [0.2, 0.1]}'. Each passes through its values at equal distances, in between on
    straight lines. One here overrides lr_schedule and ent_schedule."""

    agent: AgentConfig = field(default_factory=AgentConfig)
    env: EnvConfig = field(default_factory=EnvConfig)

    def __post_init__(self) -> None:
        settle(self, UserError)
        check_schedules(self.schedules, self._with_value)

    def _with_value(self, name: str, value: float) -> TrainConfig:
        """The settings with this value of one of them, and without schedules."""
        changes: dict[str, Any] = {"schedules": {}, name: value}
        return dataclasses.replace(self, **changes)

    @property
    def environment(self) -> str:
        """The `env_id` of settings that have one.

        Raises:
            UserError: they have none; says where to name one.
        """
        if self.env_id is None:
            raise UserError(
                "There is no environment to train on: env_id is missing. Name one, as in "
                'TrainConfig("CartPole-v1") or recurrent-rl train CartPole-v1, or give '
                "train(config, env=...) a class, a function or an environment."
            )
        return self.env_id

    def as_requested(self) -> TrainConfig:
        """The settings as requested, before anything was chosen."""
        return self

    def to_json(self) -> str:
        """As JSON text; `from_json` is its inverse."""
        return json.dumps(dataclasses.asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str | bytes) -> TrainConfig:
        """Read what `to_json` wrote, also that of a `ResolvedConfig` or of version 0.1.

        Raises:
            UserError: the text is no JSON object, or a field is unknown, missing, or cannot be.
        """
        check_is("text", text, (str, bytes), "the JSON text of a run's config.json")
        try:
            fields = json.loads(text)
            if not isinstance(fields, dict):
                raise SettingError(f"it holds {shown(fields)}, not a JSON object")
            requested, resolved = requested_and_resolved(fields, vars(TrainConfig()))
            if lacking := missing(TrainConfig, requested):
                raise SettingError(f"it lacks {', '.join(sorted(lacking))}")
            for name, read in (("agent", AgentConfig.from_file), ("env", EnvConfig.from_dict)):
                with within(name):
                    requested[name] = read(requested[name])
            if resolved is None:
                return build(TrainConfig, requested)
            with within(RESOLVED):
                return build(ResolvedConfig, requested | checked_resolved(resolved, requested))
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"The run's config.json cannot be read: {str(error).rstrip('.')}. Mend it where it "
                "was edited; if another version of recurrent-rl wrote it, resume with that version."
            ) from error


@dataclass(frozen=True)
class ResolvedConfig(TrainConfig):
    """Settings of which none is left to the default; `resolve` makes them."""

    env_id: EnvId = field()
    num_envs: Size = field(kw_only=True)
    num_steps: Size = field(kw_only=True)
    num_minibatches: Size = field(kw_only=True)
    workers: WorkerCount = 1
    reasons: dict[str, str] = field(default_factory=dict, kw_only=True, hash=False)
    """Why they are as they are, by the names of those that were left to the default; empty where
    there is nothing to tell."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.eval_interval is None:
            for name in ("stop_at_return", "patience", "video_interval"):
                if getattr(self, name) is not None:
                    raise UserError(f"{name} needs evaluations during training: set eval_interval.")
        elif not self.eval_episodes:
            raise UserError("eval_interval needs episodes to play: set eval_episodes above 0.")
        if self.num_steps % self.chunk_length:
            raise UserError(
                f"seq_len {self.seq_len} does not divide num_steps {self.num_steps}; "
                f"use one of {_divisors(self.num_steps, self.chunk_length)}."
            )
        if self.num_chunks % self.num_minibatches:
            raise UserError(
                f"num_minibatches {self.num_minibatches} does not divide the {self.num_chunks} "
                f"chunks of a rollout (num_envs {self.num_envs} x num_steps {self.num_steps} / "
                f"seq_len {self.chunk_length}); "
                f"use one of {_divisors(self.num_chunks, self.num_minibatches)}."
            )

    def as_requested(self) -> TrainConfig:
        """The settings as requested: what was left to the default is None again."""
        fields = {
            field.name: getattr(self, field.name) for field in dataclasses.fields(TrainConfig)
        }
        return TrainConfig(**fields | {name: AUTOMATIC[name] for name in self.reasons})

    def choices(self) -> list[str]:
        """A line for each setting that was chosen: its value, and why."""
        return [f"{name} {getattr(self, name)}: {why}" for name, why in self.reasons.items() if why]

    def scheduled(self, iteration: int) -> ResolvedConfig:
        """The settings of this iteration, counted from 0: what has a schedule follows it."""
        progress = iteration / self.num_iterations
        values = self.all_schedules()
        changed: dict[str, Any] = {"schedules": {}}
        changed |= {name: float(at(points, progress)) for name, points in values.items()}
        return dataclasses.replace(self, **changed)

    def all_schedules(self) -> dict[str, list[float]]:
        """The values that each setting passes through: `schedules`, and those with a flag."""
        of_flags = {
            name: [getattr(self, name), 0.0 if schedule == "linear" else getattr(self, name)]
            for name, schedule in (
                ("learning_rate", self.lr_schedule),
                ("ent_coef", self.ent_schedule),
            )
        }
        return of_flags | self.schedules

    @property
    def chunk_length(self) -> int:
        """Steps in a chunk."""
        return self.seq_len or self.num_steps

    @property
    def num_chunks(self) -> int:
        """Chunks in a rollout."""
        return self.num_envs * self.num_steps // self.chunk_length

    @property
    def batch_size(self) -> int:
        """Environment steps in a rollout, all environments counted."""
        return self.num_envs * self.num_steps

    @property
    def num_iterations(self) -> int:
        """Rollouts in the run: enough to take at least `total_timesteps` steps."""
        return -(-self.total_timesteps // self.batch_size)

    def to_json(self) -> str:
        """As JSON text: the settings as requested, and beside them what was resolved."""
        resolved = {name: getattr(self, name) for name in RESOLVED_FIELDS}
        requested = dataclasses.asdict(self.as_requested())
        return json.dumps(requested | {RESOLVED: resolved}, indent=2)


def _divisors(n: int, requested: int) -> str:
    """The divisors of `n` that are nearest to what was requested, as text."""
    small = [d for d in range(1, math.isqrt(n) + 1) if n % d == 0]
    divisors = {*small, *(n // d for d in small)}
    nearest = sorted(divisors, key=lambda d: abs(math.log(d / requested)))[:8]
    return ", ".join(map(str, sorted(nearest)))
