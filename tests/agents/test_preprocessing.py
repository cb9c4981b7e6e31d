"""What is done to raw observations, by their space, and what a file says of it."""

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.files import PolicyFileError, load_tensors, save_tensors
from recurrent_rl.agents.moments import Moments
from recurrent_rl.agents.policy import Policy, load_policy
from recurrent_rl.agents.policy_file import KIND, VERSION
from recurrent_rl.agents.preprocessing import Reader, affine, read_rewards, scaling_of
from recurrent_rl.agents.settings import SettingError
from recurrent_rl.agents.spaces import ObservationError, UnsupportedSpaceError

INF = np.inf


def box(low: Any, high: Any, shape: tuple[int, ...], dtype: Any) -> spaces.Box:
    return spaces.Box(low, high, shape, dtype)


@pytest.mark.parametrize(
    ("space", "scaling"),
    [
        (box(0, 255, (8, 8, 3), np.uint8), "bounds"),
        (box(0, 1, (10, 10, 4), np.uint8), "bounds"),  # planes of bits
        (box(0, 1, (10, 10, 4), np.bool_), "bounds"),
        (box(0, 255, (4,), np.uint8), "bounds"),
        (box(-128, 127, (4,), np.int8), "bounds"),
        (box(0, 65535, (8, 8, 1), np.uint16), "bounds"),
        (box(0, 1000, (2,), np.int32), "bounds"),
        (box(-(2**31), 2**31 - 1, (2,), np.int32), "centred"),
        (box(0, 255, (8, 8, 3), np.float32), "bounds"),
        (box(0, 1, (8, 8, 3), np.float64), "bounds"),
        (box(-INF, INF, (8, 8, 3), np.float32), "running"),
        (box(-1, 1, (4,), np.float32), "running"),
        (box(-1e30, 1e30, (4,), np.float32), "running"),
        (box(-1, 1, (4,), np.float64), "centred"),
        (box(2**20 - 10, 2**20, (2,), np.int64), "bounds"),
        (box(10**9, 10**9 + 10, (2,), np.int64), "centred"),
        (box(-(10**9), 10 - 10**9, (2,), np.int32), "centred"),
        (spaces.Discrete(4), "none"),
        (spaces.MultiBinary(4), "none"),
    ],
    ids=str,
)
def test_bounds_scale_integers_and_images_and_statistics_the_rest(
    space: gym.Space[Any], scaling: str
) -> None:
    assert scaling_of(space) == scaling


@pytest.mark.parametrize(
    "space",
    [
        box(0, 255, (8, 8, 3), np.uint8),
        box(0, 1, (10, 10, 4), np.uint8),
        box(0, 65535, (8, 8, 1), np.uint16),
        box(-128, 127, (5,), np.int8),
        box(0, 255, (8, 8, 3), np.float32),
        spaces.Box(np.array([0, -5, 3]), np.array([10, 5, 3]), dtype=np.int64),
    ],
    ids=str,
)
def test_bounds_bring_the_least_value_to_zero_and_the_greatest_to_one(space: spaces.Box) -> None:
    scaled = affine(space, "bounds")
    assert scaled is not None
    factor, summand = scaled
    low, high = (torch.as_tensor(x.astype(np.float32)) for x in (space.low, space.high))
    assert torch.allclose(low * factor + summand, torch.zeros_like(low), atol=1e-6)
    assert torch.allclose((high * factor + summand)[high > low], torch.tensor(1.0), atol=1e-6)


@pytest.mark.parametrize("kind", ["bits", "grid", "bool"])
def test_bits_look_the_same_in_every_type(kind: str) -> None:
    shape = (4, 4, 1) if kind == "grid" else (4,)
    dtype = np.bool_ if kind == "bool" else np.uint8
    torch.manual_seed(0)
    agent = ActorCritic(box(0, 1, shape, dtype), spaces.Discrete(2), AgentConfig("none"))
    trunk: Any = agent.trunks[0]
    features = trunk.encoder.features[0]
    if kind == "grid":
        x = torch.ones(1, *shape, dtype=torch.uint8)
        assert torch.equal(features.scaled(x), x.float())
    else:
        x = torch.tensor([[0, 1, 1, 0]], dtype=torch.uint8)
        assert torch.equal(features(x), x.float())


