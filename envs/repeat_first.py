"""RepeatFirst: name the suit of the first card, at every step.

Cards of one or more shuffled decks are shown one at a time. To remember: one of four suits, from
the first step to the last, n - 2 steps later.

Reward: ±1 / (n - 1) for a right or wrong answer, n cards in all; the episode terminates when the
last card is shown, after n - 1 steps. Best return: 1. A memoryless policy does not know which card
is the first. Naming the suit it sees is best: right at the first step, where it sees the answer,
and with chance (n / 4 - 1) / (n - 1) at the n - 2 others; -0.499 for one deck. (Another suit is the
better guess at those others, by less than the first step is worth: -0.500.)

The task is POPGym's (Morad et al., ICLR 2023).
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from recurrent_rl.envs.batch import Flags, Rewards
from recurrent_rl.envs.cards import SUIT_NAMES, SUITS, CardEnv, kinds_of, same_suit
from recurrent_rl.envs.single import SingleEnv


class RepeatFirst(CardEnv):
    """RepeatFirst, N environments at once.

    Args:
        num_envs: number of environments.
        num_decks: decks of 52 cards.
    """

    to_remember = "the suit of the first card"
    observation_names = action_names = SUIT_NAMES

    def __init__(
        self, num_envs: int = 1, num_decks: int = 1, render_mode: str | None = None
    ) -> None:
        suits = kinds_of(num_decks, "suits")
        n = len(suits)
        space = gym.spaces.Discrete(SUITS)
        super().__init__(
            num_envs, space, gym.spaces.Discrete(SUITS), n - 1, suits, render_mode=render_mode
        )
        self.best_return = 1.0
        # The first step, at which the suit seen is the answer, and the n - 2 others.
        self.memoryless_return = (1 + (n - 2) * (2 * same_suit(n) - 1)) / (n - 1)

    def unseen(self, i: int) -> dict[str, Any]:
        """The first card."""
        return {"answer": self.deck[i, 0]}

    def _advance(self, actions: Any) -> tuple[Rewards, Flags, Flags]:
        scale = 1 / (self.num_cards - 1)
        rewards = np.where(actions == self.deck[:, 0], scale, -scale)
        self.t += 1
        terminated = self.t == self.num_cards - 1
        return rewards, terminated, np.zeros(self.num_envs, dtype=bool)


class RepeatFirstEnv(SingleEnv):
    """RepeatFirst, one environment."""

    batch_type = RepeatFirst
