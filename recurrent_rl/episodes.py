"""What is known of finished episodes: returns, lengths, successes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recurrent_rl.environments import Step

WINDOW = 100
"""Episodes that the means are over, as in Stable-Baselines3's `ep_rew_mean`."""


class Episode(NamedTuple):
    """One that has ended."""

    step: int
    """How many steps its environment had taken then."""
    environment: int
    total: float
    """Its return, the sum of its rewards."""
    length: int
    success: bool


class Ended(NamedTuple):
    """Episodes that ended."""

    episodes: list[Episode]
    """In the order of their ends."""
    tells_success: bool
    """Whether their environments have ever told of success, or of its absence."""

    def means(self) -> dict[str, float]:
        """Means under Stable-Baselines3's tags; a tag without data is left out."""
        columns: dict[str, Sequence[float]] = {
            "rollout/ep_rew_mean": [one.total for one in self.episodes],
            "rollout/ep_len_mean": [one.length for one in self.episodes],
            "rollout/success_rate": [one.success for one in self.episodes if self.tells_success],
        }
        return {tag: float(np.mean(values)) for tag, values in columns.items() if values}


@dataclass
class EpisodeStatistics:
    """The episodes under way of neighbouring environments, and those that ended.

    An episode succeeds if its environment says so at any of its steps.
    """

    running_return: NDArray[np.float64]
    running_length: NDArray[np.int64]
    running_success: NDArray[np.bool_]
    ended: deque[Episode]
    """The latest, in the order of their ends."""
    first: int = 0
    """The number of the first environment."""
    tells_success: bool = False
    """Whether the environment has ever reported success, or its absence."""

    @classmethod
    def of(cls, num_envs: int, window: int | None = WINDOW, first: int = 0) -> EpisodeStatistics:
        """Empty statistics of `num_envs` environments; `window` episodes are kept, or all."""
        running = np.zeros(num_envs), np.zeros(num_envs, dtype=np.int64)
        return cls(*running, np.zeros(num_envs, dtype=bool), deque(maxlen=window), first)

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
        reported = ~np.isnan(step.success)
        if reported.any():
            self.tells_success = True
            self.running_success |= step.success == 1
        done = step.terminated | step.truncated
        if not done.any():
            return done
        kept = done if wanted is None else done & wanted
        for i in np.flatnonzero(kept).tolist():
            total, length = float(self.running_return[i]), int(self.running_length[i])
            success = bool(self.running_success[i])
            self.ended.append(Episode(taken, self.first + i, total, length, success))
        self.running_return[done] = 0
        self.running_length[done] = 0
        self.running_success[done] = False
        return kept

    def latest(self) -> Ended:
        """Those that are kept of these environments."""
        return Ended(list(self.ended), self.tells_success)


def latest(parts: Iterable[Ended]) -> Ended:
    """Of the episodes of several blocks of environments the latest, in the order of their ends."""
    parts = list(parts)
    every = [episode for part in parts for episode in part.episodes]
    every.sort(key=lambda one: (one.step, one.environment))
    return Ended(every[-WINDOW:], any(part.tells_success for part in parts))
