"""Every setting of a training run, with its meaning: the source of the command line's flags."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
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
    check_choice,
    from_0_below_1,
    missing,
    none_for_zero,
    settle,
    shown,
    within,
)
from recurrent_rl.errors import UserError
from recurrent_rl.fields import (
    LARGEST_SIZE,
    EnvId,
    FolderPath,
    InfoKeys,
    JsonObject,
    Label,
    json_object,
)
from recurrent_rl.wrapping import wrapper_name

MOST_THREADS = 1024
"""OpenMP keeps a record of each thread on the stack, and ends the process where the system refuses
one: 16,384 end it on Linux with its usual limits, 100,000 crash it."""


MOST_WORKERS = 65_536
"""More than any machine runs."""


def _is_device(name: str) -> bool:
    try:
        # torch reads cuda:300 as cuda:44. The device meta holds no values.
        return name == "auto" or (str(torch.device(name)) == name and name != "meta")
    except RuntimeError:
        return False


def _device_name(name: str, value: Any) -> Any:
    return str(value) if isinstance(value, torch.device) else value


DeviceName = Annotated[
    str, Read(_device_name), Must("auto, or a device such as cpu, cuda, cuda:1 or mps", _is_device)
]
"""A device as torch names it, or auto."""


SIZES = ("num_envs", "num_steps")
"""What `resolve` chooses where it is None."""

Size = Annotated[int, at_least(1), at_most(LARGEST_SIZE)]
SizeOrNone = Annotated[int | None, Read(none_for_zero), at_least(1), at_most(LARGEST_SIZE)]


WrapperName = Annotated[str, Read(wrapper_name)]
"""A wrapper's short name, or module:function."""

WorkerCount = Annotated[int, at_least(1), at_most(MOST_WORKERS)]
Workers = WorkerCount | Literal["auto"]
"""How many processes train together; auto: `resolve` chooses."""


NO_MATTER_OF_THE_TASK = ("vectorization", "info_metrics")
"""Settings of `EnvConfig` that change nothing in what an environment does."""


@dataclass(frozen=True)
class EnvConfig:
    """How the environment is made, and which information is hidden from the agent."""

    env_kwargs: JsonObject = field(default_factory=dict, hash=False)
    """Arguments of the environment: a dict or, on the command line, a JSON object such as
    '{"length": 50}'."""
    vectorization: Literal["auto", "sync", "async"] = "auto"
    """How environments are stepped: auto takes the environment's batched form where it has one."""
    observe: Annotated[
        tuple[str, ...],
        Must("without a key twice", lambda keys: len(set(keys)) == len(keys)),
        tyro.conf.arg(metavar="KEY [KEY ...]"),
    ] = ()
    """Keys of a Dict observation to see: of one key that component alone, of several a Dict; by
    default all."""
    wrappers: Annotated[
        tuple[WrapperName, ...],
        tyro.conf.UseAppendAction,
        tyro.conf.arg(name="wrapper", metavar="WRAPPER"),
    ] = ()
    """Wrapper to put around each environment, the first innermost: flatten, frame-stack:4,
    grayscale, resize:84x84, or module:function. On the command line give it once for each."""
    hide_indices: Annotated[
        tuple[Annotated[int, at_least(0)], ...],
        Must("without an entry twice", lambda indices: len(set(indices)) == len(indices)),
    ] = ()
    """Entries of a vector observation to drop, for example the velocities."""
    flicker: Annotated[float, from_0_below_1()] = 0.0
    """Probability with which a whole observation is replaced by zeros."""
    observation_noise: Annotated[float, at_least(0)] = 0.0
    """Standard deviation of Gaussian noise added to the observation."""
    observation_delay: Annotated[int, at_least(0)] = 0
    """Steps by which observations are delayed."""
    info_metrics: InfoKeys = ()
    """Keys of numbers in the environment's infos to log: of each episode the mean over its steps
    and the value at its last step."""

    def __post_init__(self) -> None:
        settle(self, UserError)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> EnvConfig:
        """From `dataclasses.asdict`, also after a passage through JSON.

        A file of version 0.1 holds `env_kwargs` as text.

        Raises:
            UserError: a field is unknown or cannot be.
        """
        if isinstance(fields, Mapping) and isinstance(text := fields.get("env_kwargs"), str):
            fields = {**fields, "env_kwargs": json_object("env_kwargs", text)}
        return build(cls, fields)


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

    learning_rate: Annotated[float, above(0)] = 1e-3
    """Step size of Adam at the start."""
    lr_schedule: Literal["constant", "linear"] = "linear"
    """Keep the learning rate, or let it fall to zero over the run."""
    adam_eps: Annotated[float, above(0)] = 1e-5
    """Adam's epsilon."""
    gamma: Annotated[float, between(0, 1)] = 0.99
    """Discount factor."""
    gae_lambda: Annotated[float, between(0, 1)] = 0.8
    """Lambda of generalised advantage estimation."""
    update_epochs: Annotated[int, at_least(1)] = 4
    """Passes over each rollout."""
    num_minibatches: Annotated[int | None, at_least(1), at_most(LARGEST_SIZE)] = None
    """Minibatches of whole chunks per pass. It must divide the number of chunks,
    num_envs * num_steps / seq_len. By default (None) 4, or the most below that divide it."""
    clip_coef: Annotated[float, above(0)] = 0.2
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
        _check_schedules(self)

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
            requested, resolved = _from_version_0_1(fields)
            if lacking := missing(TrainConfig, requested):
                raise SettingError(f"it lacks {', '.join(sorted(lacking))}")
            for name, read in (("agent", AgentConfig.from_file), ("env", EnvConfig.from_dict)):
                with within(name):
                    requested[name] = read(requested[name])
            if resolved is None:
                return build(TrainConfig, requested)
            with within(RESOLVED):
                return build(ResolvedConfig, requested | _checked_resolved(resolved, requested))
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
        return TrainConfig(**fields | {name: _DEFAULTS[name] for name in self.reasons})

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
        resolved = {name: getattr(self, name) for name in _RESOLVED_FIELDS}
        requested = dataclasses.asdict(self.as_requested())
        return json.dumps(requested | {RESOLVED: resolved}, indent=2)


