"""What the card games share: decks, and an environment that shows one."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from recurrent_rl.envs.arguments import check_count
from recurrent_rl.envs.batch import BatchEnv, Rows

SUITS = 4
SUIT_NAMES = ("clubs", "diamonds", "hearts", "spades")
CARDS = 52
RANK_NAMES = ("A", *map(str, range(2, 11)), "J", "Q", "K")
KINDS = {"colours": 2, "suits": SUITS, "ranks": 13}
NAMES = {"colours": ("0", "1"), "suits": SUIT_NAMES, "ranks": RANK_NAMES}


def kinds_of(num_decks: int, kind: str) -> NDArray[np.int64]:
    """The colour, suit or rank of each card in so many decks, from 0; as many cards of each."""
    check_count("num_decks", num_decks, 1)
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; choose one of {', '.join(KINDS)}.")
    return np.arange(CARDS * num_decks, dtype=np.int64) % KINDS[kind]


def same_suit(num_cards: int) -> float:
    """The chance that two cards of a deck are of one suit: (n / 4 - 1) / (n - 1), below 1/4."""
    return (num_cards / SUITS - 1) / (num_cards - 1)


def other_suit(num_cards: int) -> float:
    """The chance that a card is of one given suit, when another card is not: (n / 4) / (n - 1)."""
    return num_cards / SUITS / (num_cards - 1)


class CardEnv(BatchEnv):
    """A game with a shuffled deck in each environment; a subclass says what follows from an action.

    The card at `t` is shown, unless a subclass shows something else.

    Args:
        num_envs: number of environments.
        observation_space: of one environment.
        action_space: of one environment.
        max_episode_steps: length of an episode.
        kinds: what counts of each card, such as its suit, unshuffled.
    """

    state: ClassVar[tuple[str, ...]] = ("deck", "t")

    def __init__(
        self,
        num_envs: int,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        max_episode_steps: int,
        kinds: NDArray[np.int64],
        render_mode: str | None = None,
    ) -> None:
        super().__init__(
            num_envs, observation_space, action_space, max_episode_steps, render_mode=render_mode
        )
        self.kinds = kinds
        self.num_cards = len(kinds)
        self.deck = np.zeros((num_envs, self.num_cards), dtype=np.int64)
        self.t = np.zeros(num_envs, dtype=np.int64)

    def _begin(self, rows: Rows) -> None:
        self.deck[rows] = self.streams.shuffled(rows, self.kinds)
        self.t[rows] = 0

    def _observe(self) -> Any:
        return self.deck[self._all_rows, self.t]
