"""Spaces: components of nested observations, refusals by name, and the round trip through JSON."""

import inspect
import json
import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector.utils import batch_space
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from recurrent_rl.agents.spaces import (
    ObservationError,
    UnsupportedSpaceError,
    check_action_space,
    component_arrays,
    component_spaces,
    first_nonfinite,
    space_from_json,
    space_to_json,
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
        spaces.MultiBinary([3]),
        spaces.MultiBinary([2, 3]),
        spaces.Box(-1, 1, (0, 3)),
        spaces.Box(0, 2**64 - 1, (2,), np.uint64),
        spaces.Box(
            np.array([0, 2**63], np.uint64), np.array([1, 2**64 - 1], np.uint64), dtype=np.uint64
        ),
        spaces.Box(0, 1, (2,), dtype=BOOL),
        spaces.MultiDiscrete(np.array(5)),
        spaces.Tuple((spaces.Dict({}), spaces.Discrete(2))),
        NESTED,
        spaces.Dict([("b", spaces.Discrete(2)), ("a", spaces.Discrete(2))]),
        spaces.Dict(d=spaces.Discrete(2), c=spaces.Dict(f=spaces.Discrete(2), e=PIXELS)),
    ],
    ids=str,
)
def test_a_space_is_the_same_after_json(space: gym.Space[Any]) -> None:
    again = space_from_json(json.loads(json.dumps(space_to_json(space))))
    assert again == space
    # Equal Dicts may differ in order, and the encoder's weights go by the order of the components.
    assert space_to_json(again) == space_to_json(space)


def test_a_subclass_is_saved_as_the_space_it_is() -> None:
    class Velocity(spaces.Box):
        pass

    assert space_from_json(space_to_json(Velocity(-1, 1, (2,)))) == spaces.Box(-1, 1, (2,))


def test_a_space_that_cannot_be_saved_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedSpaceError, match="Text"):
        space_to_json(spaces.Dict({"a": spaces.Text(5)}))


@pytest.mark.skipif(
    "dtype" not in inspect.signature(spaces.Discrete.__init__).parameters,
    reason="this Gymnasium has int64 Discrete only",
)
def test_the_type_of_a_discrete_is_the_same_after_json() -> None:
    space = spaces.Discrete(3, dtype=np.int32)
    again = space_from_json(json.loads(json.dumps(space_to_json(space))))
    assert again == space
    assert again.dtype == np.int32


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


# ------------------------------------------------------------------- any space, through a file

EXAMPLES = pytest.mark.parametrize(
    "examples", [60, pytest.param(3000, marks=pytest.mark.slow)], ids=["few", "many"]
)
integer_types: st.SearchStrategy[Any] = st.sampled_from(
    [np.int8, np.int32, np.int64, np.uint8, np.uint16, np.uint64]
)
float_types = st.sampled_from([np.float16, np.float32, np.float64])


@st.composite
def boxes(draw: st.DrawFn) -> spaces.Box:
    """Limits that are alike or each its own, infinite, at the ends of their type; any shape."""
    dtype = np.dtype(draw(integer_types | float_types | st.just(np.bool_)))
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
    numbers = hnp.from_dtype(dtype, allow_nan=False)
    one, other = (draw(hnp.arrays(dtype, shape, elements=numbers)) for _ in range(2))
    low, high = np.array(np.minimum(one, other)), np.array(np.maximum(one, other))
    if dtype.kind == "f":  # nothing is above infinity, or below minus infinity
        low[low == np.inf] = 0
        high[high == -np.inf] = 0
    return spaces.Box(low, high, dtype=dtype.type)


@st.composite
def multi_discretes(draw: st.DrawFn) -> spaces.MultiDiscrete:
    shape = draw(st.lists(st.integers(1, 3), max_size=2).map(tuple))
    count = math.prod(shape)
    integers = st.lists(st.integers(1, 100), min_size=count, max_size=count)
    nvec, start = (np.array(draw(integers)).reshape(shape) for _ in range(2))
    return spaces.MultiDiscrete(nvec, dtype=draw(integer_types), start=start - 1)


components = st.one_of(
    boxes(),
    st.builds(spaces.Discrete, st.integers(1, 2**20), start=st.integers(-(2**40), 2**40)),
    multi_discretes(),
    st.builds(spaces.MultiBinary, st.integers(1, 5) | st.lists(st.integers(1, 4), min_size=1)),
)
any_space = st.recursive(
    components,
    lambda inner: (
        st.builds(spaces.Tuple, st.lists(inner, max_size=3))
        | st.lists(
            st.tuples(st.text(min_size=1, max_size=3).filter(lambda key: "/" not in key), inner),
            max_size=3,
            unique_by=lambda pair: pair[0],
        ).map(spaces.Dict)
    ),
    max_leaves=5,
)