def at(points: list[float], progress: float) -> float:
    """Where a setting is after this share of the run, from 0 to 1; `points` lie evenly over it."""
    place = progress * (len(points) - 1)
    before = min(int(place), len(points) - 2)
    return points[before] + (points[before + 1] - points[before]) * (place - before)


SCHEDULED = (
    *("learning_rate", "gamma", "gae_lambda", "clip_coef", "clip_value", "ent_coef", "vf_coef"),
    *("max_grad_norm", "target_kl"),
)
"""The settings that may change from one iteration to the next."""


def _check_schedules(config: TrainConfig) -> None:
    """Refuse a schedule of what cannot have one, or through values that the setting cannot have.

    Raises:
        UserError: says which.
    """
    for name, points in config.schedules.items():
        check_choice("schedules", name, SCHEDULED)
        numbers = isinstance(points, list) and all(type(x) in (int, float) for x in points)
        if not numbers or len(points) < 2:
            raise UserError(
                f"schedules.{name} is {shown(points)}; give at least two numbers, such as "
                f'{{"{name}": [0.2, 0.1]}}.'
            )
        for point in points:
            changed: dict[str, Any] = {"schedules": {}, name: float(point)}
            try:
                dataclasses.replace(config, **changed)
            except UserError as error:
                raise UserError(f"In schedules: {error}") from error


_DEFAULTS: dict[str, Any] = dict.fromkeys((*SIZES, "num_minibatches")) | {"workers": "auto"}
"""What stands for "as chosen" in each setting that `resolve` chooses."""
_RESOLVED_FIELDS = (*_DEFAULTS, "reasons")
RESOLVED = "resolved"
"""The key in a config.json under which that stands."""


_NEWER = (
    *("workers", "worker_timeout", "eval_interval", "stop_at_return", "patience"),
    *("save_interval", "schedules", "init_from", "track", "video_interval"),
)
"""Settings that older files lack."""
_NEWER_OF_AGENT = (
    *("encoder", "head", "critic_memory", "actor_layers", "critic_layers", "layers_activation"),
    *("one_hot", "image_features", "critic_keys", "actor_keys"),
)
"""Settings of the agent that older files lack."""


def _default(name: str) -> Any:
    default = TrainConfig.__dataclass_fields__[name]
    made = default.default_factory
    return default.default if made is dataclasses.MISSING else made()


def _from_version_0_1(fields: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """The fields of the settings as requested, and what was resolved, of a file of any version.

    Files from before there were workers are of one; what else came later is at its default.
    Version 0.1 wrote 0 where None stands now, and sizes that it had chosen among those requested,
    with their names in `chosen`.
    """
    if isinstance(agent := fields.get("agent"), Mapping):
        defaults = dataclasses.asdict(AgentConfig())
        newer = {name: defaults[name] for name in _NEWER_OF_AGENT}
        fields = {**fields, "agent": newer | dict(agent)}
    requested = {name: _default(name) for name in _NEWER} | fields
    if isinstance(env := requested.get("env"), dict):
        requested["env"] = {"info_metrics": [], "observe": (), "wrappers": ()} | env
    resolved = requested.pop(RESOLVED, None)
    chosen = requested.pop("chosen", None)
    for name in ("threads", "memory_interval", *SIZES):
        if type(requested.get(name)) is int and requested[name] == 0:
            requested[name] = None
    sizes = {name: requested.get(name) for name in SIZES}
    is_older = "workers" not in fields  # than this: they always tell both sizes
    if resolved is None and is_older and None not in sizes.values():
        names = [] if chosen is None else chosen
        if not isinstance(names, list) or any(name not in SIZES for name in names):
            raise SettingError(f"chosen is {shown(names)}; it must be a list of {SIZES}")
        reasons = dict.fromkeys(names, "chosen by version 0.1")
        requested |= dict.fromkeys(names)
        resolved = sizes | {"workers": 1, "reasons": reasons}
    return requested, resolved


def _checked_resolved(resolved: Any, requested: dict[str, Any]) -> dict[str, Any]:
    """What was resolved, if it is a dictionary of just that.

    Older files tell of no workers, and of minibatches only what was requested, by default 4.
    """
    if isinstance(resolved, dict) and "num_minibatches" not in resolved:
        minibatches, reasons = requested["num_minibatches"], resolved.get("reasons")
        if minibatches == 4 and isinstance(reasons, dict):
            reasons = reasons | {"num_minibatches": ""}
        resolved = {"workers": 1} | resolved
        resolved |= {"num_minibatches": minibatches, "reasons": reasons}
    if not isinstance(resolved, dict) or set(resolved) != set(_RESOLVED_FIELDS):
        raise SettingError(f"it is {shown(resolved)}; it must hold {', '.join(_RESOLVED_FIELDS)}")
    return resolved


def _divisors(n: int, requested: int) -> str:
    """The divisors of `n` that are nearest to what was requested, as text."""
    small = [d for d in range(1, math.isqrt(n) + 1) if n % d == 0]
    divisors = {*small, *(n // d for d in small)}
    nearest = sorted(divisors, key=lambda d: abs(math.log(d / requested)))[:8]
    return ", ".join(map(str, sorted(nearest)))