def test_pixels_without_bounds_share_their_statistics() -> None:
    space = box(-INF, INF, (6, 6, 2), np.float32)
    agent = ActorCritic(space, spaces.Discrete(2), AgentConfig("none"))
    x = 7 + 3 * torch.randn(20, 5, 6, 6, 2, generator=torch.Generator().manual_seed(0))
    agent.observation_normaliser.update({"": x}, torch.ones(20, 5, dtype=torch.bool))
    seen = agent.observation_normaliser({"": x})[""]
    assert abs(float(seen.mean())) < 1e-3
    assert float(seen.std()) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("dtype", "offset"),
    [(np.float64, 1.7e9), (np.int64, 2**62), (np.uint64, 2**63 + 2**40), (np.int32, -(2**31) + 9)],
)
def test_what_float32_cannot_tell_apart_is_centred_first(dtype: Any, offset: float) -> None:
    limits: Any = np.finfo if dtype is np.float64 else np.iinfo
    reader = Reader(box(limits(dtype).min, limits(dtype).max, (3,), dtype))
    first = np.full((2, 3), offset, dtype=dtype)
    reader.centre_on(first)
    steps = np.array([[0, 1, 2], [3, 2, 1]], dtype=dtype)
    seen = reader.read(first + steps)[""].astype(np.float32)
    assert (seen - seen[0, 0]).tolist() == [[0, 1, 2], [3, 2, 1]]


def test_what_is_near_zero_is_not_centred() -> None:
    reader = Reader(box(-INF, INF, (3,), np.float64))
    reader.centre_on(np.full((2, 3), 500.0))
    assert reader.read(np.ones((1, 3)))[""].tolist() == [[1, 1, 1]]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
def test_numbers_that_are_not_finite_are_refused_by_component_and_environment(value: float) -> None:
    reader = Reader(spaces.Dict({"v": box(-INF, INF, (2,), np.float64)}))
    with pytest.raises(ObservationError, match="under 'v' of environment 1 holds NaN or infinity"):
        reader.read({"v": np.array([[0.0, 0.0], [0.0, value]])})


@pytest.mark.parametrize(
    ("space", "far"),
    [
        (box(0, 1, (8, 8, 3), np.float32), 255),
        (box(0, 255, (8, 8, 3), np.float32), -300),
        (box(0, 1, (8, 8), np.uint8), 3),
        (box(10, 20, (2,), np.int64), 31),
        (box(0, 1, (3,), np.int8), -2),
        (spaces.Box(np.array([0, 5]), np.array([9, 5]), dtype=np.int64), 19),
    ],
    ids=str,
)
def test_what_is_far_outside_of_the_bounds_that_scale_it_is_refused(
    space: spaces.Box, far: int
) -> None:
    policy = Policy(ActorCritic(space, spaces.Discrete(2), AgentConfig("none")))
    near = np.minimum(2 * space.high - space.low, far - 1).astype(space.dtype)
    if far < 0:
        near = (2 * space.low - space.high).astype(space.dtype)
    for actor in (policy.actor(), policy.actor(runner="fast")):
        actor.act(near)  # outside, and of the same unit
        for kind in (space.dtype, np.dtype(np.int64)):
            observation = near.astype(kind)
            observation[(0,) * near.ndim] = far
            with pytest.raises(
                ObservationError, match=rf"holds {far}(\.0)? at \[0.* far outside of"
            ):
                actor.act(observation)


def test_what_has_no_value_outside_of_its_bounds_is_not_looked_at() -> None:
    for space in (box(0, 255, (8, 8, 3), np.uint8), box(0, 1, (4, 4, 2), np.bool_)):
        assert not Reader(space).reach


def test_observations_are_read_from_lists_and_tensors_too() -> None:
    reader = Reader(box(-1, 1, (2,), np.float32))
    rows = [[0.5, -0.5], [0.0, 1.0]]
    for given in (rows, np.array(rows), torch.tensor(rows), torch.tensor(rows, requires_grad=True)):
        assert reader.read(given)[""].tolist() == rows


def test_hidden_entries_are_dropped_from_raw_observations() -> None:
    reader = Reader(box(-1, 1, (4,), np.float32), hide_indices=(1, 3))
    assert reader.read([[0.0, 0.1, 0.2, 0.3]])[""].tolist() == [[0.0, pytest.approx(0.2)]]
    assert reader.component_spaces[""].shape == (2,)


@pytest.mark.parametrize(
    ("space", "hidden", "message"),
    [
        (box(-1, 1, (3,), np.float32), (3,), "no entry 3 to hide: entries are 0 to 2"),
        (box(-1, 1, (2,), np.float32), (0, 1), "leaves nothing to observe"),
        (box(-1, 1, (2, 2), np.float32), (0,), r"is a Box\(2, 2\)\. .*the wrapper flatten"),
        (spaces.Discrete(3), (0,), r"hides entries of a vector.* is a Discrete\. "),
    ],
)
def test_entries_that_are_not_there_cannot_be_hidden(
    space: gym.Space[Any], hidden: tuple[int, ...], message: str
) -> None:
    with pytest.raises(UnsupportedSpaceError, match=message):
        Reader(space, hidden)


def policy_of(space: gym.Space[Any], **kwargs: Any) -> Policy:
    torch.manual_seed(0)
    return Policy(ActorCritic(space, spaces.Discrete(3), AgentConfig("gru", 8), **kwargs))


