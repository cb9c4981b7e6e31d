"""CountRecall: how many cards of this kind have been seen so far?

To remember: a count for each kind of card. The cards of one deck are shown one at a time, each with
a question, the kind of a card of a second deck: how many cards of that kind have been shown, the
present one included?

Observation: [kind shown, kind in question]. Action: a count from 0 to all cards of a kind. Reward:
±1 / (n - 1) for a right or wrong count, n cards in all; the episode terminates when the last card
is shown, after n - 1 steps. Best return: 1. A memoryless policy gives one count where the kinds are
the same and another where they differ; the best two follow from hypergeometric distributions.

The task is that of POPGym (Morad et al., ICLR 2023) from its version 1 on: in the paper the
greatest count could not be answered.
"""

from __future__ import annotations

from math import comb
from typing import Any

import gymnasium as gym
import numpy as np

from recurrent_rl.envs.batch import Flags, Rewards, Rows
from recurrent_rl.envs.cards import KINDS, NAMES, CardEnv, kinds_of
from recurrent_rl.envs.single import SingleEnv


class CountRecall(CardEnv):
    """CountRecall, N environments at once.

    Args:
        num_envs: number of environments.
        num_decks: decks of 52 cards that are shown, and as many that the questions are from.
        kind: what is counted: `colours`, `suits` or `ranks`.
    """

    to_remember = "how many cards of each kind came"
    observation_labels = ("shown", "how many of")
    state = ("deck", "asked", "counts", "t")

    def __init__(
        self,
        num_envs: int = 1,
        num_decks: int = 1,
        kind: str = "colours",
        render_mode: str | None = None,
    ) -> None:
        kinds = kinds_of(num_decks, kind)
        n, self.num_kinds = len(kinds), KINDS[kind]
        seen = gym.spaces.MultiDiscrete([self.num_kinds, self.num_kinds])
        counts = gym.spaces.Discrete(n // self.num_kinds + 1)
        super().__init__(num_envs, seen, counts, n - 1, kinds, render_mode=render_mode)
        self.observation_names = NAMES[kind]
        self.best_return = 1.0
        self.memoryless_return = _memoryless(n, self.num_kinds)
        self.asked = np.zeros((num_envs, n), dtype=np.int64)
        self.counts = np.zeros((num_envs, self.num_kinds), dtype=np.int64)
        """Cards of each kind that have been shown."""

    def _begin(self, rows: Rows) -> None:
        super()._begin(rows)
        self.asked[rows] = self.streams.shuffled(rows, self.kinds)
        self.counts[rows] = 0
        self.counts[rows, self.deck[rows, 0]] = 1

    def unseen(self, i: int) -> dict[str, Any]:
        """How many cards of each kind came, and of the kind in question."""
        counts = self.counts[i]
        return {"answer": counts[self.asked[i, self.t[i]]], "counts": counts.astype(float)}

    def _advance(self, actions: Any) -> tuple[Rewards, Flags, Flags]:
        rows = self._all_rows
        answer = self.counts[rows, self.asked[rows, self.t]]
        scale = 1 / (self.num_cards - 1)
        rewards = np.where(actions == answer, scale, -scale)
        self.t += 1
        self.counts[rows, self.deck[rows, self.t]] += 1
        return rewards, self.t == self.num_cards - 1, np.zeros(self.num_envs, dtype=bool)

    def _observe(self) -> Any:
        rows = self._all_rows
        return np.stack([self.deck[rows, self.t], self.asked[rows, self.t]], axis=1)


def _memoryless(n: int, kinds: int) -> float:
    """The best return of two counts: where the kinds shown and in question agree, and elsewhere.

    When t other cards have been shown, as many of them are of a given kind as a draw of t without
    replacement from the n - 1 others holds, of which n / kinds, or one less, are of that kind.
    """
    right = 0.0
    for share, of_kind in ((1 / kinds, n // kinds - 1), (1 - 1 / kinds, n // kinds)):
        chances = np.zeros(of_kind + 1)
        for t in range(n - 1):
            for count in range(max(0, t - (n - 1 - of_kind)), min(t, of_kind) + 1):
                chances[count] += (
                    comb(of_kind, count) * comb(n - 1 - of_kind, t - count) / comb(n - 1, t)
                )
        right += share * float(chances.max()) / (n - 1)
    return 2 * right - 1


class CountRecallEnv(SingleEnv):
    """CountRecall, one environment."""

    batch_type = CountRecall
