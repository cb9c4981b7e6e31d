"""Spaces: components of nested observations, and refusals by name."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector.utils import batch_space

from recurrent_rl.agents.spaces import (
    ObservationError,
    UnsupportedSpaceError,
    check_action_space,
    component_arrays,
    component_spaces,
    first_nonfinite,
    stack_observations,
    storage_dtype,
)

BOOL: Any = np.bool_  # Gymnasium takes it, and its types do not say so
PIXELS = spaces.Dict({"pixels": spaces.Box(0, 255, (4, 5, 3), np.uint8)})
NESTED = spaces.Dict(
    {
        "b": spaces.Discrete(3, start=1),
        "a": spaces.Tuple((spaces.Box(-1, 1, (2,)), PIXELS)),
        "c": spaces.MultiBinary(2),
    }
)


def test_components_are_named_by_their_path_in_the_spaces_order() -> None:
    assert list(component_spaces(NESTED)) == ["a/0", "a/1/pixels", "b", "c"]
    assert list(component_spaces(spaces.Discrete(3))) == [""]


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
def test_batched_and_stacked_observations_give_the_same_components(space: gym.Space[Any]) -> None:
    space.seed(0)
    singles = [space.sample() for _ in range(5)]
    stacked = component_arrays(space, stack_observations(space, singles))
    assert list(stacked) == list(component_spaces(space))
    for path, component in component_spaces(space).items():
        assert stacked[path].shape == (5, *(component.shape or ()))
    batched = batch_space(space, 5)
    batched.seed(1)
    component_arrays(space, batched.sample())


def test_discrete_components_count_from_zero() -> None:
    assert component_arrays(spaces.Discrete(4, start=-2), np.array([-2, 1]))[""].tolist() == [0, 3]
    space = spaces.MultiDiscrete([2, 3], start=[1, -1])
    assert component_arrays(space, np.array([[2, -1]]))[""].tolist() == [[1, 0]]


@pytest.mark.parametrize(
    ("space", "observation", "message"),
    [
        (spaces.Box(-1, 1, (3,)), np.zeros((2, 4)), r"has shape \[2, 4\]; expected a batch \[B, 3"),
        (spaces.Box(-1, 1, (3,)), np.zeros(3), r"has shape \[3\]"),
        (spaces.Box(-1, 1, (1,)), np.array([["x"]]), "is of type <U1"),
        (spaces.Discrete(3), np.array([0, 3, 1]), "environment 1 is 3, which is not in Discrete"),
        (spaces.MultiDiscrete([2, 3]), np.array([[0, 0], [0, -1]]), "of environment 1 is"),
        (spaces.Discrete(3), np.array([1.7]), "is of type float64; expected integers of Discrete"),
        (spaces.Discrete(3), np.array([np.nan]), "is of type float64; expected integers"),
        (spaces.MultiBinary(2), np.array([[1, 0], [1, 2]]), r"of environment 1 is 2 at \[1\]"),
        (spaces.MultiBinary(2), np.array([[1, np.nan]]), r"of environment 0 is nan at \[1\]"),
        (
            spaces.Box(0, 255, (2,), np.uint8),
            np.array([[1, 256]]),
            r"environment 0 is 256 at \[1\]",
        ),
        (spaces.Box(0, 255, (2,), np.uint8), np.array([[-1, 0]]), r"environment 0 is -1 at \[0\]"),
        (spaces.Box(0, 255, (2,), np.uint8), np.zeros((1, 2)), "expected integers of Box"),
        (spaces.Box(-1, 1, (2,)), [[0, 1], [0]], r"is ragged; expected a batch \[B, 2\]"),
        (spaces.Box(-1, 1, (2,)), np.array([[1, None]]), "is of type object; expected numbers"),
        (spaces.Dict({"a": spaces.Discrete(2)}), {"b": np.array([1])}, r"lacks 'a'.* keys \['b'\]"),
        (spaces.Dict({"a": spaces.Discrete(2)}), np.array([1]), "lacks 'a'.* a ndarray"),
        (spaces.Tuple((spaces.Discrete(2),) * 2), (np.array([1]),), "lacks '1'.* a tuple"),
        (
            spaces.Dict({"a": spaces.Discrete(2), "b": spaces.Discrete(2)}),
            {"a": np.array([1]), "b": np.array([1, 0])},
            "different batches: {'a': 1, 'b': 2}",
        ),
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
        component_arrays(space, observation)


@pytest.mark.parametrize(
    ("observations", "message"),
    [
        ([{"b": {"x": [0.0]}}, {"b": {}}], r"under 'b' lacks 'x'.* keys \[\]"),
        ([{"b": {"x": [0.0]}}, {"b": {"x": [0.0, 1.0]}}], "under 'b/x' .* differ in shape"),
    ],
)
def test_observations_that_cannot_be_stacked_are_refused_by_path(
    observations: list[Any], message: str
) -> None:
    space = spaces.Dict({"b": spaces.Dict({"x": spaces.Box(-1, 1, (1,))})})
    with pytest.raises(ObservationError, match=message):
        stack_observations(space, observations)


def test_values_of_another_type_but_within_the_space_are_taken() -> None:
    assert component_arrays(spaces.Discrete(4), [3, 0])[""].tolist() == [3, 0]
    assert component_arrays(spaces.Discrete(4), np.array([3], np.uint8))[""].dtype == np.int64
    byte = spaces.Box(0, 255, (1,), np.uint8)
    assert component_arrays(byte, np.array([[255]]))[""].tolist() == [[255]]
    assert component_arrays(spaces.MultiBinary(2), np.array([[0.0, 1.0]]))[""].tolist() == [[0, 1]]


def test_a_box_component_is_not_copied() -> None:
    observation = np.zeros((2, 3), np.float32)
    assert component_arrays(spaces.Box(-1, 1, (3,)), observation)[""] is observation


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (spaces.Text(5), r"Text.* is not supported. Use Box, Discrete"),
        (spaces.Dict({"a": spaces.Sequence(spaces.Discrete(2))}), "under 'a' is not supported"),
        (spaces.Dict({"a/b": spaces.Discrete(2)}), "key 'a/b'"),
        (spaces.Dict([("1", spaces.Discrete(2)), (1, spaces.Discrete(3))]), "key 1;"),  # type: ignore[list-item]
        (spaces.Dict({}), "nothing to see"),
        (spaces.Tuple(()), "nothing to see"),
        (spaces.Tuple((spaces.Dict({}), spaces.Box(-1, 1, (0, 3)))), "nothing to see"),
        (spaces.Box(-1, 1, (0,)), "nothing to see"),
        (spaces.Dict({"a": spaces.MultiDiscrete([])}), "under 'a' has no entries"),
        (spaces.Box(-1, 1, (2,), np.longdouble), "is of type .*, which PyTorch does not have"),
        (spaces.Discrete(2**40), "has 1,099,511,627,776 values; there is no memory"),
        (spaces.MultiDiscrete([2**62] * 4 + [5]), "has 18,446,744,073,709,551,621 values"),
    ],
)
def test_an_unsupported_observation_space_is_refused_by_name(
    space: gym.Space[Any], message: str
) -> None:
    with pytest.raises(UnsupportedSpaceError, match=message):
        component_spaces(space)


def test_the_first_nan_or_infinity_is_found_by_component_and_environment() -> None:
    good = np.zeros((4, 2))
    bad = good.copy()
    bad[2, 1] = np.inf
    assert first_nonfinite({"a": good, "n": np.zeros(4, np.int64)}) is None
    assert first_nonfinite({"a": good, "b": bad}) == ("b", 2)
    bad[1, 0] = np.nan
    assert first_nonfinite({"b": bad}) == ("b", 1)
    assert first_nonfinite({"b": bad.astype(np.float16)}) == ("b", 1)


def test_a_number_too_large_for_float32_counts_as_infinite() -> None:
    assert first_nonfinite({"": np.array([[0.0], [-1e39]])}) == ("", 1)
    assert first_nonfinite({"": np.array([[0.0], [-1e38]])}) is None


@pytest.mark.parametrize(
    ("space", "dtype"),
    [
        (spaces.Box(-1, 1, (2,), np.float64), torch.float32),
        (spaces.Box(-5, 5, (2,), np.int64), torch.float32),
        (spaces.Box(0, 255, (4, 4, 3), np.uint8), torch.uint8),
        (spaces.Discrete(2), torch.int64),
        (spaces.MultiDiscrete([2, 3]), torch.int64),
        (spaces.MultiBinary(2), torch.uint8),
    ],
    ids=str,
)
def test_a_component_is_stored_in_a_type_that_holds_it(
    space: gym.Space[Any], dtype: torch.dtype
) -> None:
    assert storage_dtype(space) is dtype


@pytest.mark.parametrize(
    "space",
    [
        spaces.Text(5),
        spaces.Dict({"a": spaces.Discrete(2)}),
        spaces.Box(0, 9, (1,), np.int64),
        spaces.Box(0, 9, (1,), np.longdouble),
        spaces.MultiDiscrete([]),
        spaces.MultiDiscrete(np.ones((2, 0), np.int64)),
        spaces.Box(-1, 1, (0,)),
        spaces.Box(-1, 1, (2, 0)),
        spaces.Discrete(2**40),
    ],
    ids=str,
)
def test_an_unsupported_action_space_is_refused_by_name(space: gym.Space[Any]) -> None:
    with pytest.raises(UnsupportedSpaceError, match=type(space).__name__):
        check_action_space(space)


def test_a_component_or_dict_without_entries_beside_others_adds_nothing() -> None:
    space = spaces.Dict(
        {
            "a": spaces.Dict({}),
            "b": spaces.Box(-1, 1, (0, 4, 3)),
            "c": spaces.Box(0, 255, (0, 3), np.uint8),
            "d": spaces.Box(-1, 1, (2,)),
            "e": spaces.Tuple(()),
        }
    )
    batch = stack_observations(space, [space.sample() for _ in range(3)])
    found = component_arrays(space, batch)
    assert list(found) == list(component_spaces(space)) == ["b", "c", "d"]
    assert [x.shape for x in found.values()] == [(3, 0, 4, 3), (3, 0, 3), (3, 2)]
