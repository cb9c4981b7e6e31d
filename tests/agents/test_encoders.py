"""Encoders: one vector for any observation, the same for a step and a sequence."""

import math
from itertools import cycle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from recurrent_rl.agents.encoders import Encoder
from recurrent_rl.agents.layers import ACTIVATIONS
from recurrent_rl.agents.spaces import component_arrays, component_spaces, stack_observations

SPACES: list[gym.Space[Any]] = [
    spaces.Box(-1, 1, (3,)),
    spaces.Box(-1, 1, ()),
    spaces.Box(-1, 1, (2, 3)),
    spaces.Box(0, 255, (12, 12, 3), np.uint8),
    spaces.Box(0, 255, (3, 84, 84), np.uint8),
    spaces.Box(0, 255, (9, 7), np.uint8),
    spaces.Box(0, 1, (5, 5, 2)),
    spaces.Discrete(7),
    spaces.MultiDiscrete([3, 50]),
    spaces.MultiBinary(4),
    spaces.Dict({"a": spaces.Discrete(2), "b": spaces.Tuple((spaces.Box(-1, 1, (2,)),))}),
]


def components_of(space: gym.Space[Any], count: int) -> dict[str, torch.Tensor]:
    space.seed(0)
    stacked = stack_observations(space, [space.sample() for _ in range(count)])
    return {path: torch.as_tensor(x) for path, x in component_arrays(space, stacked).items()}


@pytest.mark.parametrize(
    ("space", "activation"), [*zip(SPACES, cycle(ACTIVATIONS), strict=False)], ids=str
)
def test_a_sequence_is_encoded_as_its_steps_are(space: gym.Space[Any], activation: str) -> None:
    torch.manual_seed(0)
    encoder = Encoder(component_spaces(space), 16, 1, activation)
    components = components_of(space, 6)
    flat = encoder(components)
    assert flat.shape == (6, encoder.output_size) == (6, 16)
    sequence = encoder({path: x.unflatten(0, (3, 2)) for path, x in components.items()})
    torch.testing.assert_close(sequence.flatten(0, 1), flat)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_every_component_has_a_part_in_the_features(space: gym.Space[Any]) -> None:
    torch.manual_seed(0)
    encoder = Encoder(component_spaces(space), 8, 1, "tanh")
    components = components_of(space, 12)
    before = encoder(components)
    for path, x in components.items():
        moved = encoder({**components, path: x.roll(1, 0)})
        assert not torch.equal(moved, before)


@pytest.mark.parametrize("shape", [(8, 8, 1), (128,), (2, 8, 8, 1)], ids=str)
def test_bytes_are_scaled_to_one(shape: tuple[int, ...]) -> None:
    encoder = Encoder(component_spaces(spaces.Box(0, 255, shape, np.uint8)), 8, 0, "tanh")
    white = torch.full((1, *shape), 255, dtype=torch.uint8)
    encoder_float = Encoder(component_spaces(spaces.Box(0, 1, shape)), 8, 0, "tanh")
    encoder_float.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(encoder({"": white}), encoder_float({"": white.float() / 255}))


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64, torch.bool])
def test_numbers_of_any_type_are_encoded_as_float32(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    encoder = Encoder(component_spaces(spaces.Box(-1, 1, (3,))), 8, 1, "tanh")
    x = torch.tensor([[1.0, 0.0, 1.0]])
    assert torch.equal(encoder({"": x.to(dtype)}), encoder({"": x}))


def test_silenced_components_are_zero_where_an_episode_starts() -> None:
    torch.manual_seed(0)
    space = spaces.Dict({"a": spaces.Box(-1, 1, (2,)), "previous": spaces.Discrete(4)})
    encoder = Encoder(component_spaces(space), 8, 1, "tanh", frozenset({"previous"}))
    a = torch.ones(2, 2)
    start = torch.tensor([True, False])
    one = encoder({"a": a, "previous": torch.tensor([1, 1])}, start)
    two = encoder({"a": a, "previous": torch.tensor([3, 3])}, start)
    assert torch.equal(one[0], two[0])
    assert not torch.equal(one[1], two[1])
    assert one[:, -1].tolist() == [1, 0]  # the last feature says where


def test_without_layers_the_features_are_passed_on_as_they_are() -> None:
    encoder = Encoder(component_spaces(spaces.Box(-1, 1, (3,))), 8, 0, "tanh")
    x = torch.tensor([[0.5, -1.0, 0.0]])
    assert encoder({"": x}).tolist() == [[0.5, -1.0, 0.0, 0.0]]


def test_one_hot_vectors_stand_one_behind_the_other() -> None:
    space = spaces.Dict(
        {
            "d": spaces.Discrete(3),
            "m": spaces.MultiDiscrete(np.array([[2, 4]]), start=np.array([[5, 0]])),
        }
    )
    encoder = Encoder(component_spaces(space), 8, 0, "tanh", one_hot=True)
    assert not list(encoder.parameters())
    raw = {"d": np.array([2, 0]), "m": np.array([[[5, 3]], [[6, 0]]])}
    components = {k: torch.as_tensor(x) for k, x in component_arrays(space, raw).items()}
    expected = [[0, 0, 1, 1, 0, 0, 0, 0, 1, 0], [1, 0, 0, 0, 1, 1, 0, 0, 0, 0]]
    assert encoder(components).tolist() == expected
    assert encoder({k: x.unsqueeze(1) for k, x in components.items()}).shape == (2, 1, 10)


def test_an_image_has_as_many_features_as_are_asked_for() -> None:
    components = component_spaces(spaces.Box(0, 255, (9, 9, 3), np.uint8))
    assert Encoder(components, 8, 0, "tanh", image_features=11).output_size == 12


@pytest.mark.parametrize(
    ("shape", "channels"),
    [
        *(((84, 84, 3), 3), ((4, 84, 84), 4), ((210, 160, 3), 3), ((3, 210, 160), 3)),
        *(((8, 8, 111), 111), ((111, 8, 8), 111), ((7, 7, 12), 12), ((12, 7, 7), 12)),
        *(((6, 7, 2), 2), ((2, 6, 7), 2), ((5, 5, 5), 5), ((9, 1, 1), 9), ((9, 5, 3), 3)),
    ],
)
def test_the_channels_of_an_image_are_told_from_its_sides(
    shape: tuple[int, ...], channels: int
) -> None:
    encoder = Encoder(component_spaces(spaces.Box(0, 1, shape, np.uint8)), 8, 0, "tanh")
    first = next(module for module in encoder.modules() if isinstance(module, nn.Conv2d))
    assert first.in_channels == channels
    assert encoder({"": torch.zeros(2, *shape)}).shape == (2, encoder.output_size)


@pytest.mark.parametrize("inputs", [2, 32, 500])
def test_inputs_of_unit_variance_are_not_thinned_out(inputs: int) -> None:
    torch.manual_seed(0)
    encoder = Encoder(component_spaces(spaces.Box(-9, 9, (inputs,))), 128, 1, "relu")
    linear = encoder.layers[0]
    spread = float(linear(torch.randn(4000, inputs)).detach().std())
    assert spread == pytest.approx(math.sqrt(2), rel=0.1)
