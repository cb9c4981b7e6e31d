"""What is known of finished episodes: returns, lengths, successes."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recurrent_rl.environments import Step


@dataclass
class EpisodeStatistics:
    """Returns, lengths and successes of finished episodes, and of those under way.

    The last 100 episodes are kept, as in Stable-Baselines3's `ep_rew_mean`. An episode succeeds if
    its environment says so at any of its steps.
    """

    running_return: NDArray[np.float64]
    running_length: NDArray[np.int64]
    running_success: NDArray[np.bool_]
    returns: deque[float]
    lengths: deque[int]
    successes: deque[bool]
    tells_success: bool = False
    """Whether the environment has ever reported success, or its absence."""
    finished: int = 0

    @classmethod
    def of(cls, num_envs: int, window: int | None = 100) -> EpisodeStatistics:
        """Empty statistics of `num_envs` environments; `window` episodes are kept, or all."""
        return cls(
            np.zeros(num_envs),
            np.zeros(num_envs, dtype=np.int64),
            np.zeros(num_envs, dtype=bool),
            deque(maxlen=window),
            deque(maxlen=window),
            deque(maxlen=window),
        )

    def step(
        self,
        step: Step,
        counted: NDArray[np.bool_],
        wanted: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.bool_]:
        """Take in one step of all environments.

        Args:
            step: what came of it.
            counted: bool `[B]`; false in rows that an autoreset inserted.
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
        rows = np.flatnonzero(kept)
        self.finished += len(rows)
        self.returns.extend(self.running_return[rows].tolist())
        self.lengths.extend(self.running_length[rows].tolist())
        self.successes.extend(self.running_success[rows].tolist())
        self.running_return[done] = 0
        self.running_length[done] = 0
        self.running_success[done] = False
        return kept

    def means(self) -> dict[str, float]:
        """The window's means under Stable-Baselines3's tags; a tag without data is left out."""
        columns: dict[str, Sequence[float]] = {
            "rollout/ep_rew_mean": self.returns,
            "rollout/ep_len_mean": self.lengths,
            "rollout/success_rate": self.successes if self.tells_success else (),
        }
        return {tag: float(np.mean(values)) for tag, values in columns.items() if values}