@EXAMPLES
def test_any_space_is_the_same_after_json(examples: int) -> None:
    @settings(max_examples=examples, derandomize=True, deadline=None, database=None)
    @given(any_space)
    def check(space: gym.Space[Any]) -> None:
        fields = json.loads(json.dumps(space_to_json(space)))
        again = space_from_json(fields)
        assert again == space
        # Gymnasium's equality overlooks the order of keys, and small differences of limits.
        assert space_to_json(again) == fields
        assert exactly(again) == exactly(space)

    check()


def exactly(space: gym.Space[Any]) -> Any:
    """A space as values that are equal only where all of it is."""
    if isinstance(space, spaces.Dict):
        return [(key, exactly(inner)) for key, inner in space.spaces.items()]
    if isinstance(space, spaces.Tuple):
        return [exactly(inner) for inner in space.spaces]
    kept = [getattr(space, name, None) for name in ("low", "high", "n", "nvec", "start")]
    return type(space), space.shape, space.dtype, [np.asarray(x).tolist() for x in kept]


@pytest.mark.parametrize(
    "fields",
    [
        None,
        7,
        [],
        {},
        {"type": []},
        {"type": "Box"},
        {"type": "Box", "low": 0, "high": 1, "shape": [-1], "dtype": "float32"},
        {"type": "Box", "low": 0, "high": 1, "shape": [1.5], "dtype": "float32"},
        {"type": "Box", "low": 0, "high": 1, "shape": 3, "dtype": "float32"},
        {"type": "Box", "low": 0, "high": 1, "shape": [1], "dtype": "object"},
        {"type": "Box", "low": 0, "high": 1, "shape": [1], "dtype": "S1000000000"},
        {"type": "Box", "low": 0, "high": 1, "shape": [1], "dtype": ["float32"]},
        {"type": "Box", "low": [[0], [0, 0]], "high": 1, "shape": [1], "dtype": "float32"},
        {"type": "Box", "low": {}, "high": 1, "shape": [1], "dtype": "float32"},
        {"type": "Box", "low": 0.5, "high": 1, "shape": [1], "dtype": "int8"},
        {"type": "Box", "low": 0, "high": 300, "shape": [1], "dtype": "int8"},
        {"type": "Box", "low": 2, "high": 1, "shape": [1], "dtype": "float32"},
        {"type": "Box", "low": 0, "high": 10**400, "shape": [1], "dtype": "float32"},
        {"type": "Discrete", "n": 0, "start": 0},
        {"type": "Discrete", "n": 2**70, "start": 0},
        {"type": "Discrete", "n": True, "start": 0},
        {"type": "Discrete", "n": 2, "start": "0"},
        {"type": "MultiDiscrete", "nvec": [2.5], "start": [0], "dtype": "int64"},
        {"type": "MultiDiscrete", "nvec": ["2"], "start": [0], "dtype": "int64"},
        {"type": "MultiDiscrete", "nvec": [2], "start": [0, 0], "dtype": "int64"},
        {"type": "MultiDiscrete", "nvec": [2], "start": [0], "dtype": "float32"},
        {"type": "MultiBinary", "n": [0]},
        {"type": "MultiBinary", "n": "3"},
        {"type": "Dict", "spaces": 3},
        {"type": "Dict", "spaces": [["a"]]},
        {"type": "Dict", "spaces": [[["a"], {"type": "MultiBinary", "n": [1]}]]},
        {"type": "Tuple", "spaces": {"a": 1}},
        {"type": "Graph"},
    ],
    ids=str,
)
def test_json_of_no_space_is_refused(fields: Any) -> None:
    with pytest.raises(ValueError, match=r"[a-z]"):
        space_from_json(fields)


def test_json_of_a_space_too_deep_is_refused() -> None:
    fields: Any = {"type": "MultiBinary", "n": [1]}
    for _ in range(5000):
        fields = {"type": "Tuple", "spaces": [fields]}
    with pytest.raises(ValueError, match="RecursionError"):
        space_from_json(fields)


def test_json_of_a_space_too_large_is_refused_before_there_is_memory_for_it() -> None:
    box = {"type": "Box", "low": 0, "high": 1, "shape": [10**6, 10**6], "dtype": "float32"}
    fields = {"type": "Tuple", "spaces": [{"type": "Dict", "spaces": [["a", box]]}]}
    with pytest.raises(ValueError, match="has 1,000,000,000,000 entries, more than 5"):
        space_from_json(fields, most_entries=5)


def test_a_flat_multi_binary_of_an_older_file_is_a_number_of_bits() -> None:
    assert space_from_json({"type": "MultiBinary", "n": [3]}) == spaces.MultiBinary(3)


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
