"""MultiarmedBandit: find the arm that pays best, and stay with it.

To remember: how often each arm was pulled and how often it paid. At each episode's start every arm
draws its chance of paying from U(0, 1).

Observation: whether the last pull paid, 0 at first; an agent must be fed its previous action to
know which arm that was. Action: an arm. Reward: 1 / T if it pays, else -1 / T; an episode is
truncated after T steps. A memoryless policy expects 0: all it can do is to change between two arms
when the last pull did not pay, and their chances are alike. The best return is that of the Bayesian
optimum, not known exactly; index policies reach 0.72, 0.82 and 0.86 with 10, 20 and 30 arms and
200, 400 and 600 steps.

The task is POPGym's (Morad et al., ICLR 2023).
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from recurrent_rl.envs.arguments import check_count
from recurrent_rl.envs.batch import BatchEnv, Flags, Rewards, Rows
from recurrent_rl.envs.single import SingleEnv


class MultiarmedBandit(BatchEnv):
    """MultiarmedBandit, N environments at once.

    Args:
        num_envs: number of environments.
        num_arms: arms.
        max_episode_steps: pulls in an episode.
    """

    to_remember = "which arms paid, and how often"
    observation_names = ("did not pay", "paid")
    state = ("chances", "paid", "t")

    def __init__(
        self,
        num_envs: int = 1,
        num_arms: int = 10,
        max_episode_steps: int = 200,
        render_mode: str | None = None,
    ) -> None:
        check_count("num_arms", num_arms, 2)
        arms = gym.spaces.Discrete(num_arms)
        super().__init__(
            num_envs, gym.spaces.Discrete(2), arms, max_episode_steps, render_mode=render_mode
        )
        self.num_arms = num_arms
        self.memoryless_return = 0.0
        self.chances = np.zeros((num_envs, num_arms))
        self.paid = np.zeros(num_envs, dtype=np.int64)
        self.t = np.zeros(num_envs, dtype=np.int64)

    def _begin(self, rows: Rows) -> None:
        self.chances[rows] = self.streams.uniform(rows, self.num_arms)
        self.paid[rows] = 0
        self.t[rows] = 0

    def unseen(self, i: int) -> dict[str, Any]:
        """The arms' chances of paying."""
        return {"chances": self.chances[i]}

    def _advance(self, actions: Any) -> tuple[Rewards, Flags, Flags]:
        drawn = self.streams.uniform(self._all_rows)[:, 0]
        pays = drawn < self.chances[self._all_rows, actions]
        self.paid = pays.astype(np.int64)
        self.t += 1
        rewards = np.where(pays, 1.0, -1.0) / self.max_episode_steps
        never = np.zeros(self.num_envs, dtype=bool)
        return rewards, never, self.t >= self.max_episode_steps

    def _observe(self) -> Any:
        return self.paid.copy()


class MultiarmedBanditEnv(SingleEnv):
    """MultiarmedBandit, one environment."""

    batch_type = MultiarmedBandit
