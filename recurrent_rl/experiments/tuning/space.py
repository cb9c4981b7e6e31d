"""What a search for settings varies: the space of recurrent PPO, laid around given settings.

docs/tuning.md has the reason for each range. The space is a plain product: whatever is drawn for
one setting goes with whatever is drawn for the others.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.extras import optional
from recurrent_rl.agents.settings import check_choice
from recurrent_rl.blocks import most_workers
from recurrent_rl.config import ResolvedConfig, TrainConfig
from recurrent_rl.errors import UserError
from recurrent_rl.experiments.suites import change

SEARCH = "A search for settings"
"""What needs the packages of the extra `tune`."""
OPTUNA = ("optuna", SEARCH)
"""The module that draws from the space, for `optional`."""

FEWEST_ROLLOUTS = 20
"""Of a run whose rollouts are searched: with fewer there is no learning curve to judge by."""
ALIKE = 1.4
"""Sizes nearer to the given one than this factor are not tried beside it."""


@dataclass(frozen=True)
class Range:
    """Numbers between two ends; even over their logarithm where `log` is true.

    Attributes:
        low: the lower end.
        high: the upper end.
        log: draw evenly over the logarithm.
        whole: whole numbers only.
        distance_from_1: what is drawn is 1 - value.
        at_low: what the lower end stands for, where no number beside it can: 0 of a logarithm.
        at_high: what the upper end stands for: None, for no limit.
    """

    low: float
    high: float
    log: bool = True
    whole: bool = False
    distance_from_1: bool = False
    at_low: tuple[Any, ...] = ()
    at_high: tuple[Any, ...] = ()

    def around(self, value: Any) -> Range:
        """The range, made wider where it lacks this value."""
        if value in self.at_low + self.at_high:
            return self
        x = self.encode(value)
        low = x / (2 if self.at_low else 1) if x <= self.low else self.low
        high = x * (2 if self.at_high else 1) if x >= self.high else self.high
        return dataclasses.replace(self, low=low, high=high)

    def encode(self, value: Any) -> Any:
        """What is drawn for this value of the setting."""
        if value in self.at_low:
            return self.low
        if value in self.at_high:
            return self.high
        return 1 - value if self.distance_from_1 else value

    def decode(self, x: Any) -> Any:
        """The setting's value, of what is drawn; the inverse of `encode`."""
        if self.at_low and x <= self.low:
            return self.at_low[0]
        if self.at_high and x >= self.high:
            return self.at_high[0]
        return 1 - x if self.distance_from_1 else x

    def distribution(self) -> Any:
        """As Optuna has it."""
        kinds = optional(*OPTUNA).distributions
        kind = kinds.IntDistribution if self.whole else kinds.FloatDistribution
        return kind(self.low, self.high, log=self.log)

    def text(self) -> str:
        """As a table tells it."""
        ends = (1 - self.high, 1 - self.low) if self.distance_from_1 else (self.low, self.high)
        limits = "".join(f", or {shown_value(one)}" for one in self.at_low + self.at_high)
        return f"{shown_value(ends[0])} to {shown_value(ends[1])}{limits}"


@dataclass(frozen=True)
class Choice:
    """A few values."""

    values: tuple[Any, ...]

    def around(self, value: Any) -> Choice:
        """The choice, with this value in it."""
        return self if value in self.values else Choice((*self.values, value))

    def encode(self, value: Any) -> Any:
        """What is drawn for this value: the value."""
        return value

    def decode(self, x: Any) -> Any:
        """The value."""
        return x

    def distribution(self) -> Any:
        """As Optuna has it."""
        return optional(*OPTUNA).distributions.CategoricalDistribution(self.values)

    def text(self) -> str:
        """As a table tells it."""
        return ", ".join(map(str, self.values))


SIZES = ("num_envs", "num_steps", "num_minibatches")
"""The settings that must fit each other."""

SPACE: dict[str, Range | Choice] = {
    "learning_rate": Range(1e-4, 1e-2),
    "gamma": Range(2e-3, 0.5, distance_from_1=True, at_low=(1.0,)),
    "gae_lambda": Range(5e-3, 0.5, distance_from_1=True, at_low=(1.0,)),
    "ent_coef": Range(1e-4, 0.1, at_low=(0.0,)),
    "update_epochs": Range(2, 12, whole=True),
    "num_envs": Choice((8, 16, 32, 64, 128)),
    "num_steps": Choice((32, 64, 128, 256, 512)),
    "memory": Choice(("gru-rotor", "gru-matrix", "gru", "lstm")),
    "num_minibatches": Choice((1, 2, 4, 8, 16)),
    "clip_coef": Range(0.05, 0.4),
    "target_kl": Range(5e-3, 0.1, at_high=(None,)),
    "max_grad_norm": Range(0.1, 5.0),
    "vf_coef": Range(0.1, 1.0, at_low=(0.0,)),
    "lr_schedule": Choice(("linear", "constant")),
    "ent_schedule": Choice(("linear", "constant")),
    "hidden_size": Choice((64, 128, 256)),
    "num_layers": Choice((1, 2)),
    "horizon": Choice((None, 16, 128, 1024)),
    "previous_reward": Choice((False, True)),
    "separate_memory": Choice((False, True)),
}
"""What can be searched."""

USUAL = tuple(SPACE)[:8]
"""What is searched where nothing is named: up to `memory`."""

