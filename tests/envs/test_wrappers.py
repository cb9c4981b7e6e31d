"""Wrappers that hide information hide what they say, repeatably."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from recurrent_rl.envs.wrappers import Flicker, HideIndices, ObservationNoise


class Counting(gym.Env[Any, Any]):
    """Observes [1, 2, 3] times the step's number, from 1."""

    observation_space: gym.Space[Any] = spaces.Box(-1e6, 1e6, (3,), np.float32)
    action_space = spaces.Discrete(2)
    t = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 1
        return np.array([1, 2, 3], np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.t += 1
        return self.t * np.array([1, 2, 3], np.float32), 0.0, False, False, {}


def play(env: gym.Env[Any, Any], steps: int, seed: int | None = 0) -> np.ndarray[Any, Any]:
    seen = [env.reset(seed=seed)[0]]
    seen += [env.step(0)[0] for _ in range(steps - 1)]
    assert all(env.observation_space.contains(x) for x in seen)
    return np.stack(seen)


def test_hidden_indices_are_gone() -> None:
    assert play(HideIndices(Counting(), [1]), 2).tolist() == [[1, 3], [2, 6]]


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ([3], "no entry 3 to hide: entries are 0 to 2"),
        ([-1], "no entry -1"),
        ([0, 1, 2], "nothing"),
    ],
)
def test_indices_that_cannot_be_hidden_are_refused(indices: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HideIndices(Counting(), indices)


def test_flicker_shows_zeros_as_often_as_it_says() -> None:
    seen = play(Flicker(Counting(), 0.3), 5000)
    hidden = (seen == 0).all(axis=1)
    assert hidden.mean() == pytest.approx(0.3, abs=0.03)
    steps = np.arange(1, 5001)[~hidden]
    np.testing.assert_array_equal(seen[~hidden], steps[:, None] * np.array([1, 2, 3]))


def test_flicker_widens_a_space_without_zero() -> None:
    env = Counting()
    env.observation_space = spaces.Box(1, 1e6, (3,), np.float32)
    assert Flicker(env, 0.5).observation_space == spaces.Box(0, 1e6, (3,), np.float32)


def test_noise_has_its_standard_deviation() -> None:
    seen = play(ObservationNoise(Counting(), 0.5), 3000)
    clean = np.arange(1, 3001)[:, None] * np.array([1, 2, 3])
    assert seen.dtype == np.float32
    assert (seen - clean).std() == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize("wrap", [lambda e: Flicker(e, 0.5), lambda e: ObservationNoise(e, 1.0)])
def test_what_is_hidden_is_repeated_by_the_seed(wrap: Any) -> None:
    first, second, other = (play(wrap(Counting()), 40, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()


class Drawing(Counting):
    """Observes what it draws."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.np_random.standard_normal(3).astype(np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.np_random.standard_normal(3).astype(np.float32), 0.0, False, False, {}


def test_what_is_hidden_has_nothing_to_do_with_what_the_environment_draws() -> None:
    clean = play(Drawing(), 500)
    noise = play(ObservationNoise(Drawing(), 1.0), 500) - clean
    assert abs(np.corrcoef(noise.ravel(), clean.ravel())[0, 1]) < 0.1


@pytest.mark.parametrize("wrap", [lambda e: Flicker(e, 0.5), lambda e: ObservationNoise(e, 1.0)])
def test_a_reset_without_a_seed_goes_on_with_the_same_draws(wrap: Any) -> None:
    envs = [wrap(Counting()) for _ in range(2)]
    first, second = ([play(env, 20, seed) for seed in (1, None, None)] for env in envs)
    np.testing.assert_array_equal(first, second)
    assert (first[0] != first[1]).any()
    assert (first[1] != first[2]).any()


@pytest.mark.parametrize(
    "wrap",
    [
        lambda e: HideIndices(e, [0]),
        lambda e: Flicker(e, 0.5),
        lambda e: ObservationNoise(e, 0.5),
    ],
)
def test_a_space_they_do_not_know_is_refused_by_name(wrap: Any) -> None:
    with pytest.raises(ValueError, match=r"needs a Box observation; .* observes Discrete"):
        wrap(gym.make("FrozenLake-v1"))


@pytest.mark.parametrize("probability", [-0.1, 1.0])
def test_flicker_needs_a_probability(probability: float) -> None:
    with pytest.raises(ValueError, match="probability is"):
        Flicker(Counting(), probability)


BOOL: Any = np.bool_  # Gymnasium takes it, and its types do not say so


class Sampling(Counting):
    """Observes samples of a space."""

    def __init__(self, space: gym.Space[Any]) -> None:
        self.observation_space = space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), 0.0, False, False, {}


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(1, 2, ()),
        spaces.Box(-np.inf, np.inf, (), np.float64),
        spaces.Box(5, 9, (), np.int64),
        spaces.Box(5, 9, (), np.uint8),
        spaces.Box(0, 1, (), dtype=BOOL),
        spaces.Box(0, 1, (3,), dtype=BOOL),
        spaces.Box(-128, -3, (2, 2), np.int8),
        spaces.Box(1, 2, (3,), np.float16),
        spaces.Box(-1, 1, (0,)),
    ],
    ids=str,
)
def test_a_box_of_any_type_and_shape_can_flicker(space: spaces.Box) -> None:
    env = Flicker(Sampling(space), 0.5)
    assert (env.observation_space.shape, env.observation_space.dtype) == (space.shape, space.dtype)
    seen = play(env, 30)
    assert seen.dtype == space.dtype
    shown = seen.reshape(30, -1).any(axis=1)
    assert shown.any() == bool(seen.size)
    assert not shown.all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_single_number_can_have_noise(dtype: Any) -> None:
    seen = play(ObservationNoise(Sampling(spaces.Box(1, 2, (), dtype)), 0.5), 200)
    assert (seen.shape, seen.dtype) == ((200,), dtype)
    assert seen.std() == pytest.approx(np.hypot(0.5, 1 / 12**0.5), rel=0.2)


def test_entries_of_any_type_can_be_hidden() -> None:
    types: list[Any] = [np.bool_, np.uint8, np.int64, np.float16]
    for dtype in types:
        env = HideIndices(Sampling(spaces.Box(0, 1, (3,), dtype)), [1])
        assert (play(env, 5).shape, env.observation_space.dtype) == ((5, 2), dtype)


@pytest.mark.parametrize("std", [-0.1, np.nan, np.inf])
def test_noise_needs_a_standard_deviation(std: float) -> None:
    with pytest.raises(ValueError, match=r"std is .* must be a finite number"):
        ObservationNoise(Counting(), std)


def test_each_wrapper_draws_from_a_stream_of_its_own() -> None:
    flicker = Flicker(Counting(), 0.0)
    noise = ObservationNoise(flicker, 1.0)
    noise.reset(seed=0)
    generators: list[Any] = [flicker.generator, noise.generator, flicker.np_random]
    assert len({str(x.bit_generator.seed_seq.entropy) for x in generators}) == 3
