"""Our copies of POPGym's tasks against the package itself, step by step.

Both are given the same decks, arms or initial states, the same actions and the same noise. The long
version (`pytest -m slow`) goes through thousands of episodes.
"""

import warnings
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from recurrent_rl.envs.batch import BatchEnv

Copy = Callable[[Any, BatchEnv], dict[str, Any]]


def popgym(name: str) -> Any:
    """POPGym's environment of this name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(pytest.importorskip("popgym.envs"), name)()


def dealt(deck: Any, kinds: Any) -> Any:
    """The kinds of a deck's cards in the order in which POPGym deals them: from the end."""
    return kinds[deck.idx[::-1]][None].astype(np.int64)


def suits(theirs: Any, ours: BatchEnv) -> dict[str, Any]:
    return {"deck": dealt(theirs.deck, theirs.deck.suits_idx)}


def ranks(theirs: Any, ours: BatchEnv) -> dict[str, Any]:
    return {"deck": dealt(theirs.deck, theirs.deck.ranks_idx)}


def two_decks(theirs: Any, ours: BatchEnv) -> dict[str, Any]:
    deck = dealt(theirs.value_deck, theirs.deck_idx_type)
    counts = np.zeros((1, theirs.num_distinct_cards), dtype=np.int64)
    counts[0, deck[0, 0]] = 1
    asked = dealt(theirs.query_deck, theirs.deck_idx_type)
    return {"deck": deck, "asked": asked, "counts": counts}


def table(theirs: Any, ours: BatchEnv) -> dict[str, Any]:
    return {"deck": theirs.deck_idx_type[theirs.deck.idx][None].astype(np.int64)}


def arms(theirs: Any, ours: BatchEnv) -> dict[str, Any]:
    return {"chances": theirs.bandits[None].astype(np.float64)}


def cart(theirs: Any, ours: BatchEnv) -> dict[str, Any]:
    return {"physics": np.asarray(theirs.state, dtype=np.float64)[None]}


def pendulum(theirs: Any, ours: BatchEnv) -> dict[str, Any]:
    angle, velocity = theirs.state
    return {"angle": np.array([angle]), "velocity": np.array([velocity])}


class SameNoise:
    """A generator whose draws are those that our copy takes next."""

    def __init__(self, ours: BatchEnv) -> None:
        self.uniforms = ours.streams._uniform
        self.normals = ours.streams._normal
        self.ours = ours

    def _next(self, blocks: Any, size: int) -> Any:
        cursor = blocks.cursor.copy()
        values = blocks.take(self.ours.streams.generators, np.array([0]), size)[0]
        blocks.cursor[:] = np.where(blocks.cursor >= cursor, cursor, 0)
        return values

    def random(self) -> float:
        return float(self._next(self.uniforms, 1)[0])

    def normal(self, mean: float, sigma: Any) -> Any:
        return mean + sigma * self._next(self.normals, len(sigma))


LEVELS = ("Easy", "Medium", "Hard")
TASKS: dict[str, tuple[Copy, float]] = {
    "Autoencode": (suits, 0.0),
    "CountRecall": (two_decks, 0.0),
    "HigherLower": (ranks, 0.0),
    "Concentration": (table, 0.0),
    "MultiarmedBandit": (arms, 0.0),
    "PositionOnlyCartPole": (cart, 1e-6),
    "NoisyPositionOnlyCartPole": (cart, 1e-6),
    "PositionOnlyPendulum": (pendulum, 1e-5),
    "NoisyPositionOnlyPendulum": (pendulum, 1e-5),
    "RepeatFirst": (suits, 0.0),
    "RepeatPrevious": (suits, 0.0),
}


def compare(name: str, level: str, episodes: int) -> None:
    """Play the same episodes in both and find the same observations, rewards and ends."""
    copy, tolerance = TASKS[name]
    theirs = popgym(f"{name}{level}")
    ours: Any = gym.make_vec(
        f"recurrent_rl.envs:recurrent_rl/{name}-{level}-v0",
        1,
        vectorization_mode="vector_entry_point",
    )
    rng = np.random.default_rng(0)
    for episode in range(episodes):
        theirs.reset(seed=episode)
        ours.reset(seed=episode)
        state = ours.state_dict() | copy(theirs, ours)
        ours.load_state_dict(state)
        noise = SameNoise(ours)
        if "Noisy" in name or name == "MultiarmedBandit":
            theirs.np_random = noise
        if hasattr(ours, "_look"):  # what is seen follows from the state put in
            seen_before = ours.streams._normal.cursor.copy()
            ours._look(np.array([0]))
            ours.streams._normal.cursor[:] = seen_before
        ended = False
        while not ended:
            action = ours.action_space.sample() if tolerance == 1e-5 else None
            if action is None:
                action = rng.integers(ours.single_action_space.n, size=1)
            # Theirs first: its noise is read from ours without taking it.
            b = theirs.step(action[0])
            a = ours.step(action)
            ended = bool(a[2][0] or a[3][0])
            assert ended == (b[2] or b[3])
            seen = a[4]["final_obs"][0] if ended else a[0][0]
            np.testing.assert_allclose(seen, np.asarray(b[0]), rtol=0, atol=tolerance)
            assert a[1][0] == pytest.approx(b[1], abs=1e-12 + tolerance)
            assert a[2][0] == b[2]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", TASKS)
def test_the_tasks_are_popgyms(name: str, level: str) -> None:
    compare(name, level, 10)


@pytest.mark.slow
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", TASKS)
def test_the_tasks_are_popgyms_over_a_thousand_episodes(name: str, level: str) -> None:
    compare(name, level, 1000)
