"""What Concentration is worth without memory, and with a perfect one: two scripted players.

    python benchmarks/learning/players.py

The forgetful one turns a card at random among those that it sees face down. The other remembers
every card that it saw: it turns a pair that it knows, or the known partner of the card that it has
just turned, and else a card that it has not seen. Mean returns of 1,000 games, with their standard
errors.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from recurrent_rl.envs.concentration import Concentration
from recurrent_rl.experiments.comparison import markdown

GAMES = 1000
LEVELS = {
    "Concentration-Easy": (1, "colours"),
    "Concentration-Medium": (2, "colours"),
    "Concentration-Hard": (1, "ranks"),
}
Table = NDArray[np.int64]


Flags = NDArray[np.bool_]
Player = Callable[[Flags, Table, int, np.random.Generator], int]


def forgetful(down: Flags, known: Table, first: int, rng: np.random.Generator) -> int:
    """A card that lies face down."""
    return int(rng.choice(np.flatnonzero(down)))


def remembering(down: Flags, known: Table, first: int, rng: np.random.Generator) -> int:
    """A card of a pair that is known, else one not seen before, else any that lies face down."""
    seen = down & (known >= 0)
    if first >= 0:
        partners = np.flatnonzero(seen & (known == known[first]))
    else:
        kinds, counts = np.unique(known[seen], return_counts=True)
        partners = np.flatnonzero(seen & np.isin(known, kinds[counts > 1]))
    for choice in (partners, np.flatnonzero(down & ~seen)):
        if choice.size:
            return int(rng.choice(choice))
    return forgetful(down, known, first, rng)


def returns(level: str, player: Player) -> NDArray[np.float64]:
    """The return of each game, `[GAMES]`."""
    decks, kind = LEVELS[level]
    games = Concentration(GAMES, decks, kind)
    observation, _ = games.reset(seed=0)
    rng = np.random.default_rng(0)
    known = np.full(observation.shape, -1)
    total, going = np.zeros(GAMES), np.ones(GAMES, dtype=bool)
    while going.any():
        down = observation == games.face_down
        known = np.where(down, known, observation)
        if (
            player is remembering
        ):  # also that what lies open after a turn without a match turns back
            down = ~games.up & (np.arange(games.num_cards) != games.first[:, None])
        actions = np.zeros(GAMES, dtype=np.int64)
        for i in np.flatnonzero(going):
            actions[i] = player(down[i], known[i], int(games.first[i]), rng)
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
