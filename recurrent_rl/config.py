"""Every setting of a training run, with its meaning: the source of the command line's flags."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
import tyro

from recurrent_rl.agents.arguments import check_is
from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.parts import OF_ONES_OWN
from recurrent_rl.agents.settings import (
    Must,
    OneOf,
    Read,
    SettingError,
    above,
    at_least,
    at_most,
    between,
    build,
    shown,
    validated,
    within,
)
from recurrent_rl.auxiliary import AUX_LOSSES, AuxiliaryLoss
from recurrent_rl.errors import UserError
from recurrent_rl.fields import (
    EnvId,
    FolderPath,
    JsonObject,
    Label,
    Size,
    WorkerCount,
    Workers,
    each_once,
)
from recurrent_rl.schedules import at, check_schedules
from recurrent_rl.vector_env.config import NO_MATTER_OF_THE_TASK, EnvConfig

SIZES = ("num_envs", "num_steps")
"""The sizes of a rollout, which `choose_sizes` chooses where they are None."""
AUTOMATIC: dict[str, Any] = {
    **dict.fromkeys((*SIZES, "seq_len", "num_minibatches")),
    "workers": "auto",
}
"""All settings that `choose_sizes` chooses, each with the value that asks for it."""
RESOLVED = "resolved"
"""The key of a config.json under which stands what was chosen."""
RESOLVED_FIELDS = (*AUTOMATIC, "reasons")
"""What stands there."""
FEW_ROLLOUTS = 10
"""A run of fewer says so."""

NO_MATTER_OF_WHAT_IS_LEARNT = frozenset(
    {
        *("name", "log_dir", "track", "log_interval", "memory_interval"),
        *("checkpoint_interval", "save_interval", "video_interval"),
        *("device", "threads", "workers", "worker_timeout"),
        *NO_MATTER_OF_THE_TASK,
    }
)
"""Settings that change nothing in what is learnt, but for rounding: where a run lies, what it logs
and keeps, what computes it."""

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
if TYPE_CHECKING:
    from recurrent_rl.agents.parts import NameOf

    AuxLossName = NameOf[AuxiliaryLoss, str | None]
else:  # what it holds, and how it is read
    AuxLossName = Annotated[
        str | None, Read(AUX_LOSSES.name_of_class), OneOf(AUX_LOSSES, OF_ONES_OWN)
    ]


@validated
@dataclass(frozen=True)
class TrainConfig:
    """Settings of one training run. Field names follow CleanRL.

    To resume a run that was stopped: recurrent-rl train --resume RUN
    """

    env_id: Annotated[EnvId | None, tyro.conf.Positional, tyro.conf.arg(metavar="ENV_ID")] = None
    """Environment to train on: a Gymnasium id such as CartPole-v1, or my_module:name. The module is
    imported, and name is an id that it registers, or one of its classes or functions that makes an
    environment. In Python it may be None, with train(config, env=...)."""
    name: Label | None = None
    """Name of this run, part of its folder's name. By default (None) the memory's."""
    seed: Annotated[int, at_least(0)] = 0
    """Seed of everything random: environments, weights and actions. The same seed repeats the run
    on the same machine."""
    log_dir: FolderPath = "runs"
    """Folder in which the run gets a folder of its own; TensorBoard shows all runs in it."""

    init_from: FolderPath | None = None
    """Begin with the weights and normalisers of this run folder or policy file, or of
    hf://OWNER/NAME; the optimiser begins anew. The spaces and the agent's settings must be the
    same; only hidden_size may be larger."""

    total_timesteps: Annotated[int, at_least(1)] = 1_000_000
    """Steps to train for, summed over all environments."""
    num_envs: Size | None = None
    """Environments stepped side by side. By default (None) as many as give rollouts of 8,192 steps,
    fewer in a short run so that it has 100 rollouts, and never fewer than 8. Rollouts of whole
    episodes have about 32 of them or more, of up to 40,960 steps in all."""
    num_steps: Size | None = None
    """Steps of each environment in a rollout, which is what is played between two updates. Make it
    longer than what must be remembered. By default (None) whole episodes, where their longest
    length is known and short enough; else 128."""
    seq_len: Annotated[int | None, at_least(1)] = None
    """Cut a rollout into chunks of so many steps for back-propagation through time; it must divide
    num_steps. By default (None) a rollout is one chunk. Shorter ones save RAM, and no gradient
    crosses from one to the next."""
    refresh_state: bool = False
    """Before each pass over a rollout, compute anew the memory's states at the starts of chunks.
    Matters only where seq_len is shorter than num_steps."""

    learning_rate: Annotated[float, Read(_no_function), above(0)] = 1e-3
    """Learning rate of Adam when the run starts; lr_schedule says how it goes on."""
    lr_schedule: Literal["constant", "linear"] = "linear"
    """linear: the learning rate falls to zero over the run; constant: it stays."""
    adam_eps: Annotated[float, above(0)] = 1e-5
    """Epsilon of Adam, added to the denominator of its step."""
    gamma: Annotated[float, between(0, 1)] = 0.99
    """Discount factor: rewards up to about 1 / (1 - gamma) steps ahead count. Lower it where
    actions are paid soon."""
    gae_lambda: Annotated[float, between(0, 1)] = 0.9
    """Lambda of generalised advantage estimation: nearer to 1 trusts the rewards that were seen,
    nearer to 0 the critic."""
    update_epochs: Annotated[int, at_least(1)] = 4
    """Passes over each rollout, at most: target_kl may end them earlier."""
    num_minibatches: Size | None = None
    """Minibatches in each pass, made of whole chunks. It must divide the number of chunks, num_envs
    * num_steps / seq_len. By default (None) 4, or the largest smaller number that divides it; 8 or
    16 in rollouts that long episodes make larger."""
    clip_coef: Annotated[float, Read(_no_function), above(0)] = 0.2
    """How far one update may move the probability of an action: PPO's clip range of the probability
    ratio."""
    clip_value: Annotated[float | None, above(0)] = None
    """Clip range of the critic's change, in standard deviations of the return; without
    normalize_returns in the return's own unit. By default (None) it is not clipped."""
    normalize_advantages: bool = True
    """Scale each rollout's advantages to zero mean and to unit variance or less."""
    ent_coef: Annotated[float, at_least(0)] = 0.01
    """Weight of the entropy bonus when the run starts: more makes the agent explore longer.
    ent_schedule says how it goes on."""
    ent_schedule: Literal["constant", "linear"] = "linear"
    """linear: the entropy bonus falls to zero over the run; constant: it stays."""
    vf_coef: Annotated[float, at_least(0)] = 0.5
    """Weight of the critic's loss beside the actor's."""
    aux_loss: AuxLossName = None  # type: ignore[assignment]
    """Teach the memory by a second loss: next-observation has it predict what is seen next, which
    may help where velocities are hidden. Or one of your own, registered or as module:Class. By
    default (None) there is none."""
    aux_coef: Annotated[float, at_least(0)] = 1.0
    """Weight of aux_loss beside the actor's loss."""
    max_grad_norm: Annotated[float, above(0)] = 0.5
    """Scale the gradient down to this norm where it is larger."""
    target_kl: Annotated[float | None, above(0)] = 0.02
    """End the passes over a rollout early, once the policy has moved this far (approximate KL
    divergence). None: never."""

    device: DeviceName = "auto"
    """Where to compute: cpu, cuda, cuda:1 ...; auto takes CUDA where there is a GPU."""
    threads: Annotated[int | None, at_least(1), at_most(MOST_THREADS)] = None
    """CPU threads; set 1 to run several trainings side by side. By default (None) the memory's
    kernel takes all cores and PyTorch's own operations take one. The number changes nothing in the
    kernel's result. Each of several workers takes no more than its share of the cores."""
    workers: Workers = 1
    """Processes that train one agent together, each with its share of the environments. They learn
    what one would, but for rounding. auto takes one for each core or GPU, with at least 16
    environments each."""
    worker_timeout: Annotated[float, above(0)] = 600.0
    """End the run when a worker has kept the others waiting for so many seconds. Raise it where an
    environment is slow and does not hang."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16 makes the memory's matrix products several times faster on a CPU with AMX, by
    rounding their factors; sums and states stay float32."""
    log_interval: Annotated[int, at_least(1)] = 1
    """Log to TensorBoard every so many rollouts."""
    memory_interval: Annotated[int | None, at_least(1)] = 10
    """Log the costlier memory/* diagnostics every so many rollouts. None: never."""
    checkpoint_interval: Annotated[float, at_least(0)] = 60.0
    """Save a checkpoint every so many seconds; a run that was killed resumes from the last one."""
    eval_episodes: Annotated[int, at_least(0)] = 100
    """Episodes of each evaluation, at the end and at each eval_interval. 0: no evaluation."""
    eval_interval: Annotated[int | None, at_least(1)] = None
    """Evaluate every so many steps, in separate environments, and keep the best policy as
    best_policy.safetensors. By default (None) only at the end."""
    stop_at_return: float | None = None
    """End the run once an evaluation's mean return is at least this; needs eval_interval."""
    patience: Annotated[int | None, at_least(1)] = None
    """End the run once no evaluation was better for so many steps; needs eval_interval."""
    video_interval: Annotated[int | None, at_least(1)] = None
    """Film an episode for TensorBoard (eval/episode) at every so many evaluations; needs
    eval_interval. None: never."""
    track: Literal["wandb", "mlflow", "trackio"] | None = None
    """Also send the figures to Weights & Biases, MLflow or Trackio. Its package must be installed;
    its own environment variables say where the figures go."""
    save_interval: Annotated[int | None, at_least(1)] = None
    """Save a policy every so many steps, in the folder policies of the run's folder. By default
    (None) only the last is saved."""
    schedules: JsonObject = field(default_factory=dict, hash=False)
    """Settings that change over the run: a dict or, on the command line, a JSON object such as
    '{"clip_coef": [0.2, 0.1]}': from the first value to the last in straight lines of equal length.
    Overrides lr_schedule and ent_schedule."""

    agent: AgentConfig = field(default_factory=AgentConfig)
    env: EnvConfig = field(default_factory=EnvConfig)

    def __post_init__(self) -> None:
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
                'TrainConfig("CartPole-v1") or recurrent-rl train CartPole-v1, or give a '
                "class, a function or an environment beside the settings, as env."
            )
        return self.env_id

    def as_requested(self) -> TrainConfig:
        """The settings as requested, before anything was chosen."""
        return self

    def check_evaluations(self) -> None:
        """Refuse settings of evaluations during training that need others.

        Raises:
            UserError: names the one that lacks.
        """
        if self.eval_interval is None:
            for name in ("stop_at_return", "patience", "video_interval"):
                if getattr(self, name) is not None:
                    raise UserError(f"{name} needs evaluations during training: set eval_interval.")
        elif not self.eval_episodes:
            raise UserError("eval_interval needs episodes to play: set eval_episodes above 0.")

    def to_the_end(self) -> TrainConfig:
        """The same without what ends a run early, since runs are compared after all their steps."""
        return dataclasses.replace(self, stop_at_return=None, patience=None)

    def differences(self, other: TrainConfig) -> list[str]:
        """The settings, as requested, by which two runs learn something else, by their names."""
        own, others = (one.as_requested().flat() for one in (self, other))
        names = dict.fromkeys([*own, *others])  # arguments of environments may be other ones
        return [
            name
            for name in names
            if own.get(name, ...) != others.get(name, ...)
            and name.removeprefix("env.") not in NO_MATTER_OF_WHAT_IS_LEARNT
        ]

    def flat(self) -> dict[str, Any]:
        """All settings by their names on one level: `agent.memory` and so on."""
        return flat(dataclasses.asdict(self))

    def to_json(self) -> str:
        """As JSON text; `from_json` is its inverse."""
        return json.dumps(dataclasses.asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str | bytes) -> TrainConfig:
        """Read what `to_json` wrote, also that of a `ResolvedConfig`.

        Raises:
            UserError: the text is no JSON object, or a field is unknown or cannot be.
        """
        check_is("text", text, (str, bytes), "the JSON text of a run's config.json")
        try:
            fields = json.loads(text, object_pairs_hook=each_once)
            if not isinstance(fields, dict):
                raise SettingError(f"it holds {shown(fields)}, not a JSON object")
            resolved = fields.pop(RESOLVED, None)
            requested = build(TrainConfig, fields)
            if resolved is None:
                return requested
            with within(RESOLVED):
                return build(ResolvedConfig, vars(requested) | _checked_resolved(resolved))
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"The run's config.json cannot be read: {str(error).rstrip('.')}. Mend it where it "
                "was edited; if another version of recurrent-rl wrote it, resume with that version."
            ) from error


