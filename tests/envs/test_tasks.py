"""Each task against its source, and scripted players against the returns it states."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from numpy.typing import NDArray

from recurrent_rl.envs.autoencode import Autoencode
from recurrent_rl.envs.bandit import MultiarmedBandit
from recurrent_rl.envs.batch import BatchEnv
from recurrent_rl.envs.cartpole import CartPole
from recurrent_rl.envs.concentration import Concentration
from recurrent_rl.envs.count_recall import CountRecall
from recurrent_rl.envs.forecast import Forecast
from recurrent_rl.envs.higher_lower import HigherLower
from recurrent_rl.envs.ladder import Ladder
from recurrent_rl.envs.mountain_car import MountainCar
from recurrent_rl.envs.pendulum import Pendulum
from recurrent_rl.envs.probes import MaskProbe, MemoryProbe, SignalProbe
from recurrent_rl.envs.recall import Recall
from recurrent_rl.envs.repeat_first import RepeatFirst
from recurrent_rl.envs.repeat_previous import RepeatPrevious
from recurrent_rl.envs.tmaze import TMaze

Player = Callable[[BatchEnv, Any], Any]


def mean_return(env: BatchEnv, player: Player, steps: int = 0) -> float:
    """Mean return of whole episodes; `steps` defaults to three of the longest."""
    observation, _ = env.reset(seed=0)
    running = np.zeros(env.num_envs)
    finished: list[float] = []
    for _ in range(steps or 3 * env.max_episode_steps):
        observation, rewards, terminated, truncated, _ = env.step(player(env, observation))
        running += rewards
        done = terminated | truncated
        finished += running[done].tolist()
        running[done] = 0
    return float(np.mean(finished))


# --------------------------------------------------------------------------------- card games


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


def test_the_bandit_states_its_memoryless_return_and_pays_the_one_who_learns() -> None:
    env = MultiarmedBandit(4096)
    assert mean_return(env, lambda e, o: np.zeros(4096, np.int64)) == pytest.approx(0.0, abs=0.02)
    change = mean_return(env, lambda e, o: np.asarray(o))  # another arm where the last did not pay
    assert change == pytest.approx(0.0, abs=0.02)
    pulls, wins = np.zeros((4096, 10)), np.zeros((4096, 10))
    rng = np.random.default_rng(0)
    env.reset(seed=0)
    total, rows = np.zeros(4096), np.arange(4096)
    for _ in range(200):
        action = rng.beta(1 + wins, 1 + pulls - wins).argmax(1)  # Thompson sampling
        _, rewards, _, truncated, _ = env.step(action)
        paid = rewards > 0
        pulls[rows, action] += 1
        wins[rows, action] += paid
        total += rewards
    assert truncated.all()
    assert total.mean() > 0.6


def test_no_arm_of_the_bandit_has_paid_where_an_episode_starts() -> None:
    env = MultiarmedBandit(64, max_episode_steps=3)
    for _ in range(2):
        assert (env.reset()[0] == 0).all()
        for t in range(3):
            observation, rewards, _, _, infos = env.step(np.zeros(64, np.int64))
            last = np.stack(list(infos["final_obs"])) if t == 2 else observation
            np.testing.assert_array_equal(last, rewards > 0)
        assert (observation == 0).all()
        assert (rewards > 0).any()


def test_the_ladder_asks_for_its_bits_after_its_horizon() -> None:
    env = Ladder(64, horizon=5, bits=3)
    observation, _ = env.reset(seed=0)
    code = observation[:, 2:]
    assert (observation[:, 0] == 1).all()
    for t in range(1, 6):
        observation, rewards, *_ = env.step(np.zeros((64, 3), np.int8))
        assert (rewards == 0).all()
        assert (observation[:, 0] == 0).all()
        assert (observation[:, 1] == (t == 5)).all()
        assert (observation[:, 2:] == 0).all()
    _, rewards, terminated, _, infos = env.step(code)
    assert terminated.all()
    assert (rewards == 1).all()
    assert infos["final_info"]["is_success"].all()
    env.reset(seed=0)
    for _ in range(5):
        env.step(np.zeros((64, 3), np.int8))
    wrong = code.copy()
    wrong[:, 0] ^= 1
    _, rewards, *_, infos = env.step(wrong)
    assert rewards == pytest.approx(np.full(64, 1 / 3))
    assert not infos["final_info"]["is_success"].any()
    assert abs(mean_return(Ladder(4096), lambda e, o: np.zeros((4096, 1), np.int8))) < 0.05


# -------------------------------------------------------------------------- T-maze and Recall


def walker(turn: Callable[[TMaze], Any]) -> Player:
    def play(env: BatchEnv, observation: Any) -> Any:
        assert isinstance(env, TMaze)
        return np.where(observation == 3, turn(env), 0)

    return play


def test_the_t_maze_pays_one_for_the_sign_and_nothing_for_a_guess() -> None:
    env = TMaze(64, length=7)
    assert mean_return(env, walker(lambda e: 2 + e.goal)) == 1.0
    assert mean_return(env, walker(lambda e: 3 - e.goal)) == -1.0
    assert abs(mean_return(env, walker(lambda e: 2), 4000)) < 0.05


def test_standing_still_in_the_t_maze_costs_and_is_cut_short() -> None:
    env = TMaze(2, length=5)
    still = mean_return(env, lambda e, o: np.full(2, 1))
    assert still == pytest.approx(-12 / 5)
    env.reset(seed=0)
    for t in range(12):
        _, _, terminated, truncated, infos = env.step(np.array([1, 1]))
        assert not terminated.any()
        assert truncated.all() == (t == 11)
    assert not infos["final_info"]["is_success"].any()


def test_a_walk_in_the_t_maze_is_what_it_is_said_to_be() -> None:
    env, rng = TMaze(32, length=3), np.random.default_rng(0)
    observation, _ = env.reset(seed=0)
    ends: list[tuple[bool, bool, bool]] = []
    walks = [(0, sign, 0) for sign in observation.tolist()]  # place, sign and steps of each
    for _ in range(200):
        actions = rng.choice(4, size=32, p=[0.5, 0.2, 0.15, 0.15])
        observation, rewards, terminated, truncated, infos = env.step(actions)
        for i, (place, sign, t) in enumerate(walks):
            turns = place == 3 and actions[i] >= 2
            named = turns and actions[i] - 2 == sign
            forward = actions[i] == 0 and place < 3
            reward = (1 if named else -1) if turns else (0 if forward else -1 / 3)
            place = place + 1 if forward else max(place - 1, 0) if actions[i] == 1 else place
            late = t + 1 == 2 * 3 + 2 and not turns
            assert rewards[i] == pytest.approx(reward)
            assert (terminated[i], truncated[i]) == (turns, late)
            seen = infos["final_obs"][i] if turns or late else observation[i]
            assert seen == (3 if place == 3 else 2)
            walks[i] = (place, sign, t + 1)
            if turns or late:
                assert infos["final_info"]["is_success"][i] == named
                walks[i] = (0, observation[i], 0)
                ends.append((turns, named, t + 1 == 8))
    # At the limit, too, some have turned.
    assert {(True, True, True), (True, False, False), (False, False, True)} <= set(ends)


def test_the_sign_of_the_t_maze_is_seen_once() -> None:
    env = TMaze(8, length=4)
    observation, _ = env.reset(seed=1)
    assert set(observation) == {0, 1}
    np.testing.assert_array_equal(observation, env.goal)
    for t in range(4):
        observation, *_ = env.step(np.zeros(8, np.int64))
        assert (observation == (3 if t == 3 else 2)).all()


def test_recall_asks_for_the_first_word_after_its_distance() -> None:
    env = Recall(64, distance=9, num_answers=5, num_distractors=3)
    observation, _ = env.reset(seed=0)
    first = observation
    for t in range(10):
        observation, rewards, *_ = env.step(np.zeros(64, np.int64))
        assert (rewards == 0).all()
        assert ((observation >= 5) & (observation < 8)).all() if t < 9 else (observation == 8).all()
    _, rewards, terminated, *_ = env.step(first)
    assert terminated.all()
    assert (rewards == 1).all()


def test_recall_states_its_returns() -> None:
    env = Recall(256, distance=4)

    def knows(e: BatchEnv, observation: Any) -> Any:
        assert isinstance(e, Recall)
        return e.answer

    assert mean_return(env, knows) == 1.0
    guess = mean_return(env, lambda e, o: np.zeros(256, np.int64), 300)
    assert guess == pytest.approx(-0.5, abs=0.03)


# --------------------------------------------------------------------------------- physics


def test_cartpole_is_gymnasiums_without_its_velocities() -> None:
    env = CartPole(16)
    observation, _ = env.reset(seed=0)
    theirs = [gym.make("CartPole-v1").unwrapped for _ in range(16)]
    start = env.state_dict()["physics"]
    for one, state in zip(theirs, start, strict=True):
        one.reset(seed=0)
        one.state = tuple(state)  # type: ignore[attr-defined]
    rng = np.random.default_rng(0)
    running = np.ones(16, dtype=bool)
    for _ in range(60):
        actions = rng.integers(2, size=16)
        observation, rewards, terminated, truncated, infos = env.step(actions)
        for i in np.flatnonzero(running):
            seen, reward, ended, *_ = theirs[i].step(int(actions[i]))
            mine = infos["final_obs"][i] if terminated[i] else observation[i]
            np.testing.assert_allclose(mine, seen[[0, 2]], rtol=1e-5, atol=1e-7)
            assert (terminated[i], rewards[i]) == (ended, reward)
        running &= ~terminated
        assert not truncated.any()
    assert running.sum() < 8


def test_cartpole_is_truncated_at_its_limit_and_best_played_with_velocities() -> None:
    def balance(e: BatchEnv, observation: Any) -> Any:
        assert isinstance(e, CartPole)
        x, v, angle, spin = e.physics.T
        return (angle + 0.4 * spin + 0.02 * x + 0.06 * v > 0).astype(np.int64)

    def lean(e: BatchEnv, observation: Any) -> Any:
        return (observation[:, 1] > 0).astype(np.int64)

    env = CartPole(32, max_episode_steps=200)
    assert mean_return(env, balance, 400) == 200
    assert mean_return(env, lean, 400) < 60


def test_the_noise_of_cartpole_has_its_standard_deviation() -> None:
    clean, noisy = CartPole(500), CartPole(500, noise=0.2)
    difference = noisy.reset(seed=0)[0] - clean.reset(seed=0)[0]
    assert difference.std() == pytest.approx(0.2, rel=0.05)


def test_pendulum_is_gymnasiums_without_its_velocity() -> None:
    env = Pendulum(8)
    env.reset(seed=3)
    theirs: list[Any] = [gym.make("Pendulum-v1").unwrapped for _ in range(8)]
    for i, one in enumerate(theirs):
        one.reset(seed=0)
        one.state = np.array([env.angle[i], env.velocity[i]])
    env.action_space.seed(0)
    for t in range(200):
        actions = env.action_space.sample()
        observation, rewards, terminated, truncated, infos = env.step(actions)
        assert truncated.all() == (t == 199)
        assert not terminated.any()
        seen = np.stack(list(infos["final_obs"])) if t == 199 else observation
        for i, one in enumerate(theirs):
            expected, reward, *_ = one.step(actions[i])
            np.testing.assert_allclose(seen[i], expected[:2], rtol=1e-4, atol=1e-5)
            assert rewards[i] == pytest.approx(reward, rel=1e-4, abs=1e-5)


def test_the_mountain_car_is_gymnasiums_without_its_velocity() -> None:
    env = MountainCar(8)
    env.reset(seed=0)
    theirs: list[Any] = [gym.make("MountainCarContinuous-v0").unwrapped for _ in range(8)]
    for i, one in enumerate(theirs):
        one.reset(seed=0)
        one.state = np.array([env.position[i], 0.0])
    rng = np.random.default_rng(0)
    arrived = np.zeros(8, dtype=bool)
    for _ in range(400):
        push = np.where(env.velocity >= 0, 1.0, -1.0)[:, None] + 0.3 * rng.standard_normal((8, 1))
        actions = push.astype(np.float32)
        observation, rewards, terminated, truncated, infos = env.step(actions)
        assert not truncated.any()
        for i in np.flatnonzero(~arrived).tolist():
            seen, reward, ended, *_ = theirs[i].step(actions[i])
            mine = infos["final_obs"][i] if terminated[i] else observation[i]
            np.testing.assert_allclose(mine, seen[:1], rtol=1e-4, atol=1e-4)
            assert rewards[i] == pytest.approx(reward, rel=1e-5)
            assert terminated[i] == ended
        arrived |= terminated
    assert arrived.all()


@pytest.mark.parametrize(
    ("env", "theirs"),
    [
        (CartPole(500), "CartPole-v1"),
        (Pendulum(500), "Pendulum-v1"),
        (MountainCar(500), "MountainCarContinuous-v0"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_episodes_start_where_gymnasiums_do(env: BatchEnv, theirs: str) -> None:
    env.reset(seed=0)
    state = env.state_dict()
    place = {Pendulum: "angle", MountainCar: "position"}.get(type(env))
    if place is None:
        ours = state["physics"]
    else:
        ours = np.stack([state[place], state["velocity"]], axis=1)
    one: Any = gym.make(theirs).unwrapped
    one.reset(seed=0)
    drawn = np.array([(one.reset(), np.array(one.state))[1] for _ in range(500)])
    for ends in (np.min, np.max):
        np.testing.assert_allclose(ends(ours, 0), ends(drawn, 0), rtol=0.05, atol=1e-3)


def test_a_pole_that_falls_at_the_time_limit_has_fallen() -> None:
    env = CartPole(3, max_episode_steps=1, true_state=True)
    env.reset(seed=0)
    state = env.state_dict()
    state["physics"] = np.array([[0, 0, 0.2, 3.0], [2.39, 2.0, 0, 0], [0.01, 0.02, 0.03, 0.04]])
    env.load_state_dict(state)
    *_, terminated, truncated, infos = env.step(np.ones(3, np.int64))
    assert terminated.tolist() == [True, True, False]
    assert truncated.tolist() == [False, False, True]
    one: Any = gym.make("CartPole-v1").unwrapped
    one.reset(seed=0)
    one.state = (0.01, 0.02, 0.03, 0.04)
    seen, *_ = one.step(1)
    np.testing.assert_allclose(infos["final_obs"][2]["state"], seen, rtol=1e-5)
    np.testing.assert_allclose(infos["final_obs"][2]["positions"], seen[[0, 2]], rtol=1e-5)


def test_a_car_that_arrives_at_the_time_limit_has_arrived() -> None:
    env = MountainCar(3, max_episode_steps=3)
    env.reset(seed=0)
    state = env.state_dict()
    state["position"] = np.array([0.35, -0.5, 0.5])
    state["velocity"] = np.array([0.05, 0.0, -0.01])  # the third rolls back from the goal
    env.load_state_dict(state)
    for t in range(3):
        *_, terminated, truncated, infos = env.step(np.zeros((3, 1), np.float32))
        assert terminated.tolist() == [t == 2, False, False]
        assert truncated.tolist() == [False, t == 2, t == 2]
    assert infos["final_info"]["is_success"].tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("env", "theirs"),
    [(Pendulum(1), "Pendulum-v1"), (MountainCar(1), "MountainCarContinuous-v0")],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_more_force_than_there_is_is_taken_as_gymnasium_takes_it(
    env: BatchEnv, theirs: str
) -> None:
    env.reset(seed=0)
    state = env.state_dict()
    where = "angle" if isinstance(env, Pendulum) else "position"
    one: Any = gym.make(theirs).unwrapped
    one.reset(seed=0)
    one.state = np.array([state[where][0], state["velocity"][0]])
    for _ in range(3):
        seen, reward, *_ = one.step(np.array([5.0], np.float32))
        observation, rewards, *_ = env.step(np.array([[5.0]], np.float32))
        np.testing.assert_allclose(observation[0], seen[: len(observation[0])], rtol=1e-4)
        assert rewards[0] == pytest.approx(reward, rel=1e-5)


# --------------------------------------------------------------------------------- forecast


def fitted_to_pairs(env: Forecast) -> Player:
    """A memoryless player: the median of the next value in each of 200 bins of the present one."""
    observation, _ = env.reset(seed=1_000_000)
    seen = [observation]
    for _ in range(127):
        seen.append(env.step(np.zeros((env.num_envs, 1), np.float32))[0])
    now, following = np.concatenate(seen[:-1])[:, 0], np.concatenate(seen[1:])[:, 0]
    order = np.argsort(now)
    edges = np.quantile(now, np.arange(1, 200) / 200)
    medians = np.array([np.median(x) for x in np.array_split(following[order], 200)])
    return lambda e, o: medians[np.digitize(o, edges)].astype(np.float32)


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.5, 1.0])
def test_forecast_states_its_returns(noise: float) -> None:
    env = Forecast(2048, noise=noise)
    assert env.memoryless_return is not None
    assert env.best_return is not None

    def naive(e: BatchEnv, observation: Any) -> Any:
        return observation

    def knows(e: BatchEnv, observation: Any) -> Any:
        assert isinstance(e, Forecast)
        return e.season(e.t + 1)[:, None].astype(np.float32)

    def shrink(factor: float) -> Player:
        return lambda e, o: factor * o

    assert mean_return(env, naive, 128) == pytest.approx(0.0, abs=1e-6)
    assert mean_return(env, knows, 128) == pytest.approx(env.best_return, abs=0.003)
    fitted = fitted_to_pairs(env)
    assert mean_return(env, fitted, 128) == pytest.approx(env.memoryless_return, abs=0.002)
    for factor in np.linspace(0, 0.95, 6):
        assert mean_return(env, shrink(factor), 128) < env.memoryless_return + 0.002


def test_forecast_is_the_series_it_says() -> None:
    env = Forecast(3, noise=0.0)
    observation, _ = env.reset(seed=0)
    amplitude = env.amplitude
    assert ((amplitude >= 0.5) & (amplitude < 1)).all()
    assert len(set(amplitude)) == 3
    for t in range(127):
        expected = amplitude * np.sin(2 * np.pi * t / env.period + env.phase)
        np.testing.assert_allclose(observation[:, 0], expected, atol=1e-5)
        observation, _, terminated, *_ = env.step(np.zeros((3, 1), np.float32))
        assert not terminated.any()
    *_, terminated, truncated, _ = env.step(np.zeros((3, 1), np.float32))
    assert terminated.all()
    assert not truncated.any()


# ---------------------------------------------------------------------------------- probes


def test_the_memory_probe_pays_for_the_sign_only_at_its_end() -> None:
    def knows(e: BatchEnv, observation: Any) -> Any:
        assert isinstance(e, MemoryProbe)
        return e.sign

    assert mean_return(MemoryProbe(64), knows) == 1.0
    assert abs(mean_return(MemoryProbe(64), lambda e, o: np.zeros(64, np.int64), 400)) < 0.05


@pytest.mark.parametrize("action", ["discrete", "multidiscrete", "multibinary", "box"])
def test_the_signal_probe_pays_one_for_the_right_answer(action: str) -> None:
    def knows(e: BatchEnv, observation: Any) -> Any:
        assert isinstance(e, SignalProbe)
        if action == "discrete":
            return e.sign + 3
        if action == "box":
            return (2.0 * e.sign - 1)[:, None].astype(np.float32)
        return np.stack([e.sign, e.sign], axis=1)

    assert mean_return(SignalProbe(32, action=action), knows) == 1.0


def test_the_mask_probe_refuses_what_its_mask_forbids() -> None:
    env = MaskProbe(2)
    _, infos = env.reset(seed=0)
    assert infos["action_mask"].tolist() == [[0, 1, 1]] * 2
    with pytest.raises(ValueError, match="forbidden"):
        env.step(np.array([1, 0]))
