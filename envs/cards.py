"""What the card games share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SUITS = 4
CARDS = 52


KINDS = {"colours": 2, "suits": SUITS, "ranks": 13}


def kinds_of(num_decks: int, kind: str) -> NDArray[np.int64]:
    """The colour, suit or rank of each card in so many decks, from 0; as many cards of each."""
    if num_decks < 1:
        raise ValueError(f"num_decks is {num_decks}; it must be at least 1.")
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; choose one of {', '.join(KINDS)}.")
    return np.arange(CARDS * num_decks, dtype=np.int64) % KINDS[kind]


def suits_of(num_decks: int) -> NDArray[np.int64]:
    """The suits of all cards in so many decks: as many of each."""
    return kinds_of(num_decks, "suits")


def same_suit(num_cards: int) -> float:
    """The chance that two cards of a deck are of one suit: (n / 4 - 1) / (n - 1), below 1/4."""
    return (num_cards / SUITS - 1) / (num_cards - 1)


def other_suit(num_cards: int) -> float:
    """The chance that a card is of one given suit, when another card is not: (n / 4) / (n - 1)."""
    return num_cards / SUITS / (num_cards - 1)