@validated
@dataclass(frozen=True)
class ResolvedConfig(TrainConfig):
    """Settings of which none is left to the default; `resolved` makes them."""

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
        self.check_evaluations()
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
        automatic: dict[str, Any] = {name: AUTOMATIC[name] for name in self.reasons}
        return dataclasses.replace(self.as_chosen(), **automatic)

    def as_chosen(self) -> TrainConfig:
        """The settings as one would give them with what was chosen."""
        return TrainConfig(
            **{field.name: getattr(self, field.name) for field in dataclasses.fields(TrainConfig)}
        )

    def choices(self) -> list[str]:
        """A line for each setting that was chosen: its value, and why; and what one overrules."""
        lines = [
            f"{name} {getattr(self, name)}: {why}" for name, why in self.reasons.items() if why
        ]
        if self.num_iterations < FEW_ROLLOUTS:
            rollouts = f"{self.num_iterations} rollout{'s' * (self.num_iterations > 1)}"
            lines.append(
                f"total_timesteps {self.total_timesteps:,} makes {rollouts} of "
                f"{self.batch_size:,} steps (num_envs {self.num_envs} x num_steps "
                f"{self.num_steps}), and the agent learns after each: too seldom to learn much. "
                "Lower these two, or raise total_timesteps."
            )
        return lines

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


def _checked_resolved(resolved: Any) -> dict[str, Any]:
    """What was resolved, if it is a dictionary of just that; older files have no seq_len in it.

    Raises:
        SettingError: it is none.
    """
    if not isinstance(resolved, dict) or {*resolved, "seq_len"} != {*RESOLVED_FIELDS}:
        raise SettingError(f"it is {shown(resolved)}; it must hold {', '.join(RESOLVED_FIELDS)}")
    return resolved


def flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Nested settings as one level, `agent.memory` and so on."""
    result: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            result |= {f"{name}.{key}": inner for key, inner in flat(value).items()}
        else:
            result[name] = value
    return result


def _divisors(n: int, requested: int) -> str:
    """The divisors of `n` that are nearest to what was requested, as text."""
    small = [d for d in range(1, math.isqrt(n) + 1) if n % d == 0]
    divisors = {*small, *(n // d for d in small)}
    nearest = sorted(divisors, key=lambda d: abs(math.log(d / requested)))[:8]
    return ", ".join(map(str, sorted(nearest)))
