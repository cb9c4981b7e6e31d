"""RepeatPrevious: name the suit of the card seen k - 1 steps before.

Cards of one or more shuffled decks are shown one at a time. To remember: the last k cards, always,
in order. The agent answers from the step on at which k cards have been seen.

Reward: ±1 / (n - k) for a right or wrong answer, n cards in all, and 0 before k cards were seen;
the episode terminates when the last card is shown, after n - 1 steps. Best return: 1. A memoryless
policy can only use that a card of the deck is drawn once, and answers with another suit than the
one it sees: 2 (n / 4) / (n - 1) - 1, about -0.49 for one deck.

The task is POPGym's (Morad et al., ICLR 2023).
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from recurrent_rl.envs.arguments import check_count
from recurrent_rl.envs.batch import Flags, Rewards
from recurrent_rl.envs.cards import SUIT_NAMES, SUITS, CardEnv, kinds_of, other_suit
from recurrent_rl.envs.single import SingleEnv


class RepeatPrevious(CardEnv):
    """RepeatPrevious, N environments at once.

    Args:
        num_envs: number of environments.
        num_decks: decks of 52 cards.
        k: the answer is the suit seen k - 1 steps before; 1 is the present one.
    """

    to_remember = "the last k cards, in order"
    observation_names = action_names = SUIT_NAMES

    def __init__(
        self, num_envs: int = 1, num_decks: int = 1, k: int = 4, render_mode: str | None = None
    ) -> None:
        suits = kinds_of(num_decks, "suits")
        n = len(suits)
        check_count("k", k, 1, n - 1)
        space = gym.spaces.Discrete(SUITS)
        super().__init__(
            num_envs, space, gym.spaces.Discrete(SUITS), n - 1, suits, render_mode=render_mode
        )
        self.k = k
        self.best_return = 1.0
        self.memoryless_return = 1.0 if k == 1 else 2 * other_suit(n) - 1

    def unseen(self, i: int) -> dict[str, Any]:
        """The last k cards, and the first of them once there are so many."""
        end = int(self.t[i]) + 1
        cards = self.deck[i, max(0, end - self.k) : end]
        return {"answer": cards[0] if end >= self.k else None, "cards": cards}

    def _advance(self, actions: Any) -> tuple[Rewards, Flags, Flags]:
        asked = self.t + 1 - self.k
        answer = self.deck[self._all_rows, np.maximum(asked, 0)]
        scale = 1 / (self.num_cards - self.k)
        rewards = np.where(actions == answer, scale, -scale) * (asked >= 0)
        self.t += 1
        terminated = self.t == self.num_cards - 1
        return rewards, terminated, np.zeros(self.num_envs, dtype=bool)


class RepeatPreviousEnv(SingleEnv):
    """RepeatPrevious, one environment."""

    batch_type = RepeatPrevious
