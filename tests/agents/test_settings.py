"""Each field of a settings class holds its declared type, or is refused by name."""

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest
import torch

from recurrent_rl.agents.settings import (
    Must,
    OneOf,
    Read,
    SettingError,
    above,
    at_least,
    at_most,
    between,
    build,
    changed,
    validated,
)


@validated
@dataclass(frozen=True)
class Inner:
    count: Annotated[int, at_least(1)] = 1


@validated
@dataclass(frozen=True)
class Outer:
    truth: bool = True
    whole: Annotated[int, at_least(0), at_most(10_000_000)] = 0
    number: Annotated[float, between(-1, 1)] = 0.0
    free: float = 0.0
    text: str = ""
    path: Annotated[str, Read(lambda _, x: str(x) if isinstance(x, Path) else x)] = "x"
    choice: Literal["constant", "linear"] = "linear"
    named: Annotated[str, OneOf({"lstm": 1, "gru": 2})] = "gru"
    maybe: Annotated[int | None, above(0)] = None
    wholes: tuple[Annotated[int, at_least(0)], ...] = ()
    texts: tuple[str, ...] = ()
    even: Annotated[int, Must("even", lambda value: value % 2 == 0)] = 0
    workers: Annotated[int, at_least(1)] | Literal["auto"] = 1
    shares: dict[str, float] = field(default_factory=dict)
    inner: Inner = field(default_factory=Inner)


class Name(str):
    pass


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("truth", np.bool_(False), False),
        ("truth", torch.tensor(True), True),
        ("whole", np.int64(5), 5),
        ("whole", np.uint8(5), 5),
        ("whole", 1e6, 1_000_000),
        ("whole", np.float32(8.0), 8),
        ("whole", np.array(7), 7),
        ("whole", torch.tensor(7), 7),
        ("whole", Fraction(4, 2), 2),
        ("number", 1, 1.0),
        ("number", np.float32(0.5), 0.5),
        ("number", np.float64(0.5), 0.5),
        ("number", np.longdouble(0.5), 0.5),
        ("number", np.int8(-1), -1.0),
        ("number", torch.tensor(0.25), 0.25),
        ("text", Name("a"), "a"),
        ("text", np.str_("a"), "a"),
        ("path", Path("a") / "b", str(Path("a") / "b")),
        ("choice", np.str_("constant"), "constant"),
        ("named", "lstm", "lstm"),
        ("maybe", None, None),
        ("maybe", 3.0, 3),
        ("maybe", 2**63 - 1, 2**63 - 1),
        ("wholes", [1, 2.0], (1, 2)),
        ("wholes", range(3), (0, 1, 2)),
        ("wholes", np.arange(3), (0, 1, 2)),
        ("texts", ["a"], ("a",)),
        ("workers", 2.0, 2),
        ("workers", "auto", "auto"),
        ("shares", {"a": 1}, {"a": 1.0}),
        ("inner", {"count": 2.0}, Inner(2)),
        ("inner", Inner(3), Inner(3)),
    ],
)
def test_what_means_the_same_is_brought_to_the_declared_type(
    name: str, given: Any, expected: Any
) -> None:
    got = getattr(Outer(**{name: given}), name)
    assert got == expected
    assert type(got) is type(expected)
    if isinstance(expected, dict):
        assert [type(x) for x in got.values()] == [type(x) for x in expected.values()]
    if isinstance(expected, tuple):
        assert [type(x) for x in got] == [type(x) for x in expected]


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("truth", 1, "truth is 1; it must be True or False."),
        ("truth", "false", "truth is 'false'; it must be True or False."),
        ("truth", None, "truth is None; it must be True or False."),
        ("whole", True, "whole is True; it must be a whole number."),
        ("whole", 1.5, "whole is 1.5; it must be a whole number."),
        ("whole", "5", "whole is '5'; it must be a whole number."),
        ("whole", None, "whole is None; it must be a whole number."),
        ("whole", float("nan"), "whole is nan; it must be a whole number."),
        ("whole", float("inf"), "whole is inf; it must be a whole number."),
        ("whole", 2**63, f"whole is {2**63}; it must be a whole number below 2**63."),
        pytest.param(
            "whole",
            10**5000,
            "whole is of type int; it must be a whole number below 2**63.",
            id="digits",
        ),
        ("whole", -1, "whole is -1; it must be at least 0."),
        ("whole", 1e7 + 1, "whole is 10000001; it must be at most 10,000,000."),
        ("whole", np.array([1]), "whole is array([1]); it must be a whole number."),
        ("whole", 1j, "whole is 1j; it must be a whole number."),
        ("whole", torch.empty((), device="meta"), "it must be a whole number."),
        ("number", 2, "number is 2.0; it must be between -1 and 1."),
        ("number", False, "number is False; it must be a finite number"),
        ("number", "0.5", "number is '0.5'; it must be a finite number"),
        ("free", float("nan"), "free is nan; it must be a finite number"),
        ("free", -float("inf"), "free is -inf; it must be a finite number"),
        ("free", 10**400, "it must be a finite number that float32 can hold."),
        ("free", 1e39, "free is 1e+39; it must be a finite number that float32 can hold."),
        ("text", 5, "text is 5; it must be text."),
        ("text", b"a", "text is b'a'; it must be text."),
        ("text", "\udc80", r"text is '\udc80'; it must be text that UTF-8 can hold."),
        ("choice", "Linear", "must be one of constant, linear. Did you mean linear?"),
        ("choice", 3, "choice is 3; it must be one of constant, linear."),
        ("choice", ["linear"], "choice is ['linear']; it must be one of constant, linear."),
        ("named", "lsmt", "named is 'lsmt'; it must be one of lstm, gru. Did you mean lstm?"),
        ("named", "zzz", "named is 'zzz'; it must be one of lstm, gru."),
        ("maybe", 0, "maybe is 0; it must be greater than 0."),
        ("wholes", 3, "wholes is 3; it must be a list or tuple."),
        ("wholes", "12", "wholes is '12'; it must be a list or tuple."),
        ("wholes", [0, -2], "wholes[1] is -2; it must be at least 0."),
        ("wholes", np.array([0.5]), "wholes[0] is 0.5; it must be a whole number."),
        ("wholes", np.zeros((1, 1), int), "wholes[0] is [0]; it must be a whole number."),
        ("texts", "a", "texts is 'a'; it must be a list or tuple."),
        ("even", 3, "even is 3; it must be even."),
        ("workers", "all", "workers is 'all'; it must be auto, or a number."),
        ("workers", 0, "workers is 0; it must be at least 1."),
        ("shares", 3, "shares is 3; it must be a dict."),
        ("shares", {"a": "1"}, "shares.a is '1'; it must be a finite number"),
        ("inner", 3, "inner is 3; it must be of Inner, or a dict of its fields."),
        ("inner", {"count": 0}, "inner.count is 0; it must be at least 1."),
        ("inner", {"cuont": 1}, "inner.cuont is no setting of Inner. Did you mean count?"),
    ],
)
def test_what_cannot_be_is_refused_by_name_with_what_was_expected(
    name: str, given: Any, message: str
) -> None:
    with pytest.raises(SettingError) as refusal:
        Outer(**{name: given})
    assert message in str(refusal.value)


