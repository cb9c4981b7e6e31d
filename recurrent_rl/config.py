"""Every setting of a training run, with its meaning: the source of the command line's flags."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import tyro

from recurrent_rl.agents.actor_critic import AgentConfig
from recurrent_rl.errors import UserError

STEPS = 128
"""Steps that each copy takes per rollout, about, where their number is left to the default."""
COPIES = 8
"""The fewest copies, where their number is left to the default."""
ROLLOUTS = 100
"""Rollouts that a run is to have at least, where the size of a rollout is left to the default."""
BATCH = 64 * STEPS
"""Steps of all copies in a rollout, where that leaves so many rollouts."""


def parse_json_object(name: str, text: str) -> dict[str, Any]:
    """The dictionary that the argument `name` holds as JSON.

    Raises:
        UserError: it is not a JSON object.
    """
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(
            f"""{name} is not JSON ({error}): {text!r}. Write it as '{{"name": value}}'."""
        ) from None
    if not isinstance(value, dict):
        raise UserError(
            f"""{name} is {text!r}, not a JSON object. Write it as '{{"name": value}}'."""
        )
    return value


@dataclass(frozen=True)
class EnvConfig:
    """How the environment is made, and which information is hidden from the agent."""

    env_kwargs: str = "{}"
    """Arguments of the environment as a JSON object, for example '{"length": 50}'."""
    vectorization: Literal["auto", "sync", "async"] = "auto"
    """How copies are stepped: auto takes the environment's own batched form where it has one."""
    hide_indices: tuple[int, ...] = ()
    """Entries of a vector observation to drop, for example the velocities."""
    flicker: float = 0.0
    """Probability with which a whole observation is replaced by zeros."""
    observation_noise: float = 0.0
    """Standard deviation of Gaussian noise added to the observation."""
    observation_delay: int = 0
    """Steps by which observations are delayed."""

    def __post_init__(self) -> None:
        if not 0 <= self.flicker < 1:
            raise UserError(f"flicker is {self.flicker}; it is a probability in [0, 1).")
        if self.observation_noise < 0:
            raise UserError(f"observation_noise is {self.observation_noise}; it must be >= 0.")
        if self.observation_delay < 0:
            raise UserError(f"observation_delay is {self.observation_delay}; it must be >= 0.")
        if any(index < 0 for index in self.hide_indices):
            raise UserError(f"hide_indices has a negative index: {self.hide_indices}.")
        self.parsed_env_kwargs()

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> EnvConfig:
        """From `dataclasses.asdict`, also after a passage through JSON."""
        return cls(**{**fields, "hide_indices": tuple(fields["hide_indices"])})

    def parsed_env_kwargs(self) -> dict[str, Any]:
        """`env_kwargs` as a dictionary.

        Raises:
            UserError: it is not a JSON object.
        """
        return parse_json_object("env_kwargs", self.env_kwargs)


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one training run. Field names follow CleanRL.

    To go on with a run that was stopped: recurrent-rl train --resume RUN
    """

    env_id: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ENV_ID")]
    """Environment to train on: a Gymnasium id, or module:EnvId to import a module first."""
    name: str | None = None
    """Name of the experiment, part of the run folder's name; by default the memory's."""
    seed: int = 0
    """Seed of the environments, the weights and the sampling."""
    log_dir: str = "runs"
    """Folder that holds the run folders: the log directory for TensorBoard."""

    total_timesteps: int = 1_000_000
    """Environment steps to train for, all copies counted."""
    num_envs: int = 0
    """Copies of the environment stepped side by side. By default (0) as many as make a rollout of
    8,192 steps, or in a short run as few, down to 8, as leave it 100 rollouts to learn from."""
    num_steps: int = 0
    """Steps that each copy takes per rollout. By default (0) whole episodes, one or about 128 steps
    of them, where their longest length is known and 8 copies leave 100 such rollouts; else 128."""
    seq_len: int | None = None
    """Length of the chunks a rollout is cut into for back-propagation through time: by default
    the whole rollout. It must divide num_steps."""
    refresh_state: bool = False
    """Recompute the states stored at the starts of chunks under the newest weights before each
    epoch. Only chunks shorter than the rollout have such states."""

    learning_rate: float = 1e-3
    """Step size of Adam at the start."""
    lr_schedule: Literal["constant", "linear"] = "linear"
    """Keep the learning rate, or let it fall to zero over the run."""
    adam_eps: float = 1e-5
    """Adam's epsilon."""
    gamma: float = 0.99
    """Discount factor."""
    gae_lambda: float = 0.95
    """Lambda of generalised advantage estimation."""
    update_epochs: int = 4
    """Passes over each rollout."""
    num_minibatches: int = 4
    """Minibatches of whole chunks per pass. It must divide the number of chunks,
    num_envs * num_steps / seq_len."""
    clip_coef: float = 0.2
    """Clip range of the probability ratio."""
    clip_value: float | None = None
    """Clip range of the value's change, in standard deviations of the return; none by default."""
    normalize_advantages: bool = True
    """Scale each rollout's advantages to zero mean and, at most, unit variance."""
    ent_coef: float = 0.01
    """Weight of the entropy bonus at the start."""
    ent_schedule: Literal["constant", "linear"] = "linear"
    """Keep the weight of the entropy bonus, or let it fall to zero over the run."""
    vf_coef: float = 0.5
    """Weight of the value loss."""
    max_grad_norm: float = 0.5
    """Largest norm of the gradient; larger ones are scaled down."""
    target_kl: float | None = 0.02
    """End a rollout's epochs after one whose approximate KL divergence passes this; None: never."""

    device: str = "auto"
    """cpu, cuda, cuda:1 ...; auto takes CUDA where there is one."""
    threads: int = 0
    """CPU threads. By default (0) the memory's kernel takes all cores, with the same result to the
    last bit, and PyTorch's own operations one: their many small steps gain little from more, and
    lose much where other processes want the cores. A number is for both."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16 rounds the factors of the memory's matrix products on a CPU with AMX, which makes
    these several times faster; sums, states and all else stay float32."""
    log_interval: int = 1
    """Rollouts between two points in TensorBoard."""
    memory_interval: int = 10
    """Rollouts between two looks inside the memory (the costlier memory/* tags); 0 for never."""
    checkpoint_interval: float = 60.0
    """Seconds between two checkpoints."""
    eval_episodes: int = 100
    """Episodes to evaluate the trained policy on at the end; 0 for none."""

    agent: AgentConfig = field(default_factory=AgentConfig)
    env: EnvConfig = field(default_factory=EnvConfig)

    chosen: Annotated[tuple[str, ...], tyro.conf.Suppress] = ()
    """Which of num_envs and num_steps were left to the default, and then chosen by `sized`."""

    def __post_init__(self) -> None:
        for name in (
            "total_timesteps",
            "update_epochs",
            "num_minibatches",
            "log_interval",
        ):
            self._check(name, getattr(self, name) >= 1, "at least 1")
        for name in (
            "memory_interval",
            "eval_episodes",
            "num_envs",
            "num_steps",
            "seed",
            "threads",
        ):
            self._check(name, getattr(self, name) >= 0, "at least 0")
        for name in ("learning_rate", "clip_coef", "max_grad_norm", "adam_eps"):
            self._check(name, getattr(self, name) > 0, "greater than 0")
        for name in ("gamma", "gae_lambda"):
            self._check(name, 0 <= getattr(self, name) <= 1, "between 0 and 1")
        for name in ("clip_value", "target_kl", "seq_len"):
            self._check(name, getattr(self, name) is None or getattr(self, name) > 0, "above 0")
        for name in ("ent_coef", "vf_coef", "checkpoint_interval"):
            self._check(name, getattr(self, name) >= 0, "at least 0")
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
        left = tuple(name for name in ("num_envs", "num_steps") if not getattr(self, name))
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
                f"use one of {_divisors(self.num_steps)}."
            )
        if self.num_chunks % self.num_minibatches:
            raise UserError(
                f"num_minibatches {self.num_minibatches} does not divide the {self.num_chunks} "
                f"chunks of a rollout (num_envs {self.num_envs} x num_steps {self.num_steps} / "
                f"seq_len {self.chunk_length}); use one of {_divisors(self.num_chunks)}."
            )

    def _check(self, name: str, good: bool, expected: str) -> None:
        if not good:
            raise UserError(f"{name} is {getattr(self, name)}; it must be {expected}.")

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
    def from_json(cls, text: str) -> TrainConfig:
        """Read what `to_json` wrote.

        Raises:
            UserError: a field is unknown, missing or out of range.
        """
        try:
            fields = json.loads(text)
            agent, env = AgentConfig(**fields.pop("agent")), EnvConfig.from_dict(fields.pop("env"))
            chosen = tuple(fields.pop("chosen", ()))
            return cls(**fields, agent=agent, env=env, chosen=chosen)
        except (TypeError, LookupError, ValueError, AttributeError, RecursionError) as error:
            raise UserError(
                f"The run's config.json cannot be read ({error}). Was it written by another "
                "version of recurrent-rl, or edited?"
            ) from error


def _divisors(n: int) -> str:
    return ", ".join(str(d) for d in range(1, n + 1) if n % d == 0)
