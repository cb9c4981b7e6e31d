"""What is known of finished episodes: returns, lengths, successes, and what infos said."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recurrent_rl.vector_env.environments import Step
from recurrent_rl.vector_env.infos import SUCCESS

WINDOW = 100
"""Episodes that the means are over, as in Stable-Baselines3's `ep_rew_mean`."""


class Info(NamedTuple):
    """What infos said under one key: of an episode, or on the average of several."""

    mean: float | None
    """Over the steps at which it was reported; None where it never was."""
    final: float | None
    """At the last step; None where it was not reported there."""

    def scalars(self, group: str, key: str) -> dict[str, float]:
        """What is known, under its TensorBoard tags in a group."""
        tags = {f"{group}/info_{key}_mean": self.mean, f"{group}/info_{key}_final": self.final}
        return {tag: value for tag, value in tags.items() if value is not None}


class Episode(NamedTuple):
    """One that has ended."""

    step: int
    """How many steps its environment had taken then."""
    environment: int
    total: float
    """Its return, the sum of its rewards; or what RecordEpisodeStatistics says it is."""
    length: int
    success: bool
    infos: dict[str, Info]
    """By key, of what was reported in it."""


class Ended(NamedTuple):
    """Episodes that ended."""

    episodes: list[Episode]
    """In the order of their ends."""
    info_keys: frozenset[str]
    """Keys of infos under which their environments have ever reported."""

    def means(self) -> dict[str, float]:
        """Means under Stable-Baselines3's tags; a tag without data is left out."""
        tells_success = SUCCESS in self.info_keys
        columns: dict[str, Sequence[float]] = {
            "rollout/ep_rew_mean": [one.total for one in self.episodes],
            "rollout/ep_len_mean": [one.length for one in self.episodes],
            "rollout/success_rate": [one.success for one in self.episodes if tells_success],
        }
        means = {tag: float(np.mean(values)) for tag, values in columns.items() if values}
        for key in sorted({key for one in self.episodes for key in one.infos}):
            infos = [one.infos[key] for one in self.episodes if key in one.infos]
            means |= mean_info(infos).scalars("rollout", key)
        return means


def mean_info(infos: Iterable[Info]) -> Info:
    """The averages over episodes, each over those that know it."""

    def mean(values: Iterable[float | None]) -> float | None:
        known = [x for x in values if x is not None]
        return float(np.mean(known)) if known else None

    infos = list(infos)
    return Info(mean(one.mean for one in infos), mean(one.final for one in infos))


class EpisodeStatistics:
    """The episodes under way of neighbouring environments, and those that ended.

    An episode succeeds if its environment says so at any of its steps.

    Args:
        num_envs: the environments.
        window: how many of the latest episodes are kept; None: all.
        first: the number of the first environment.
        info_metrics: keys of infos to average.
    """

    def __init__(
        self,
        num_envs: int,
        window: int | None = WINDOW,
        first: int = 0,
        info_metrics: Sequence[str] = (),
    ) -> None:
        self.first = first
        self.running_return = np.zeros(num_envs)
        self.running_length = np.zeros(num_envs, dtype=np.int64)
        self.running_success = np.zeros(num_envs, dtype=bool)
        self.running_sums = {key: np.zeros(num_envs) for key in info_metrics}
        """By key of infos, what was reported so far."""
        self.running_counts = {key: np.zeros(num_envs, dtype=np.int64) for key in info_metrics}
        """By key of infos, at how many steps."""
        self.ended: deque[Episode] = deque(maxlen=window)
        """The latest, in the order of their ends."""
        self.info_keys: set[str] = set()
        """Keys of infos under which an environment has ever reported."""

    def running(self) -> dict[str, NDArray[Any]]:
        """All that is known of the episodes under way, by name; the arrays themselves, `[B]`."""
        return {
            "running_return": self.running_return,
            "running_length": self.running_length,
            "running_success": self.running_success,
            **{f"running_sum/{key}": x for key, x in self.running_sums.items()},
            **{f"running_count/{key}": x for key, x in self.running_counts.items()},
        }

    def step(
        self,
        step: Step,
        counted: NDArray[np.bool_],
        taken: int,
        wanted: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.bool_]:
        """Take in one step of all environments.

        Args:
            step: what came of it.
            counted: bool `[B]`; false in rows that an autoreset inserted.
            taken: steps of each environment so far, this one included.
            wanted: bool `[B]`, environments whose episode is to be kept if it ends here; None: all.

        Returns:
            The environments of which an episode was kept, bool `[B]`.
        """
        self.running_return += step.reward
        self.running_length += counted
        self._take_infos(step)
        done = step.terminated | step.truncated
        if not done.any():
            return done
        kept = done if wanted is None else done & wanted
        self.ended.extend(self._episode(step, i, taken) for i in np.flatnonzero(kept).tolist())
        for x in self.running().values():
            x[done] = 0
        return kept

    def _take_infos(self, step: Step) -> None:
        self.info_keys |= step.reported.keys()
        if SUCCESS in step.reported:
            self.running_success |= step.reported[SUCCESS] == 1
        for key, total in self.running_sums.items():
            if key in step.reported:
                there = ~np.isnan(step.reported[key])
                total[there] += step.reported[key][there]
                self.running_counts[key] += there

    def _episode(self, step: Step, i: int, taken: int) -> Episode:
        """The episode of environment `i`, which this step has ended."""
        total, length = float(self.running_return[i]), int(self.running_length[i])
        if step.recorded is not None and not np.isnan(step.recorded[0, i]):
            total, length = float(step.recorded[0, i]), int(step.recorded[1, i])
        infos = {}
        for key, count in self.running_counts.items():
            if count[i]:
                last = step.reported[key][i] if key in step.reported else np.nan
                final = None if np.isnan(last) else float(last)
                infos[key] = Info(float(self.running_sums[key][i] / count[i]), final)
        success = bool(self.running_success[i])
        return Episode(taken, self.first + i, total, length, success, infos)

    def latest(self) -> Ended:
        """Those that are kept of these environments."""
        return Ended(list(self.ended), frozenset(self.info_keys))


def merged(parts: Iterable[Ended]) -> Ended:
    """Of the episodes of several blocks of environments the latest, in the order of their ends."""
    parts = list(parts)
    every = [episode for part in parts for episode in part.episodes]
    every.sort(key=lambda one: (one.step, one.environment))
    return Ended(every[-WINDOW:], frozenset().union(*(part.info_keys for part in parts)))