_OF_AGENT = frozenset(field.name for field in dataclasses.fields(AgentConfig))
_SETTINGS = _OF_AGENT.union(field.name for field in dataclasses.fields(TrainConfig))


@dataclass(frozen=True)
class Space:
    """What one search varies, around the settings `base`."""

    base: ResolvedConfig
    dimensions: Mapping[str, Range | Choice]

    @classmethod
    def around(
        cls, base: ResolvedConfig, names: Sequence[str] = (), fixed_envs: bool = False
    ) -> Space:
        """The space of these settings, in which the given values lie too.

        Args:
            base: the settings as given, with their sizes chosen.
            names: of what is searched; none means `USUAL`, without what cannot be searched here.
            fixed_envs: the environments were made before, so that their number stays.

        Raises:
            UserError: a name is none of `SPACE`, twice there, or cannot be searched with these
                settings; says why.
        """
        for name in names:
            if name in _SETTINGS.difference(SPACE):
                raise UserError(
                    f"{name} cannot be searched. These can: {', '.join(SPACE)}. Set {name} to a "
                    "fixed value, and leave it out of search."
                )
            check_choice("search", name, tuple(SPACE))
        if len(set(names)) < len(names):
            raise UserError(f"search names a setting twice: {', '.join(names)}.")
        wanted = names or USUAL
        against = {name: why for name in wanted if (why := _reason_against(base, name, fixed_envs))}
        free = [name for name in wanted if name not in against]
        dimensions = {name: SPACE[name].around(_value(base, name)) for name in free}
        sizes = _fitting_sizes(base, [name for name in SIZES if name in free])
        for name, values in sizes.items():
            dimensions[name] = Choice(values)
            if len(values) == 1:
                against[name] = (
                    f"no other value fits the other sizes, workers, and {FEWEST_ROLLOUTS} rollouts "
                    f"in {base.total_timesteps:,} steps"
                )
                del dimensions[name]
        if names and against:
            name, why = next(iter(against.items()))
            raise UserError(f"{name} cannot be searched: {why}. Leave it out of search.")
        return cls(base, dimensions)

    def encoded(self) -> dict[str, Any]:
        """What is drawn for the settings as given."""
        return {name: one.encode(_value(self.base, name)) for name, one in self.dimensions.items()}

    def decoded(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        """The settings by name, of what was drawn."""
        return {name: self.dimensions[name].decode(x) for name, x in drawn.items()}

    def config(self, drawn: Mapping[str, Any]) -> TrainConfig:
        """The settings of a run, of what was drawn; what is not searched is as given.

        Raises:
            UserError: the settings cannot be used together.
        """
        values = self.decoded(drawn)
        agent = {name: value for name, value in values.items() if name in _OF_AGENT}
        rest = {name: value for name, value in values.items() if name not in _OF_AGENT}
        return change(self.base.as_chosen(), rest | {"agent": agent})

    def distributions(self) -> dict[str, Any]:
        """As Optuna has them, by name."""
        return {name: one.distribution() for name, one in self.dimensions.items()}

    def text(self) -> str:
        """What is searched, in a sentence."""
        dimensions = (f"{name} ({one.text()})" for name, one in self.dimensions.items())
        return f"Searching {', '.join(dimensions)}."


def shown_value(value: Any) -> str:
    """A setting's value as a table tells it."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _value(base: ResolvedConfig, name: str) -> Any:
    return getattr(base.agent if name in _OF_AGENT else base, name)


def _reason_against(base: ResolvedConfig, name: str, fixed_envs: bool) -> str | None:
    """Why a setting cannot be searched with these settings; None where it can."""
    if name in base.schedules:
        return f"schedules says how it changes over the run: {base.schedules[name]}"
    if name in _OF_AGENT and base.init_from is not None:
        return f"the agent's settings must be those of init_from, {base.init_from}"
    if name == "num_envs" and fixed_envs:
        return "the environments were given, and no others can be made"
    return None


def _fitting_sizes(base: ResolvedConfig, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Values of these sizes of which each goes with each of the others, the given ones among them.

    What fits the fewest goes first, the larger of two.
    """
    own = {name: getattr(base, name) for name in SIZES}
    values = {name: [own[name]] for name in SIZES}
    for name in names:
        listed = SPACE[name]
        assert isinstance(listed, Choice)
        others = [n for n in listed.values if not own[name] / ALIKE < n < own[name] * ALIKE]
        values[name] = sorted([own[name], *others])
    most = max(base.total_timesteps // FEWEST_ROLLOUTS, base.batch_size)
    while True:
        misfits: Counter[tuple[str, int]] = Counter()
        for sizes in itertools.product(*values.values()):
            if not _fit(base, most, *sizes):
                misfits.update(zip(SIZES, sizes, strict=True))
        candidates = [pair for pair in misfits if own[pair[0]] != pair[1]]
        if not candidates:
            return {name: tuple(values[name]) for name in names}
        name, value = max(candidates, key=lambda pair: (misfits[pair], pair[1] / own[pair[0]]))
        values[name].remove(value)


def _fit(base: ResolvedConfig, most: int, envs: int, steps: int, minibatches: int) -> bool:
    """Whether a run can have these sizes, with at most so many steps in a rollout."""
    chunk = base.seq_len or steps
    if envs * steps > most or steps % chunk or (envs * steps // chunk) % minibatches:
        return False
    sized = dataclasses.replace(base, num_envs=envs, num_steps=steps, num_minibatches=minibatches)
    return base.workers <= most_workers(sized)
