"""What is known of a policy that has played: its episodes, their statistics, and what is kept."""

from __future__ import annotations

import dataclasses
import math
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recurrent_rl.agents.policy import Policy
from recurrent_rl.episodes import Ended, Episode, Info
from recurrent_rl.runs.checkpoint_file import count
from recurrent_rl.runs.student import student_half_interval
from recurrent_rl.vector_env.infos import SUCCESS


class InfoColumns(NamedTuple):
    """What infos said under one key: an entry for each episode, NaN where nothing was reported."""

    mean: NDArray[np.float64]
    """Over the steps of the episode at which it was reported."""
    final: NDArray[np.float64]
    """At its last step."""

    @classmethod
    def of(cls, episodes: Sequence[Episode], key: str) -> InfoColumns:
        """Of these episodes."""
        infos = [one.infos.get(key, Info(None, None)) for one in episodes]
        columns = ([one.mean for one in infos], [one.final for one in infos])
        return cls(*(np.array(column, dtype=np.float64) for column in columns))

    def average(self) -> Info:
        """Over the episodes that know it."""
        known = [x[~np.isnan(x)] for x in self]
        return Info(*(float(x.mean()) if len(x) else None for x in known))


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The episodes played: one entry each."""

    returns: NDArray[np.float64]
    lengths: NDArray[np.int64]
    successes: NDArray[np.float64]
    """1 or 0 for each episode; empty where the environment reports none."""
    unfinished: int = 0
    """Episodes that were given up after `max_steps` steps; none of the statistics counts them."""
    max_steps: int | None = None
    infos: dict[str, InfoColumns] = field(default_factory=dict)
    """What infos said, by key of the environment's `info_metrics`."""

    @classmethod
    def of(
        cls, ended: Ended, unfinished: int, max_steps: int, info_metrics: Sequence[str] = ()
    ) -> Evaluation:
        """Of the episodes that ended, where so many were given up."""
        episodes = ended.episodes
        return cls(
            np.array([one.total for one in episodes]),
            np.array([one.length for one in episodes], dtype=np.int64),
            np.array(
                [one.success for one in episodes if SUCCESS in ended.info_keys], dtype=np.float64
            ),
            unfinished,
            max_steps,
            {key: InfoColumns.of(episodes, key) for key in info_metrics},
        )

    @property
    def mean(self) -> float:
        """Mean return; NaN where no episode was finished."""
        return _mean(self.returns)

    @property
    def ci95(self) -> tuple[float, float]:
        """95 % confidence interval of the mean return, by Student's t over the episodes."""
        return confidence_interval(self.returns)

    @property
    def mean_length(self) -> float:
        """Mean length; NaN where no episode was finished."""
        return _mean(self.lengths)

    @property
    def success_rate(self) -> float | None:
        """Share of episodes that reached their goal; None where the environment does not say."""
        return float(self.successes.mean()) if len(self.successes) else None

    def scalars(self) -> dict[str, float]:
        """The means under Stable-Baselines3's TensorBoard tags."""
        means = {"eval/mean_reward": self.mean, "eval/mean_ep_length": self.mean_length}
        if self.success_rate is not None:
            means["eval/success_rate"] = self.success_rate
        if self.unfinished:
            means["eval/unfinished_episodes"] = float(self.unfinished)
        for key, columns in self.infos.items():
            means |= columns.average().scalars("eval", key)
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


@dataclass(frozen=True)
class EvaluationSummary:
    """What an evaluation comes to: NaN, and an interval without bounds, where nothing is known."""

    mean_return: float
    ci95: tuple[float, float]
    mean_length: float
    success_rate: float | None
    unfinished: int = 0
    """Episodes that were given up, and do not count."""
    episodes: int | None = None
    """Episodes that it is of, finished ones; None in a file from before it was kept."""
    infos: dict[str, Info] = field(default_factory=dict, hash=False)
    """What infos said on the average of the episodes, by key."""

    @classmethod
    def of(cls, played: Evaluation) -> EvaluationSummary:
        """Of the episodes played."""
        return cls(
            mean_return=played.mean,
            ci95=played.ci95,
            mean_length=played.mean_length,
            success_rate=played.success_rate,
            unfinished=played.unfinished,
            episodes=len(played.returns),
            infos={key: columns.average() for key, columns in played.infos.items()},
        )

    def to_json(self) -> dict[str, Any]:
        """As JSON values: null for what is not known."""
        fields = dataclasses.asdict(self)
        for name in ("mean_return", "mean_length"):
            fields[name] = _known(fields[name])
        infos = {key: info._asdict() for key, info in self.infos.items()}
        return fields | {"ci95": [_known(bound) for bound in self.ci95], "infos": infos}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> EvaluationSummary:
        """The inverse of `to_json`."""
        missing = {
            name: math.nan for name in ("mean_return", "mean_length") if fields[name] is None
        }
        low, high = fields["ci95"]
        ci95 = (-math.inf if low is None else low, math.inf if high is None else high)
        infos = {key: Info(**info) for key, info in fields.get("infos", {}).items()}
        return cls(**{**fields, **missing, "ci95": ci95, "infos": infos})


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


