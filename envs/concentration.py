"""Concentration: turn up pairs of cards that match, from a table of cards that lie face down.

To remember: what was under each card that has been turned up and down again.

Observation: for each card of the table its kind, or one more than the kinds where it lies face
down. Action: the card to turn up. Two cards in a row make a turn: if they are two cards of one kind
they stay up, else they are turned down before the next action. With n cards and an episode of
T = ceil(2 n - n / (2 n - 1)) steps a pair that matches gives 2 / n, one that does not -2 / T. A
card that is up already ends the turn with -1 / T for each card of it. The episode terminates when
all cards are up and is truncated after T steps. Neither the best nor the memoryless return is known
exactly.

The task is POPGym's (Morad et al., ICLR 2023).
"""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np

from recurrent_rl.envs.batch import Flags, Rewards, Rows
from recurrent_rl.envs.cards import KINDS, NAMES, CardEnv, kinds_of
from recurrent_rl.envs.single import SingleEnv

NONE = -1


class Concentration(CardEnv):
    """Concentration, N environments at once.

    Args:
        num_envs: number of environments.
        num_decks: decks of 52 cards.
        kind: what must match: `colours` or `ranks`.
    """

    to_remember = "what lies under which card"
    state = ("deck", "up", "first", "seen", "t")

    def __init__(
        self,
        num_envs: int = 1,
        num_decks: int = 1,
        kind: str = "colours",
        render_mode: str | None = None,
    ) -> None:
        kinds = kinds_of(num_decks, kind)
        n = len(kinds)
        self.face_down = KINDS[kind]
        length = math.ceil(2 * n - n / (2 * n - 1))
        table = gym.spaces.MultiDiscrete([self.face_down + 1] * n)
        super().__init__(
            num_envs, table, gym.spaces.Discrete(n), length, kinds, render_mode=render_mode
        )
        self.observation_names = (*NAMES[kind], "")
        self.up = np.zeros((num_envs, n), dtype=bool)
        self.first = np.full(num_envs, NONE)
        """The first card of the present turn, where one lies open."""
        self.seen = np.full((num_envs, n), self.face_down)

    def _begin(self, rows: Rows) -> None:
        super()._begin(rows)
        self.up[rows] = False
        self.first[rows] = NONE
        self.seen[rows] = self.face_down

    def unseen(self, i: int) -> dict[str, Any]:
        """What lies under all cards."""
        return {"cards": self.deck[i]}

    def _advance(self, actions: Any) -> tuple[Rewards, Flags, Flags]:
        rows, first = self._all_rows, self.first
        second = first != NONE
        other = np.where(second, first, actions)
        kind = self.deck[rows, actions]
        was_up = self.up[rows, actions]
        self.seen = np.where(self.up, self.deck, self.face_down)
        self.seen[rows, actions] = kind
        self.seen[rows, other] = self.deck[rows, other]

        match = second & ~was_up & (kind == self.deck[rows, other]) & (actions != other)
        self.up[rows, actions] |= match
        self.up[rows, other] |= match
        failure = np.where(was_up, 1 + second, np.where(second & ~match, 2, 0))
        rewards = match * (2 / self.num_cards) - failure / self.max_episode_steps
        self.first = np.where(second | was_up, NONE, actions)
        self.t += 1
        all_up: Flags = np.asarray(self.up.all(axis=1))
        return rewards, all_up, self.t >= self.max_episode_steps

    def _observe(self) -> Any:
        return self.seen.copy()


class ConcentrationEnv(SingleEnv):
    """Concentration, one environment."""

    batch_type = Concentration
