"""Bandit, ladder, T-maze, Recall, Forecast and the probes against the returns they state."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from recurrent_rl.envs.bandit import MultiarmedBandit
from recurrent_rl.envs.batch import BatchEnv
from recurrent_rl.envs.forecast import Forecast
from recurrent_rl.envs.ladder import Ladder
from recurrent_rl.envs.probes import MaskProbe, MemoryProbe, SignalProbe
from recurrent_rl.envs.recall import Recall
from recurrent_rl.envs.tmaze import TMaze
from tests.envs.players import Player, mean_return


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
