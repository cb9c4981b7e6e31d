"""What the card games share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SUITS = 4
CARDS = 52


def suits_of(num_decks: int) -> NDArray[np.int64]:
    """The suits of all cards in so many decks: as many of each."""
    if num_decks < 1:
        raise ValueError(f"num_decks is {num_decks}; it must be at least 1.")
    return np.arange(CARDS * num_decks, dtype=np.int64) % SUITS


def memoryless_guess(num_cards: int) -> float:
    """The chance to name another card's suit from the card seen now, at best.

    A card of the deck, drawn without replacement, is of another given suit with probability
    (n / 4) / (n - 1), a little more than 1/4, and of the same suit a little less.
    """
    return num_cards / SUITS / (num_cards - 1)