@dataclass(frozen=True)
class SavedEvaluation:
    """What an evaluation found, as a run's `evaluation.json` holds it."""

    timesteps: int
    """Steps that the policy was trained for."""
    episodes: int
    """Episodes that `deterministic` is of: finished ones."""
    deterministic: EvaluationSummary
    """Taking the deterministic actions."""
    stochastic: EvaluationSummary | None = None
    """Sampling the actions as in training; None where that was not played."""
    memory_ablation: EvaluationSummary | None = None
    """With the memory reset at every step; None where that was not played."""
    max_steps: int | None = None
    """Steps after which an episode was given up."""

    @classmethod
    def of(cls, policy: Policy, played: dict[str, Evaluation]) -> SavedEvaluation:
        """Of the episodes that this policy played, by their names in `WAYS`."""
        timesteps = policy.summary.get("timesteps")
        return cls(
            timesteps=timesteps if isinstance(timesteps, int) else 0,
            episodes=len(played["deterministic"].returns),
            max_steps=played["deterministic"].max_steps,
            **{name: EvaluationSummary.of(of_way) for name, of_way in played.items()},
        )

    def to_json(self) -> dict[str, Any]:
        """As JSON values: what the file holds."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return fields | {name: fields[name] and fields[name].to_json() for name in WAYS}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> SavedEvaluation:
        """The inverse of `to_json`.

        Raises:
            ValueError, TypeError, LookupError, AttributeError, OverflowError: these fields are of
                no evaluation.
        """
        summaries = {
            name: fields[name] and EvaluationSummary.from_json(fields[name]) for name in WAYS
        }
        return _checked(cls(**{**fields, **summaries}))

    def would_lose(self, there: SavedEvaluation) -> bool:
        """Whether that one is finer: of the same policy and of more episodes, or of more ways."""
        lacks_a_way = any(getattr(there, name) and not getattr(self, name) for name in WAYS)
        return there.timesteps == self.timesteps and (there.episodes > self.episodes or lacks_a_way)


def _checked(saved: SavedEvaluation) -> SavedEvaluation:
    """The evaluation, if its values are of the types it declares.

    Raises:
        ValueError, TypeError, OverflowError: one is not.
    """
    counts = {"timesteps": saved.timesteps, "episodes": saved.episodes}
    if saved.max_steps is not None:
        counts["max_steps"] = saved.max_steps
    for way in WAYS:
        summary = getattr(saved, way)
        if summary is None and way != "deterministic":
            continue
        counts[f"{way}.unfinished"] = summary.unfinished
        if summary.episodes is not None:
            counts[f"{way}.episodes"] = summary.episodes
        rate = summary.success_rate
        numbers = [summary.mean_return, summary.mean_length, *summary.ci95]
        may_lack = [rate, *(x for info in summary.infos.values() for x in info)]
        numbers += [x for x in may_lack if x is not None]
        if any(type(x) not in (int, float) for x in numbers):
            raise TypeError(f"{way} is {reprlib.repr(summary)}, not figures")
        for x in numbers:
            float(x)  # an integer may be beyond them
    for name, value in counts.items():
        count(name, value)
    return saved


def confidence_interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """95 % confidence interval of a mean, by Student's t.

    One value or none says nothing of it: the interval has no bounds.
    """
    if len(values) < 2:
        return -math.inf, math.inf
    mean, half = float(values.mean()), student_half_interval(values)
    return mean - half, mean + half
