"""Games of cards against their sources, and scripted players against the returns they state."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from recurrent_rl.envs.autoencode import Autoencode
from recurrent_rl.envs.batch import BatchEnv
from recurrent_rl.envs.concentration import Concentration
from recurrent_rl.envs.count_recall import CountRecall
from recurrent_rl.envs.higher_lower import HigherLower
from recurrent_rl.envs.repeat_first import RepeatFirst
from recurrent_rl.envs.repeat_previous import RepeatPrevious
from tests.envs.players import mean_return


class Recorder:
    """Plays RepeatPrevious and RepeatFirst perfectly by writing down what it sees."""

    def __init__(self) -> None:
        self.seen: list[NDArray[np.int64]] = []

    def previous(self, env: BatchEnv, observation: Any) -> Any:
        assert isinstance(env, RepeatPrevious)
        if env.t[0] == 0:
            self.seen.clear()
        self.seen.append(observation)
        return self.seen[max(len(self.seen) - env.k, 0)]

    def first(self, env: BatchEnv, observation: Any) -> Any:
        assert isinstance(env, RepeatFirst)
        if env.t[0] == 0:
            self.seen.clear()
        self.seen.append(observation)
        return self.seen[0]


def another_suit(env: BatchEnv, observation: Any) -> Any:
    return (observation + 1) % 4


def same_suit(env: BatchEnv, observation: Any) -> Any:
    return observation


def test_the_card_games_pay_their_stated_returns() -> None:
    for num_decks, k in ((1, 4), (2, 32)):
        env: BatchEnv = RepeatPrevious(256, num_decks, k)
        assert mean_return(env, Recorder().previous) == pytest.approx(1.0)
        assert mean_return(env, another_suit) == pytest.approx(env.memoryless_return, abs=0.02)
    env = RepeatFirst(256, 1)
    assert mean_return(env, Recorder().first) == pytest.approx(1.0)
    env = RepeatFirst(4096, 1)
    assert mean_return(env, same_suit) == pytest.approx(env.memoryless_return, abs=4e-4)
    assert mean_return(env, another_suit) < mean_return(env, same_suit)


@pytest.mark.parametrize(
    ("env", "first_card_scored", "steps_scored"),
    [
        (RepeatFirst(1, 1), 1, 51),
        (RepeatFirst(1, 16), 1, 831),
        (RepeatPrevious(1, 1, k=4), 0, 48),
        (RepeatPrevious(1, 3, k=64), 0, 92),
        (RepeatPrevious(1, 1, k=1), 51, 51),
    ],
)
def test_no_answer_from_the_card_seen_beats_the_stated_return(
    env: RepeatFirst | RepeatPrevious, first_card_scored: int, steps_scored: int
) -> None:
    # How often the card seen is of suit a and the card asked of suit b: the same card, or another.
    suits = np.eye(4)[env.kinds]
    same_card = suits.T @ suits
    another_card = np.outer(suits.sum(0), suits.sum(0)) - same_card
    n = env.num_cards
    others = steps_scored - first_card_scored
    both = first_card_scored * same_card / n + others * another_card / (n * (n - 1))
    right = both.max(axis=1).sum()  # the best answer to each suit seen
    assert env.memoryless_return == pytest.approx(2 * right / steps_scored - 1, abs=1e-12)


def autoencoder(env: BatchEnv, observation: Any) -> Any:
    assert isinstance(env, Autoencode)
    asked = np.minimum(2 * env.num_cards - 2 - env.t, env.num_cards - 1)
    return env.deck[np.arange(env.num_envs), asked]


def repeats_what_it_sees(env: BatchEnv, observation: Any) -> Any:
    return observation[:, 1]  # the last card's suit when it is to be named, then always suit 0


@pytest.mark.parametrize("num_decks", [1, 3])
def test_autoencode_states_its_returns(num_decks: int) -> None:
    env = Autoencode(512, num_decks)
    assert mean_return(env, autoencoder, env.max_episode_steps) == pytest.approx(1.0)
    blind = mean_return(env, repeats_what_it_sees, env.max_episode_steps)
    assert blind == pytest.approx(env.memoryless_return, abs=0.005)


def test_autoencode_shows_all_cards_and_asks_for_them_backwards() -> None:
    env = Autoencode(1, 1)
    observation, _ = env.reset(seed=0)
    shown = [observation[0]]
    for _ in range(51):
        observation, rewards, *_ = env.step(np.array([0]))
        assert rewards == 0
        shown.append(observation[0])
    assert [mode for mode, _ in shown] == [1] * 51 + [0]
    for asked in reversed([suit for _, suit in shown]):
        observation, rewards, terminated, *_ = env.step(np.array([asked]))
        assert rewards == pytest.approx(1 / 52)
    assert terminated.all()


@pytest.mark.parametrize(("num_decks", "kind"), [(1, "colours"), (2, "suits"), (4, "ranks")])
def test_count_recall_states_its_returns(num_decks: int, kind: str) -> None:
    def counts(e: BatchEnv, observation: Any) -> Any:
        assert isinstance(e, CountRecall)
        return e.counts[np.arange(e.num_envs), observation[:, 1]]

    env = CountRecall(512, num_decks, kind)
    steps = env.max_episode_steps
    assert mean_return(env, counts, steps) == pytest.approx(1.0)
    # No pair of answers, one where the kinds are the same and one where not, beats what is stated.
    each = env.num_cards // env.num_kinds
    best = [-1.0, -1.0]
    share = [0.0, 0.0]
    for answer in range(each + 1):
        env.reset(seed=0)
        right, met = np.zeros(2), np.zeros(2)
        for _ in range(steps):
            observation = env._observe()
            differ = (observation[:, 0] != observation[:, 1]).astype(np.int64)
            truth = counts(env, observation)
            met += np.bincount(differ, minlength=2)
            right += np.bincount(differ, weights=truth == answer, minlength=2)
            env.step(np.zeros(512, np.int64))
        best = [max(b, float(r / m)) for b, r, m in zip(best, right, met, strict=True)]
        share = [float(m / met.sum()) for m in met]
    found = 2 * (share[0] * best[0] + share[1] * best[1]) - 1
    assert env.memoryless_return == pytest.approx(found, abs=0.01)


@pytest.mark.parametrize("num_decks", [1, 2, 3])
def test_higher_lower_states_its_returns(num_decks: int) -> None:
    env = HigherLower(4000, num_decks)
    env.reset(seed=0)
    n, total = env.num_cards, 0.0
    # The mean over decks of what a card counter may expect at each step, not of what it gets.
    left = np.full((4000, 13), 4 * num_decks)
    ranks = np.arange(13)
    for t in range(n - 1):
        card = env.deck[:, t]
        left[np.arange(4000), card] -= 1
        higher = (left * (ranks > card[:, None])).sum(1)
        lower = (left * (ranks < card[:, None])).sum(1)
        total += float(np.mean(np.abs(higher - lower) / left.sum(1))) / n
    assert env.best_return == pytest.approx(total, abs=0.001)
    middle = mean_return(env, lambda e, o: (o >= 6).astype(np.int64), n - 1)
    assert middle == pytest.approx(env.memoryless_return, abs=0.005)


def test_concentration_pays_one_for_all_pairs_less_what_goes_wrong() -> None:
    env = Concentration(1, 1, "ranks")
    env.reset(seed=0)
    total = 0.0
    for rank in range(13):
        for card in np.flatnonzero(env.deck[0] == rank):
            observation, reward, terminated, *_ = env.step(np.array([card]))
            total += float(reward[0])
    assert terminated.all()
    assert total == pytest.approx(1.0)
    assert (observation == 13).all()  # a new table
