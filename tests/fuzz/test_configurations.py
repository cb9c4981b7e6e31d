"""Random settings: refused with an error of ours, or held in their types and saved whole."""

from __future__ import annotations

import dataclasses
import json
import types
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.settings import SettingError
from recurrent_rl.config import TrainConfig
from recurrent_rl.errors import UserError
from recurrent_rl.vector_env.config import EnvConfig

FEW, MANY = 60, 5000
NUMPY = [np.int8, np.uint64, np.float16, np.float64, np.longdouble, np.bool_, np.array]
WORDS = [
    *[
        "linear",
        "Linear",
        "constant",
        "bfloat16",
        "bf16",
        "sync",
        "async",
        "auto",
        "cpu",
        "cuda",
        "cuda:1",
        "cuda:300",
        "meta",
    ],
    *[
        "gru",
        "lstm",
        "lsmt",
        "tanh",
        "relu",
        "num_envs",
        "num_steps",
        "CartPole-v1",
        "module:Env-v3",
        "..",
        "a/b",
        "../b",
    ],
    *["{}", "[]", "null", '{"a":1}', '{"a":NaN}', '{"a":1e999}', "None", "True", "5"],
]
KINDS: tuple[type[Any], ...] = (TrainConfig, AgentConfig, EnvConfig)

numbers = st.one_of(
    st.integers(0, 300),
    st.integers(),
    st.sampled_from([2**31, 2**63 - 1, 2**63, 2**64, -(2**63), 10**400, 1e6, 0.5, -0.0, 1e39]),
    st.floats(0, 1),
    st.floats(),
    st.booleans(),
    st.complex_numbers(),
)
numpy_numbers = st.builds(
    lambda kind, value: kind(value),
    st.sampled_from(NUMPY),
    st.integers(0, 100),
)
words = st.one_of(
    st.text(max_size=8),
    st.text(st.characters(categories=["Cs", "Cc", "L", "P"]), max_size=8),
    st.sampled_from(WORDS),
)
json_values = st.recursive(
    st.one_of(st.none(), numbers, words),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)
values = st.one_of(
    json_values,
    numpy_numbers,
    st.lists(st.integers(-1, 9), max_size=4).map(tuple),
    st.lists(st.integers(0, 9), max_size=4, unique=True).map(lambda x: np.array(x, dtype=np.int64)),
    st.dictionaries(st.integers() | words, numpy_numbers | words, max_size=2),
    st.sampled_from(
        [
            Path("runs"), torch.device("cpu"), torch.tensor(4), torch.tensor([1.5]), b"x", object(),
            {1, 2}, range(3), torch.empty((), device="meta"), AgentConfig("gru"), EnvConfig(),
        ]
    ),
)  # fmt: skip
kinds = st.sampled_from(KINDS)


likely: dict[type[Any], st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    int: st.integers(1, 300),
    float: st.floats(0.01, 0.99) | st.sampled_from([1, 0.5]),
    str: words,
    tuple: st.lists(st.integers(0, 9), max_size=4, unique=True),
}
"""By the type of a field's default, values that likely fit."""


@st.composite
def fields(draw: st.DrawFn, kind: type[Any], of: st.SearchStrategy[Any]) -> dict[str, Any]:
    """A few fields of the class with values that may fit, and now and then an unknown one."""
    defaults = {field.name: field.default for field in dataclasses.fields(kind)}
    chosen = draw(st.lists(st.sampled_from([*defaults, "other"]), unique=True, max_size=3))
    given = {}
    for name in chosen:
        fits = likely.get(type(defaults.get(name)))
        given[name] = draw(fits if fits is not None and draw(st.booleans()) else of)
    if kind is TrainConfig:
        for name, inner in (("agent", AgentConfig), ("env", EnvConfig)):
            if name in given and draw(st.booleans()):
                given[name] = draw(fields(inner, of))
        given.setdefault("env_id", "CartPole-v1")
    return given


def assert_declared(value: Any, hint: Any) -> None:
    """The value has exactly the declared type."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        assert_declared(value, arguments[0])
    elif origin is Literal:
        assert type(value) is str
        assert value in arguments
    elif origin in (Union, types.UnionType):
        if value is not None:
            assert_declared(value, arguments[0])
    elif origin is tuple:
        assert type(value) is tuple
        for item in value:
            assert_declared(item, arguments[0])
    elif origin is dict:
        assert type(value) is dict
        assert all(type(key) is str for key in value)
    elif dataclasses.is_dataclass(hint):
        assert isinstance(value, hint)  # type: ignore[arg-type]
        for name, inner in get_type_hints(hint, include_extras=True).items():
            assert_declared(getattr(value, name), inner)
    else:
        assert type(value) is hint
        assert hint is not float or np.isfinite(value)


def saved_and_read(config: Any) -> Any:
    """The settings after a passage through config.json."""
    if isinstance(config, TrainConfig):
        return TrainConfig.from_json(config.to_json())
    place = "agent" if isinstance(config, AgentConfig) else "env"
    around = TrainConfig("CartPole-v1", **{place: config})
    return getattr(TrainConfig.from_json(around.to_json()), place)


def check(kind: type[Any], given: dict[str, Any], counted: Counter[str]) -> None:
    try:
        # Python itself refuses an argument that no class has.
        config = kind(**{name: value for name, value in given.items() if name != "other"})
    except (UserError, SettingError) as refusal:
        counted["refused"] += 1
        text = str(refusal)
        assert len(text) < 700
        assert any(name in text for name in (*given, "num_envs", "num_minibatches"))
        return
    counted["taken"] += 1
    assert_declared(config, kind)
    again = saved_and_read(config)
    assert again == config
    assert repr(again) == repr(config)
    hash(config)


def check_json(kind: type[Any], given: dict[str, Any], counted: Counter[str]) -> None:
    whole = json.loads(TrainConfig("CartPole-v1").to_json())
    part = whole if kind is TrainConfig else whole["agent" if kind is AgentConfig else "env"]
    part.update(given)
    try:
        config = TrainConfig.from_json(json.dumps(whole, default=repr))
    except UserError:
        counted["refused"] += 1
        return
    counted["taken"] += 1
    assert_declared(config, TrainConfig)
    assert TrainConfig.from_json(config.to_json()) == config


def run(examples: int, derandomize: bool) -> dict[str, Counter[str]]:
    counts: dict[str, Counter[str]] = {"Python": Counter(), "JSON": Counter()}
    options = settings(
        max_examples=examples, derandomize=derandomize, deadline=None, database=None
    )  # fmt: skip

    @options
    @given(st.data())
    def from_python(data: st.DataObject) -> None:
        kind = data.draw(kinds)
        check(kind, data.draw(fields(kind, values)), counts["Python"])

    @options
    @given(st.data())
    def from_json(data: st.DataObject) -> None:
        kind = data.draw(kinds)
        drawn = data.draw(fields(kind, json_values))
        check_json(kind, drawn, counts["JSON"])

    from_python()
    from_json()
    return counts


def assert_both_happen(counts: dict[str, Counter[str]]) -> None:
    for counted in counts.values():
        assert min(counted["refused"], counted["taken"]) > sum(counted.values()) // 20


def test_settings_are_refused_by_name_or_held_in_their_types() -> None:
    assert_both_happen(run(FEW, derandomize=True))


@pytest.mark.slow
def test_thousands_of_settings_are_refused_by_name_or_held_in_their_types() -> None:
    counts = run(MANY, derandomize=False)
    print({way: dict(counted) for way, counted in counts.items()})
    assert_both_happen(counts)
