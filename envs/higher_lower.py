"""HigherLower: will the next card be higher or lower than this one?

To remember: how many cards of each rank have been seen, all along: they will not come again.

Observation: the rank of the card, from 0 to 12. Action: 0 for higher, 1 for lower. Reward: 1 / n
for a right guess and -1 / n for a wrong one, n cards in all, and 0 where the ranks are the same;
the episode terminates when the last card is shown, after n - 1 steps. A memoryless policy guesses
"higher" below the middle rank: 84 / 169, 0.497 for any number of decks. The best counts the cards
and guesses what more of the cards to come are: 0.528, 0.516 and 0.512 for one, two and three decks.

The task is POPGym's (Morad et al., ICLR 2023).
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from recurrent_rl.envs.batch import Flags, Rewards
from recurrent_rl.envs.cards import KINDS, RANK_NAMES, CardEnv, kinds_of
from recurrent_rl.envs.single import SingleEnv

RANKS = KINDS["ranks"]
BEST = {1: 0.528, 2: 0.516, 3: 0.512}
HIGHER = 0


class HigherLower(CardEnv):
    """HigherLower, N environments at once.

    Args:
        num_envs: number of environments.
        num_decks: decks of 52 cards.
    """

    to_remember = "how many of each rank have come"
    observation_names = RANK_NAMES
    action_names = ("higher", "lower")

    def __init__(
        self, num_envs: int = 1, num_decks: int = 1, render_mode: str | None = None
    ) -> None:
        ranks = kinds_of(num_decks, "ranks")
        seen = gym.spaces.Discrete(RANKS)
        super().__init__(
            num_envs, seen, gym.spaces.Discrete(2), len(ranks) - 1, ranks, render_mode=render_mode
        )
        self.best_return = BEST.get(num_decks)
        self.memoryless_return = 84 / 169

    def unseen(self, i: int) -> dict[str, Any]:
        """How many cards of each rank are still to come."""
        left = self.deck[i, self.t[i] + 1 :]
        return {"to come": np.bincount(left, minlength=RANKS).astype(float)}

    def _advance(self, actions: Any) -> tuple[Rewards, Flags, Flags]:
        now = self.deck[self._all_rows, self.t]
        self.t += 1
        following = self.deck[self._all_rows, self.t]
        guess = np.where(actions == HIGHER, 1, -1)
        rewards = guess * np.sign(following - now) / self.num_cards
        return rewards, self.t == self.num_cards - 1, np.zeros(self.num_envs, dtype=bool)


class HigherLowerEnv(SingleEnv):
    """HigherLower, one environment."""

    batch_type = HigherLower
