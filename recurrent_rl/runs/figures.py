"""What is known of a policy that has played: its episodes, their figures, and what is kept."""

from __future__ import annotations

import dataclasses
import math
import reprlib
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recurrent_rl.agents.policy import Policy


@dataclass(frozen=True)
class Evaluation:
    """The episodes played: one entry each."""

    returns: NDArray[np.float64]
    lengths: NDArray[np.int64]
    successes: NDArray[np.float64]
    """1 or 0 for each episode; empty where the environment tells of none."""
    unfinished: int = 0
    """Episodes that were given up after `max_steps` steps; none of the figures counts them."""
    max_steps: int | None = None

    @property
    def mean(self) -> float:
        """Mean return; NaN where no episode was finished."""
        return _mean(self.returns)

    @property
    def ci95(self) -> tuple[float, float]:
        """95 % confidence interval of the mean return."""
        return confidence_interval(self.returns)

    @property
    def mean_length(self) -> float:
        """Mean length; NaN where no episode was finished."""
        return _mean(self.lengths)

    @property
    def success_rate(self) -> float | None:
        """Share of episodes that reached their goal; None where the environment does not tell."""
        return float(self.successes.mean()) if len(self.successes) else None

    def scalars(self) -> dict[str, float]:
        """The means under Stable-Baselines3's TensorBoard tags."""
        means = {"eval/mean_reward": self.mean, "eval/mean_ep_length": self.mean_length}
        if self.success_rate is not None:
            means["eval/success_rate"] = self.success_rate
        if self.unfinished:
            means["eval/unfinished_episodes"] = float(self.unfinished)
        return means


def _mean(values: NDArray[Any]) -> float:
    return float(values.mean()) if len(values) else math.nan


class Way(NamedTuple):
    """A way of playing: how actions are chosen, and whether the memory is left alone."""

    label: str
    deterministic: bool = True
    with_memory: bool = True


WAYS = {
    "deterministic": Way("deterministic actions"),
    "stochastic": Way("stochastic actions", deterministic=False),
    "memory_ablation": Way("memory reset every step", with_memory=False),
}
"""The ways a policy is played: the first is the policy as it is used."""
_NAMES_OF_0_1 = {
    "greedy": "deterministic",
    "sampled": "stochastic",
    "without_memory": "memory_ablation",
}


@dataclass(frozen=True)
class Figures:
    """What an evaluation comes to: NaN, and an interval without bounds, where nothing is known."""

    mean_return: float
    ci95: tuple[float, float]
    mean_length: float
    success_rate: float | None
    unfinished: int = 0
    """Episodes that were given up, and do not count."""

    @classmethod
    def of(cls, played: Evaluation) -> Figures:
        """Of the episodes played."""
        return cls(
            played.mean, played.ci95, played.mean_length, played.success_rate, played.unfinished
        )

    def to_json(self) -> dict[str, Any]:
        """As JSON values: null for what is not known."""
        fields = dataclasses.asdict(self)
        for name in ("mean_return", "mean_length"):
            fields[name] = _known(fields[name])
        return fields | {"ci95": [_known(bound) for bound in self.ci95]}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Figures:
        """The inverse of `to_json`; what an older version did not write takes its default."""
        missing = {
            name: math.nan for name in ("mean_return", "mean_length") if fields[name] is None
        }
        low, high = fields["ci95"]
        ci95 = (-math.inf if low is None else low, math.inf if high is None else high)
        return cls(**{**fields, **missing, "ci95": ci95})


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


@dataclass(frozen=True)
class SavedEvaluation:
    """What an evaluation found, as a run's `evaluation.json` holds it."""

    timesteps: int
    """Steps that the policy was trained for."""
    episodes: int
    """Episodes that `deterministic` is of: finished ones."""
    deterministic: Figures
    """Taking the deterministic actions."""
    stochastic: Figures | None = None
    """Sampling the actions as in training; None where that was not played."""
    memory_ablation: Figures | None = None
    """With the memory reset at every step; None where that was not played."""
    max_steps: int | None = None
    """Steps after which an episode was given up; None in files of older versions."""

    @classmethod
    def of(cls, policy: Policy, played: dict[str, Evaluation]) -> SavedEvaluation:
        """Of the episodes that this policy played, by their names in `WAYS`."""
        timesteps = policy.summary.get("timesteps")
        return cls(
            timesteps=timesteps if isinstance(timesteps, int) else 0,
            episodes=len(played["deterministic"].returns),
            max_steps=played["deterministic"].max_steps,
            **{name: Figures.of(of_way) for name, of_way in played.items()},
        )

    def to_json(self) -> dict[str, Any]:
        """As JSON values: what the file holds."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return fields | {name: fields[name] and fields[name].to_json() for name in WAYS}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> SavedEvaluation:
        """The inverse of `to_json`; a file of version 0.1.0 is read too.

        Raises:
            ValueError, TypeError, LookupError, AttributeError: these fields are of no evaluation.
        """
        fields = {_NAMES_OF_0_1.get(name, name): value for name, value in fields.items()}
        figures = {name: fields[name] and Figures.from_json(fields[name]) for name in WAYS}
        return _checked(cls(**{**fields, **figures}))

    def would_lose(self, there: SavedEvaluation) -> bool:
        """Whether that one is finer: of the same policy and of more episodes, or of more ways."""
        lacks_a_way = any(getattr(there, name) and not getattr(self, name) for name in WAYS)
        return there.timesteps == self.timesteps and (there.episodes > self.episodes or lacks_a_way)


def _checked(saved: SavedEvaluation) -> SavedEvaluation:
    """The evaluation, if its values are of the types it declares.

    Raises:
        TypeError: names one that is not.
    """
    for name in ("timesteps", "episodes"):
        if type(getattr(saved, name)) is not int:
            raise TypeError(f"{name} is {reprlib.repr(getattr(saved, name))}, not an integer")
    for way in WAYS:
        figures = getattr(saved, way)
        if figures is None and way != "deterministic":
            continue
        rate = figures.success_rate
        numbers = [figures.mean_return, figures.mean_length, *figures.ci95]
        if len(numbers) != 4 or any(
            type(x) not in (int, float) for x in [*numbers, *([] if rate is None else [rate])]
        ):
            raise TypeError(f"{way} is {reprlib.repr(figures)}, not figures")
    return saved


def confidence_interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """95 % confidence interval of a mean, mean ± 1.96 s / sqrt(n): for 30 values or more.

    One value or none says nothing of it: the interval has no bounds.
    """
    if len(values) < 2:
        return -math.inf, math.inf
    half = 1.96 * float(values.std(ddof=1)) / len(values) ** 0.5
    return float(values.mean()) - half, float(values.mean()) + half
