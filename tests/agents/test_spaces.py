"""Spaces: leaves of nested observations, refusals by name, and the round trip through JSON."""

import json
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector.utils import batch_space

from recurrent_rl.agents.spaces import (
    ObservationError,
    UnsupportedSpaceError,
    first_nonfinite,
    leaf_arrays,
    leaf_spaces,
    space_from_json,
    space_to_json,
    stack_observations,
)

PIXELS = spaces.Dict({"pixels": spaces.Box(0, 255, (4, 5, 3), np.uint8)})
NESTED = spaces.Dict(
    {
        "b": spaces.Discrete(3, start=1),
        "a": spaces.Tuple((spaces.Box(-1, 1, (2,)), PIXELS)),
        "c": spaces.MultiBinary(2),
    }
)


def test_leaves_are_named_by_their_path_in_the_spaces_order() -> None:
    assert list(leaf_spaces(NESTED)) == ["a/0", "a/1/pixels", "b", "c"]
    assert list(leaf_spaces(spaces.Discrete(3))) == [""]


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-np.inf, np.inf, (3,)),
        spaces.Discrete(4, start=-2),
        spaces.MultiDiscrete([2, 3], start=[1, -1]),
        spaces.MultiBinary((2, 2)),
        NESTED,
    ],
    ids=str,
)
def test_batched_and_stacked_observations_give_the_same_leaves(space: gym.Space[Any]) -> None:
    space.seed(0)
    singles = [space.sample() for _ in range(5)]
    stacked = leaf_arrays(space, stack_observations(space, singles))
    assert list(stacked) == list(leaf_spaces(space))
    for path, leaf in leaf_spaces(space).items():
        assert stacked[path].shape == (5, *(leaf.shape or ()))
    batched = batch_space(space, 5)
    batched.seed(1)
    leaf_arrays(space, batched.sample())


def test_discrete_leaves_count_from_zero() -> None:
    assert leaf_arrays(spaces.Discrete(4, start=-2), np.array([-2, 1]))[""].tolist() == [0, 3]
    space = spaces.MultiDiscrete([2, 3], start=[1, -1])
    assert leaf_arrays(space, np.array([[2, -1]]))[""].tolist() == [[1, 0]]


@pytest.mark.parametrize(
    ("space", "observation", "message"),
    [
        (spaces.Box(-1, 1, (3,)), np.zeros((2, 4)), r"has shape \[2, 4\]; expected a batch \[B, 3"),
        (spaces.Box(-1, 1, (3,)), np.zeros(3), r"has shape \[3\]"),
        (spaces.Box(-1, 1, (1,)), np.array([["x"]]), "is of type <U1"),
        (spaces.Discrete(3), np.array([0, 3, 1]), "of copy 1 is 3, which is not in Discrete"),
        (spaces.MultiDiscrete([2, 3]), np.array([[0, 0], [0, -1]]), "of copy 1 is"),
        (spaces.Dict({"a": spaces.Discrete(2)}), {"b": np.array([1])}, "lacks 'a'"),
        (
            spaces.Dict({"a": spaces.Box(-1, 1, (2,))}),
            {"a": np.zeros((1, 3))},
            r"under 'a' has shape \[1, 3\]",
        ),
    ],
)
def test_an_observation_outside_its_space_is_refused(
    space: gym.Space[Any], observation: Any, message: str
) -> None:
    with pytest.raises(ObservationError, match=message):
        leaf_arrays(space, observation)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (spaces.Text(5), r"Text.* is not supported. Use Box, Discrete"),
        (spaces.Dict({"a": spaces.Sequence(spaces.Discrete(2))}), "under 'a' is not supported"),
        (spaces.Dict({"a/b": spaces.Discrete(2)}), "key 'a/b'"),
        (spaces.Dict({}), "nothing to see"),
    ],
)
def test_an_unsupported_observation_space_is_refused_by_name(
    space: gym.Space[Any], message: str
) -> None:
    with pytest.raises(UnsupportedSpaceError, match=message):
        leaf_spaces(space)


def test_the_first_nan_or_infinity_is_found_by_leaf_and_copy() -> None:
    good = np.zeros((4, 2))
    bad = good.copy()
    bad[2, 1] = np.inf
    assert first_nonfinite({"a": good, "n": np.zeros(4, np.int64)}) is None
    assert first_nonfinite({"a": good, "b": bad}) == ("b", 2)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-np.inf, np.inf, (3,)),
        spaces.Box(np.array([-1, -np.inf], np.float32), np.array([0.1, 2], np.float32)),
        spaces.Box(0, 255, (4, 5, 3), np.uint8),
        spaces.Box(-1, 1, ()),
        spaces.Box(-(2**62), 2**62, (2,), np.int64),
        spaces.Box(0.1, 0.3, (2,), np.float64),
        spaces.Discrete(5, start=-2),
        spaces.MultiDiscrete(np.array([[2, 3], [4, 5]]), start=np.array([[1, 1], [0, 0]])),
        spaces.MultiBinary(3),
        spaces.MultiBinary([2, 3]),
        NESTED,
    ],
    ids=str,
)
def test_a_space_is_the_same_after_json(space: gym.Space[Any]) -> None:
    again = space_from_json(json.loads(json.dumps(space_to_json(space))))
    assert again == space
    assert list(leaf_spaces(again)) == list(leaf_spaces(space))