def test_a_file_says_what_is_hidden_and_how_the_rest_is_scaled(tmp_path: Path) -> None:
    space = box(-INF, INF, (4,), np.float64)
    policy = policy_of(space, hide_indices=(2,))
    policy.agent.reader.centre_on(np.full((1, 4), 1.7e9))
    path = tmp_path / "p.safetensors"
    policy.save(path)
    _, text = load_tensors(path, KIND, VERSION)
    assert json.loads(text["preprocessing"]) == {"hide_indices": [2], "scaling": {"": "centred"}}
    again, state, own = load_policy(path), None, None
    assert again.observation_space == space
    for t in range(5):
        raw = 1.7e9 + np.random.default_rng(t).standard_normal((3, 4))
        changed = raw.copy()
        changed[:, 2] = -5e8
        a, own = policy.predict(raw, own, deterministic=True)
        b, state = again.predict(changed, state, deterministic=True)
        np.testing.assert_array_equal(a, b)
        for x, y in zip(own.memory, state.memory, strict=True):
            assert torch.equal(x, y)


def test_a_file_of_format_1_keeps_the_scaling_it_was_trained_with(tmp_path: Path) -> None:
    space = spaces.Dict(
        {
            "bits": box(0, 1, (3,), np.uint8),
            "image": box(0, 1, (8, 8, 1), np.float32),
            "int": box(0, 10, (2,), np.int32),
        }
    )
    of_format_1 = {"bits": "bytes", "image": "none", "int": "running"}
    policy = policy_of(space, scaling=of_format_1)
    path = tmp_path / "p.safetensors"
    policy.save(path)
    tensors, text = load_tensors(path, KIND, VERSION)
    del text["preprocessing"]
    save_tensors(path, tensors, text, KIND, 1)
    again = load_policy(path)
    assert again.agent.reader.scaling == of_format_1
    components = {"bits": torch.ones(1, 3, dtype=torch.uint8)}
    trunk: Any = again.agent.trunks[0]
    features = trunk.encoder.features[0]
    assert torch.allclose(features(components["bits"]), torch.full((1, 3), 1 / 255))


def test_whole_numbers_far_from_zero_are_told_apart_also_within_narrow_bounds() -> None:
    policy = policy_of(box(10**9, 10**9 + 10, (1,), np.int64))
    values = np.arange(10**9, 10**9 + 11)[:, None]
    policy.agent.reader.centre_on(values)
    encoder: Any = policy.agent.trunks[0].encoder
    seen = encoder.features[0](torch.as_tensor(policy.agent.reader.read(values)[""]))
    assert len({*seen.flatten().tolist()}) == 11


def test_a_policy_that_was_scaled_by_bounds_far_from_zero_stays_so(tmp_path: Path) -> None:
    space, path = box(10**9, 10**9 + 10, (1,), np.int64), tmp_path / "p.safetensors"
    policy_of(space, scaling={"": "bounds"}).save(path)
    assert load_policy(path).agent.reader.scaling == {"": "bounds"}


def test_an_unknown_scaling_is_refused() -> None:
    with pytest.raises(ValueError, match="scaling is 'log'; it must be one of none, bounds"):
        Reader(spaces.Discrete(2), scaling={"": "log"})


@pytest.mark.parametrize(
    ("space", "scaling", "message"),
    [
        (spaces.Discrete(2), "bounds", r"scaling is 'bounds'; it must be 'none' of a Discrete"),
        (spaces.MultiBinary(3), "running", "it must be 'none' of a MultiBinary"),
        (box(-INF, 1, (2,), np.float32), "bounds", "has not all bounds"),
    ],
    ids=str,
)
def test_a_scaling_that_a_component_cannot_have_is_refused(
    space: gym.Space[Any], scaling: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(SettingError, match=message):
        Reader(space, scaling={"": scaling})
    path = tmp_path / "p.safetensors"
    policy_of(space).save(path)
    tensors, text = load_tensors(path, KIND, VERSION)
    text["preprocessing"] = json.dumps({"hide_indices": [], "scaling": {"": scaling}})
    save_tensors(path, tensors, text, KIND, VERSION)
    with pytest.raises(PolicyFileError, match=message):
        load_policy(path)


def test_several_workers_subtract_what_is_far_from_zero_in_all_of_them() -> None:
    space = spaces.Box(-np.inf, np.inf, (2,), np.float64)
    reader = Reader(space)
    other = Moments.of(torch.tensor([[3e6, 5.0], [3e6, 5.0]]))
    reader.centre_on(np.array([[1e6, 7.0], [1e6, 7.0]]), lambda own: [own[0] + other])
    assert reader.read(np.array([[2e6 + 1, 6.0]]))[""].tolist() == [[1.0, 6.0]]


def test_where_an_episode_starts_no_reward_came_before_whatever_is_given() -> None:
    start = np.array([True, False])
    assert read_rewards([np.nan, 2.0], start).tolist() == [0.0, 2.0]
    assert read_rewards(5.0, start).tolist() == [0.0, 5.0]
    with pytest.raises(ObservationError, match="finite"):
        read_rewards([0.0, np.nan], start)
