"""Autoencode: watch cards, then name their suits from the last to the first.

To remember: every card of the deck, in order, and how far the answer has come. All n cards of one
or more shuffled decks are shown one at a time; when the last one is seen the play begins.

Observation: [mode, suit]. The mode is 1 while cards are still to come and 0 from the last card on;
while playing the suit is always 0. Action: a suit; it counts while the mode is 0. Reward: ±1 / n
for a right or wrong answer; the episode terminates with the n-th, after 2 n - 1 steps. Best return:
1. A memoryless policy sees the last card when it has to name it, and then answers with one suit:
2 (1 + (n - 1) / 4) / n - 1, -0.471 for one deck.

The task is POPGym's (Morad et al., ICLR 2023), where the observation is a tuple of the two.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from recurrent_rl.envs.batch import Flags, Rewards
from recurrent_rl.envs.cards import SUIT_NAMES, SUITS, CardEnv, kinds_of
from recurrent_rl.envs.single import SingleEnv


class Autoencode(CardEnv):
    """Autoencode, N environments at once.

    Args:
        num_envs: number of environments.
        num_decks: decks of 52 cards.
    """

    to_remember = "a deck of cards, in order"
    observation_labels = ("watching", "card")
    action_names = SUIT_NAMES

    def __init__(
        self, num_envs: int = 1, num_decks: int = 1, render_mode: str | None = None
    ) -> None:
        suits = kinds_of(num_decks, "suits")
        n = len(suits)
        seen = gym.spaces.MultiDiscrete([2, SUITS])
        super().__init__(
            num_envs, seen, gym.spaces.Discrete(SUITS), 2 * n - 1, suits, render_mode=render_mode
        )
        self.best_return = 1.0
        self.memoryless_return = 2 * (1 + (n - 1) / SUITS) / n - 1

    def unseen(self, i: int) -> dict[str, Any]:
        """The cards that are still to be named, the next one last; that one, while playing."""
        t, last = int(self.t[i]), self.num_cards - 1
        cards = self.deck[i, : max(0, min(t, 2 * last - t) + 1)]
        return {"answer": cards[-1] if t >= last and len(cards) else None, "cards": cards}

    def _advance(self, actions: Any) -> tuple[Rewards, Flags, Flags]:
        last = self.num_cards - 1
        asked = 2 * last - self.t  # this card, from the last to the first; beyond while watching
        playing = asked <= last
        answer = self.deck[self._all_rows, np.minimum(asked, last)]
        scale = 1 / self.num_cards
        rewards = np.where(actions == answer, scale, -scale) * playing
        self.t += 1
        return rewards, asked == 0, np.zeros(self.num_envs, dtype=bool)

    def _observe(self) -> Any:
        last = self.num_cards - 1
        suit = self.deck[self._all_rows, np.minimum(self.t, last)] * (self.t <= last)
        return np.stack([self.t < last, suit], axis=1)


class AutoencodeEnv(SingleEnv):
    """Autoencode, one environment."""

    batch_type = Autoencode
