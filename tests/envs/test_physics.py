"""CartPole, Pendulum and MountainCar against Gymnasium's."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from recurrent_rl.envs.batch import BatchEnv
from recurrent_rl.envs.cartpole import CartPole
from recurrent_rl.envs.mountain_car import MountainCar
from recurrent_rl.envs.pendulum import Pendulum
from tests.envs.players import mean_return


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