def test_a_value_whose_text_cannot_be_had_is_still_refused() -> None:
    class Mute:
        def __repr__(self) -> str:
            raise RuntimeError

    with pytest.raises(SettingError, match="text is of type Mute; it must be text"):
        Outer(text=Mute())  # type: ignore[arg-type]
    with pytest.raises(SettingError, match=r"wholes is 'a+\.\.\.; it must be a list"):
        Outer(wholes="a" * 10_000)  # type: ignore[arg-type]


def test_settings_are_built_from_all_fields_that_have_no_default() -> None:
    @validated
    @dataclass(frozen=True)
    class Needy:
        name: str
        count: int = 1

    assert build(Needy, {"name": "a"}) == Needy("a")
    with pytest.raises(SettingError, match="name is missing"):
        build(Needy, {"count": 1})
    with pytest.raises(SettingError, match=r"xyz is no setting of Needy. There are name, count"):
        build(Needy, {"name": "a", "xyz": 1})
    with pytest.raises(SettingError, match=r"nmae is no setting of Needy. Did you mean name\?"):
        build(Needy, {"nmae": "a"})  # and not that name is missing


def test_a_dictionary_changes_fields_of_a_nested_class() -> None:
    outer = Outer(whole=3, inner=Inner(4))
    assert changed(outer, {"number": 1}) == Outer(whole=3, number=1.0, inner=Inner(4))
    assert changed(outer, {"inner": {}}) == outer
    assert changed(outer, {"inner": {"count": 5}}).inner == Inner(5)
    assert changed(outer, {"inner": Inner(6)}).inner == Inner(6)
    with pytest.raises(SettingError, match=r"inner.count is 0; it must be at least 1"):
        changed(outer, {"inner": {"count": 0}})
    with pytest.raises(SettingError, match="wohle is no setting of Outer"):
        changed(outer, {"wohle": 0})
    with pytest.raises(SettingError, match=r'of Outer\. Write {"inner": {"count": ...}}'):
        changed(outer, {"count": 0})


def test_a_class_finds_its_fields_in_their_types_when_it_is_made() -> None:
    @validated
    @dataclass(frozen=True)
    class Whole:
        count: int
        other: int = field(default=1, kw_only=True)

        def __post_init__(self) -> None:
            assert (type(self.count), type(self.other)) == (int, int)

    assert Whole(2.0, other=3.0) == Whole(2, other=3)  # type: ignore[arg-type]
    assert Whole(count=2.0).other == 1  # type: ignore[arg-type]
    with pytest.raises(SettingError, match=r"count is 0\.5; it must be a whole number"):
        Whole(0.5)  # type: ignore[arg-type]
    with pytest.raises(SettingError, match=r"cuont is no setting of Whole\. Did you mean count\?"):
        Whole(cuont=2)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="positional"):
        Whole(2, 3)  # type: ignore[call-arg]
