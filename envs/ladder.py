"""Ladder: hold a number of bits for a number of steps.

One task whose demands are two numbers, to measure how far a memory reaches. At the first step
`bits` random bits are shown, at once; `horizon` steps later they must be given back, at once. To
remember: these bits, for `horizon` steps, while nothing happens.

Observation: [shown, asked, bit 1, ..., bit n]. The first two say that the bits are shown and that
they must be given back; bits are 0 while none are shown. Action: n bits; they count at that step.
Reward: the share of right bits minus the share of wrong ones, and the episode terminates. Best
return: 1. A memoryless policy guesses: 0.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from recurrent_rl.envs.arguments import check_count
from recurrent_rl.envs.batch import BatchEnv, Flags, Rewards, Rows
from recurrent_rl.envs.single import SingleEnv


class Ladder(BatchEnv):
    """Ladder, N environments at once.

    Args:
        num_envs: number of environments.
        horizon: steps from the bits to the question.
        bits: how many.
    """

    to_remember = "some bits, for a number of steps"
    state = ("code", "t")

    def __init__(
        self, num_envs: int = 1, horizon: int = 16, bits: int = 1, render_mode: str | None = None
    ) -> None:
        check_count("horizon", horizon, 1)
        check_count("bits", bits, 1)
        seen = gym.spaces.MultiBinary(bits + 2)
        super().__init__(
            num_envs, seen, gym.spaces.MultiBinary(bits), horizon + 1, render_mode=render_mode
        )
        self.horizon = horizon
        self.bits = bits
        self.best_return = 1.0
        self.memoryless_return = 0.0
        self.code = np.zeros((num_envs, bits), dtype=np.int8)
        self.t = np.zeros(num_envs, dtype=np.int64)
        self._right: Flags = np.zeros(num_envs, dtype=bool)

    def _begin(self, rows: Rows) -> None:
        self.code[rows] = self.streams.uniform(rows, self.bits) < 0.5
        self.t[rows] = 0

    def unseen(self, i: int) -> dict[str, Any]:
        """The bits."""
        return {"answer": self.code[i]}

    def _advance(self, actions: Any) -> tuple[Rewards, Flags, Flags]:
        asked = self.t == self.horizon
        right = actions == self.code
        self._right = asked & right.all(axis=1)
        rewards = (2 * right.mean(axis=1) - 1) * asked
        self.t += 1
        return rewards, asked, np.zeros(self.num_envs, dtype=bool)

    def _observe(self) -> Any:
        shown = self.t == 0
        flags = np.stack([shown, self.t == self.horizon], axis=1).astype(np.int8)
        return np.concatenate([flags, self.code * shown[:, None]], axis=1)

    def _success(self) -> Flags:
        return self._right


class LadderEnv(SingleEnv):
    """Ladder, one environment."""

    batch_type = Ladder
