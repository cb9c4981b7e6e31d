"""Spaces through JSON: any comes back equal, and what is no space is refused."""

import inspect
import json
import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from recurrent_rl.agents.space_json import space_from_json, space_to_json
from recurrent_rl.agents.spaces import UnsupportedSpaceError
from tests.agents.test_spaces import BOOL, NESTED, PIXELS


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
