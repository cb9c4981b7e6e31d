"""What is known of finished episodes: returns, lengths, successes."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass
class EpisodeStatistics:
    """Returns, lengths and successes of finished episodes, and of those under way.

    The last 100 episodes are kept, as in Stable-Baselines3's `ep_rew_mean`.
    """

    running_return: NDArray[np.float64]
    running_length: NDArray[np.int64]
    returns: deque[float]
    lengths: deque[int]
    successes: deque[float]
    finished: int = 0

    @classmethod
    def of(cls, num_envs: int, window: int = 100) -> EpisodeStatistics:
        """Empty statistics of `num_envs` copies."""
        return cls(
            np.zeros(num_envs),
            np.zeros(num_envs, dtype=np.int64),
            deque(maxlen=window),
            deque(maxlen=window),
            deque(maxlen=window),
        )

    def step(
        self,
        rewards: NDArray[np.float64],
        done: NDArray[np.bool_],
        infos: dict[str, Any],
        counted: NDArray[np.bool_],
    ) -> None:
        """Take in one step of all copies; rows not `counted` were inserted by an autoreset."""
        self.running_return += rewards
        self.running_length += counted
        if not done.any():
            return
        rows = np.flatnonzero(done)
        self.finished += len(rows)
        self.returns.extend(self.running_return[rows].tolist())
        self.lengths.extend(self.running_length[rows].tolist())
        self.running_return[rows] = 0
        self.running_length[rows] = 0
        self.successes.extend(successes(infos, done))

    def means(self) -> dict[str, float]:
        """The window's means under Stable-Baselines3's tags; a tag without data is left out."""
        columns: dict[str, Sequence[float]] = {
            "rollout/ep_rew_mean": self.returns,
            "rollout/ep_len_mean": self.lengths,
            "rollout/success_rate": self.successes,
        }
        return {tag: float(np.mean(values)) for tag, values in columns.items() if values}


def successes(infos: dict[str, Any], ended: NDArray[np.bool_]) -> list[float]:
    """1 or 0 for each ended copy whose info tells `is_success`."""
    ends = infos.get("final_info", infos)
    if "is_success" not in ends:
        return []
    known = np.asarray(ends.get("_is_success", ended), dtype=bool) & ended
    return [float(value) for value in np.asarray(ends["is_success"])[known]]
