"""Every setting of a training run, with its meaning: the source of the command line's flags."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import torch
import tyro

from recurrent_rl.agents.actor_critic import AgentConfig
from recurrent_rl.agents.settings import (
    Must,
    Read,
    SettingError,
    above,
    at_least,
    at_most,
    between,
    build,
    from_0_below_1,
    missing,
    settle,
    shown,
)
from recurrent_rl.errors import UserError
from recurrent_rl.fields import LARGEST_SIZE, EnvId, FolderPath, JsonObject, Label

STEPS = 128
"""Steps that each copy takes per rollout, about, where their number is left to the default."""
COPIES = 8
"""The fewest copies, where their number is left to the default."""
ROLLOUTS = 100
"""Rollouts that a run is to have at least, where the size of a rollout is left to the default."""
BATCH = 64 * STEPS
"""Steps of all copies in a rollout, where that leaves so many rollouts."""


MOST_THREADS = 1024
"""OpenMP keeps a record of each thread on the stack, and ends the process where the system refuses
one: 16,384 end it on Linux with its usual limits, 100,000 crash it."""

Size = Literal["num_envs", "num_steps"]
SIZES: tuple[Size, ...] = ("num_envs", "num_steps")

_MAY_BE_MISSING = {"chosen"}
"""Fields that a config.json of an earlier version does not have."""


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


@dataclass(frozen=True)
class EnvConfig:
    """How the environment is made, and which information is hidden from the agent."""

    env_kwargs: JsonObject = "{}"
    """Arguments of the environment as a JSON object, for example '{"length": 50}'."""
    vectorization: Literal["auto", "sync", "async"] = "auto"
    """How copies are stepped: auto takes the environment's own batched form where it has one."""
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

    def __post_init__(self) -> None:
        settle(self, UserError)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> EnvConfig:
        """From `dataclasses.asdict`, also after a passage through JSON.

        Raises:
            ValueError: a field is unknown or cannot be.
        """
        return build(cls, fields)

    def parsed_env_kwargs(self) -> dict[str, Any]:
        """`env_kwargs` as a dictionary."""
        kwargs: dict[str, Any] = json.loads(self.env_kwargs)
        return kwargs


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one training run. Field names follow CleanRL.

    To go on with a run that was stopped: recurrent-rl train --resume RUN
    """

    env_id: Annotated[EnvId, tyro.conf.Positional, tyro.conf.arg(metavar="ENV_ID")]
    """Environment to train on: a Gymnasium id, or module:EnvId to import a module first."""
    name: Label | None = None
    """Name of the experiment, part of the run folder's name; by default the memory's."""
    seed: Annotated[int, at_least(0)] = 0
    """Seed of the environments, the weights and the sampling."""
    log_dir: FolderPath = "runs"
    """Folder that holds the run folders: the log directory for TensorBoard."""

    total_timesteps: Annotated[int, at_least(1)] = 1_000_000
    """Environment steps to train for, all copies counted."""
    num_envs: Annotated[int, at_least(0), at_most(LARGEST_SIZE)] = 0
    """Copies of the environment stepped side by side. By default (0) as many as make a rollout of
    8,192 steps, or in a short run as few, down to 8, as leave it 100 rollouts to learn from."""
    num_steps: Annotated[int, at_least(0), at_most(LARGEST_SIZE)] = 0
    """Steps that each copy takes per rollout. By default (0) whole episodes, one or about 128 steps
    of them, where their longest length is known and 8 copies leave 100 such rollouts; else 128."""
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
    gae_lambda: Annotated[float, between(0, 1)] = 0.95
    """Lambda of generalised advantage estimation."""
    update_epochs: Annotated[int, at_least(1)] = 4
    """Passes over each rollout."""
    num_minibatches: Annotated[int, at_least(1), at_most(LARGEST_SIZE)] = 4
    """Minibatches of whole chunks per pass. It must divide the number of chunks,
    num_envs * num_steps / seq_len."""
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
    threads: Annotated[int, at_least(0), at_most(MOST_THREADS)] = 0
    """CPU threads. By default (0) the memory's kernel takes all cores, with the same result to the
    last bit, and PyTorch's own operations one: their many small steps gain little from more, and
    lose much where other processes want the cores. A number is for both."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16 rounds the factors of the memory's matrix products on a CPU with AMX, which makes
    these several times faster; sums, states and all else stay float32."""
    log_interval: Annotated[int, at_least(1)] = 1
    """Rollouts between two points in TensorBoard."""
    memory_interval: Annotated[int, at_least(0)] = 10
    """Rollouts between two looks inside the memory (the costlier memory/* tags); 0 for never."""
    checkpoint_interval: Annotated[float, at_least(0)] = 60.0
    """Seconds between two checkpoints."""
    eval_episodes: Annotated[int, at_least(0)] = 100
    """Episodes to evaluate the trained policy on at the end; 0 for none."""

    agent: AgentConfig = field(default_factory=AgentConfig)
    env: EnvConfig = field(default_factory=EnvConfig)

    chosen: Annotated[tuple[Size, ...], tyro.conf.Suppress] = ()
    """Which of num_envs and num_steps were left to the default, and then chosen by `sized`."""

    def __post_init__(self) -> None:
        settle(self, UserError)
        if self.num_steps and self.num_envs:
            self._check_chunks()

    def sized(self, longest_episode: int | None) -> TrainConfig:
        """The same with `num_steps` and `num_envs` chosen, where they are 0.

        Whole episodes are wanted because back-propagation then reaches from a reward to all that
        it may be owed to; nothing else teaches the memory to keep it.

        Args:
            longest_episode: the most steps an episode can last; None where that is unknown.

        Raises:
            UserError: `seq_len` or `num_minibatches` does not divide what it has to.
        """
        share = self.total_timesteps // ROLLOUTS
        batch = min(BATCH, max(COPIES * STEPS, share))
        longest = min(2 * BATCH, share) // COPIES
        steps = self.num_steps or STEPS
        episode = longest_episode or longest + 1  # where unknown, as one that is too long
        if not (self.num_steps or self.seq_len) and episode <= longest:
            steps = episode * max(1, round(STEPS / episode))
        copies = self.num_envs
        if not copies:
            parts = self.num_minibatches  # each minibatch has as many copies
            copies = parts * max(-(-COPIES // parts), batch // (steps * parts))
        left = tuple(name for name in SIZES if not getattr(self, name))
        return dataclasses.replace(
            self, num_steps=steps, num_envs=copies, chosen=(*self.chosen, *left)
        )

    def asked(self) -> TrainConfig:
        """The same before `sized`: what was left to the default is 0 again."""
        sizes: dict[str, Any] = dict.fromkeys(self.chosen, 0)
        return dataclasses.replace(self, chosen=(), **sizes)

    def _check_chunks(self) -> None:
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
        """Environment steps in a rollout, all copies counted."""
        return self.num_envs * self.num_steps

    @property
    def num_iterations(self) -> int:
        """Rollouts in the run: enough to take at least `total_timesteps` steps."""
        return -(-self.total_timesteps // self.batch_size)

    def at(self, iteration: int) -> TrainConfig:
        """The settings of this iteration, counted from 0: what has a schedule follows it."""
        left = 1 - iteration / self.num_iterations
        return dataclasses.replace(
            self,
            learning_rate=self.learning_rate * (left if self.lr_schedule == "linear" else 1),
            ent_coef=self.ent_coef * (left if self.ent_schedule == "linear" else 1),
        )

    def to_json(self) -> str:
        """As JSON text; `from_json` is its inverse."""
        return json.dumps(dataclasses.asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str | bytes) -> TrainConfig:
        """Read what `to_json` wrote.

        Raises:
            UserError: the text is no JSON object, or a field is unknown, missing, or cannot be.
        """
        try:
            fields = json.loads(text)
            if not isinstance(fields, dict):
                raise SettingError(f"it holds {shown(fields)}, not a JSON object")
            if lacking := set(missing(cls, fields)) - _MAY_BE_MISSING:
                raise SettingError(f"it lacks {', '.join(sorted(lacking))}")
            return build(cls, fields)
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"The run's config.json cannot be read: {str(error).rstrip('.')}. Mend it where it "
                "was edited; if another version of recurrent-rl wrote it, go on with that version."
            ) from error


def _divisors(n: int, asked: int) -> str:
    """The divisors of `n` that are nearest to what was asked for, as text."""
    small = [d for d in range(1, math.isqrt(n) + 1) if n % d == 0]
    divisors = {*small, *(n // d for d in small)}
    nearest = sorted(divisors, key=lambda d: abs(math.log(d / asked)))[:8]
    return ", ".join(map(str, sorted(nearest)))
