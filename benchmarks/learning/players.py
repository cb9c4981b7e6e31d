"""What Concentration is worth without memory, and with a perfect one: two scripted players.

    python benchmarks/learning/players.py

The forgetful one turns a card at random among those that it sees face down. The other remembers
every card that it saw: it turns a pair that it knows, or the known partner of the card that it has
just turned, and else a card that it has not seen. Mean returns of 1,000 games, with their standard
errors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from recurrent_rl.envs.concentration import Concentration
from recurrent_rl.experiments.comparison import markdown

GAMES = 1000
LEVELS = ("Concentration-Easy", "Concentration-Medium", "Concentration-Hard")


class Table(NamedTuple):
    """What a player may know of one game; the first three of each card."""

    down: NDArray[np.bool_]
    """It is seen face down."""
    turning: NDArray[np.bool_]
    """It is seen, but turns back before the next action: the last turn's, without a match."""
    known: NDArray[np.int64]
    """Its kind, once seen; else -1."""
    first: int
    """The first card of the present turn, -1 before it."""


def forgetful(table: Table, rng: np.random.Generator) -> int:
    """A card that is seen face down."""
    return int(rng.choice(np.flatnonzero(table.down)))


def remembering(table: Table, rng: np.random.Generator) -> int:
    """A card of a pair that is known, else one not seen before, else any that may be turned."""
    down = table.down | table.turning
    seen = down & (table.known >= 0)
    if table.first >= 0:
        partners = np.flatnonzero(seen & (table.known == table.known[table.first]))
    else:
        kinds, counts = np.unique(table.known[seen], return_counts=True)
        partners = np.flatnonzero(seen & np.isin(table.known, kinds[counts > 1]))
    for choice in (partners, np.flatnonzero(down & ~seen)):
        if choice.size:
            return int(rng.choice(choice))
    return int(rng.choice(np.flatnonzero(down)))


def returns(level: str, player: Callable[[Table, np.random.Generator], int]) -> NDArray[np.float64]:
    """The return of each game, `[GAMES]`."""
    games = Concentration(GAMES, **gym.spec(f"recurrent_rl/{level}-v0").kwargs)
    observation, _ = games.reset(seed=0)
    rng = np.random.default_rng(0)
    known = np.full(observation.shape, -1)
    total, going = np.zeros(GAMES), np.ones(GAMES, dtype=bool)
    while going.any():
        down = observation == games.face_down
        known = np.where(down, known, observation)
        is_first = np.arange(games.num_cards) == games.first[:, None]
        turning = ~down & ~games.up & ~is_first
        actions = np.zeros(GAMES, dtype=np.int64)
        for i in np.flatnonzero(going):
            actions[i] = player(Table(down[i], turning[i], known[i], int(games.first[i])), rng)
        observation, rewards, terminated, truncated, _ = games.step(actions)
        total += rewards * going
        going &= ~(terminated | truncated)
    return total


def main() -> None:
    lines = []
    for level in LEVELS:
        played = [returns(level, player) for player in (forgetful, remembering)]
        lines.append([level, *(f"{x.mean():.3f} ± {x.std() / GAMES**0.5:.3f}" for x in played)])
    print(markdown(["task", "without memory", "with a perfect one"], lines))


if __name__ == "__main__":
    main()
