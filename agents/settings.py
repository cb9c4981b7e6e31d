"""How settings are declared and checked: a frozen dataclass, each field with its type and bounds.

    @dataclass(frozen=True)
    class Settings:
        units: Annotated[int, at_least(1)] = 128
        schedule: Literal["constant", "linear"] = "linear"

        def __post_init__(self) -> None:
            settle(self)

Wherever the values come from (Python, JSON, the command line), `settle` brings each to its declared
type, or refuses it by name. A field holds `bool`, `int`, `float`, `str`, a choice (`Literal`), a
tuple of these, a dictionary by text, another settings class, or None or a choice beside one of
them.

What is taken for what:

- `bool`: True and False, NumPy's too; neither 0 and 1 nor text.
- `int`: whole numbers of 64 bits, also as NumPy numbers and as floats such as 1e6.
- `float`: finite numbers that float32 can hold, also whole ones and NumPy's. For numbers and truths
  alike, arrays and tensors without dimensions do.
- `str`: text that UTF-8 can hold.
- tuples: lists, tuples, ranges and NumPy arrays.
- settings classes: their instances, and dictionaries of their fields.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial, wraps
from numbers import Real
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    TypeGuard,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import numpy as np

from recurrent_rl.agents.errors import UserError
from recurrent_rl.agents.other_names import OTHER_NAMES

LARGEST_INT = 2**63 - 1
"""What NumPy, torch and TensorBoard can hold as a whole number."""

LARGEST_FLOAT = float(np.finfo(np.float32).max)
"""What float32, in which agents compute, can hold."""

Settings = TypeVar("Settings")
Reader = Callable[[str, Any], Any]
"""From the name and the value given, the value in its declared type; raises SettingError."""


def none_for_zero(name: str, value: Any) -> Any:
    """None where 0 stood for "by default" or "never" in version 0.1, with a warning."""
    number = _scalar(value)
    if not _is_number(number) or number != 0:
        return value
    warnings.warn(
        f"{name} is 0; write None for that. The next version will refuse 0.",
        FutureWarning,
        stacklevel=2,
    )
    return None


class SettingError(UserError):
    """A setting that cannot be: names it, what came, and what was expected."""


@dataclass(frozen=True)
class Must:
    """What a field requires of its value beside its type, to stand in `Annotated`."""

    be: str
    """What is expected, as the message ends: "at least 1"."""
    holds: Callable[[Any], bool] = dataclasses.field(repr=False)


@dataclass(frozen=True, eq=False)  # by identity: tyro needs a hash
class OneOf:
    """The names a field may have, where they are those of a registry, to stand in `Annotated`."""

    names: Collection[str]
    beside: Must | None = None
    """What is taken too, though it is none of the names."""


@dataclass(frozen=True)
class Read:
    """What a field also takes, made into its type before that is checked; stands in `Annotated`."""

    convert: Reader


def at_least(least: float) -> Must:
    """`value >= least`."""
    return Must(f"at least {least}", lambda value: value >= least)


def above(limit: float) -> Must:
    """`value > limit`."""
    return Must(f"greater than {limit}", lambda value: value > limit)


def at_most(most: float) -> Must:
    """`value <= most`."""
    return Must(f"at most {most:,}", lambda value: value <= most)


def between(low: float, high: float) -> Must:
    """`low <= value <= high`."""
    return Must(f"between {low} and {high}", lambda value: low <= value <= high)


def from_0_below_1() -> Must:
    """`0 <= value < 1`: a probability or share that must not be the whole."""
    return Must("in [0, 1)", lambda value: 0 <= value < 1)


def settle(settings: Any, error: type[ValueError] = SettingError) -> None:
    """Bring each field of a frozen dataclass to its declared type; call it in `__post_init__`.

    Args:
        settings: the new instance; changed in place.
        error: raised for a value that cannot be.

    Raises:
        error: names the field, what came and what was expected, and for a wrong choice the nearest.
    """
    try:
        kind: type = type(settings)
        for name, read in _readers(kind).items():
            given = getattr(settings, name)
            value = read(name, given)
            if value is not given:
                object.__setattr__(settings, name, value)
    except SettingError as refused:
        raise error(str(refused)) from None


def build(kind: type[Settings], fields: Mapping[str, Any]) -> Settings:
    """An instance of the settings class from its fields, for example out of JSON.

    Raises:
        ValueError: a field is unknown, or has no default and is missing (`SettingError`), or cannot
            be (the error of the class).
    """
    if not isinstance(fields, Mapping):
        raise SettingError(
            f"{kind.__name__} is made of {shown(fields)}; it must be a dictionary of its settings."
        )
    _check_names(kind, fields)
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        has_default = (field.default, field.default_factory) != (dataclasses.MISSING,) * 2
        if not has_default and field.name not in fields:
            raise SettingError(f"{field.name} is missing; it has no default.")
    return kind(**fields)


def changed(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    """The settings with these fields changed; a dictionary changes fields of a nested class.

    Raises:
        ValueError: as `build`.
    """
    _check_names(type(settings), changes)
    new = dict(changes)
    for name, value in changes.items():
        now = getattr(settings, name)
        if dataclasses.is_dataclass(now) and isinstance(value, Mapping):
            with within(name):
                new[name] = changed(now, value)
    return dataclasses.replace(settings, **new)  # type: ignore[type-var]


def refusing_other_names(kind: type[Settings]) -> type[Settings]:
    """A decorator of a settings class: an argument that is none of its settings is a SettingError.

    Python's own TypeError does not say what the setting is called here.
    """
    made = kind.__init__

    @wraps(made)
    def init(self: Any, *values: Any, **fields: Any) -> None:
        _check_names(kind, fields)
        made(self, *values, **fields)

    kind.__init__ = init  # type: ignore[method-assign]
    return kind


def missing(kind: type, fields: Mapping[str, Any]) -> list[str]:
    """The fields that are not there, those of nested classes as `agent.memory`."""
    names = []
    for name, hint in _hints(kind).items():
        if name not in fields:
            names.append(name)
        elif _is_settings_class(hint) and isinstance(fields[name], Mapping):
            names += [f"{name}.{inner}" for inner in missing(hint, fields[name])]
    return names


def shown(value: object) -> str:
    """The value as a message shows it."""
    try:
        text = repr(value)
    except Exception:  # a number too long to print, or any fault of a foreign class
        text = f"of type {type(value).__name__}"
    return text if len(text) <= 100 else f"{text[:97]}..."


def check_choice(
    name: str, value: Any, choices: Collection[str], beside: Must | None = None
) -> str:
    """The value, where it is one of the choices, or what is allowed beside them.

    Raises:
        SettingError: names the choices, and the nearest.
    """
    if isinstance(value, str) and (value in choices or (beside and beside.holds(value))):
        return _text(name, value)
    expected = [f"one of {', '.join(choices)}"] if choices else []
    expected += [beside.be] if beside else []
    raise SettingError(refusal(name, value, ", or ".join(expected)) + _nearest(value, choices))


def _nearest(value: Any, choices: Collection[str]) -> str:
    """A hint at the choice that was likely meant; nothing where none is near."""
    near = close_matches(value, choices, most=1, cutoff=0.4) if isinstance(value, str) else []
    return f" Did you mean {near[0]}?" if near else ""


def close_matches(text: str, choices: Iterable[str], most: int, cutoff: float) -> list[str]:
    """So many of the choices that are like the text in any case of letters, the nearest first.

    Args:
        text: what was written.
        choices: what could have been meant.
        most: choices to return.
        cutoff: how alike they must be, from 0 to 1, as for `difflib.get_close_matches`.
    """
    lower = {choice.lower(): choice for choice in choices}
    return [lower[one] for one in difflib.get_close_matches(text.lower(), lower, most, cutoff)]


def refusal(name: str, value: object, expected: str) -> str:
    """The sentence that says what came, and what was expected."""
    return f"{name} is {shown(value)}; it must be {expected}."


def suggestion(name: str, written: Mapping[str, str]) -> str:
    """A sentence that says what was likely meant; nothing where that is not known.

    Args:
        name: that is no setting.
        written: by setting how it is written there.
    """
    if name in written:
        return f" Write {written[name]}."
    ours = OTHER_NAMES.get(name)
    if ours is not None and ours.name in written:
        differs = f" ({ours.differs})" if ours.differs else ""
        return f" Here it is {written[ours.name]}{differs}."
    near = close_matches(name, written, most=1, cutoff=0.5)
    return f" Did you mean {written[near[0]]}?" if near else ""


@contextmanager
def within(name: str) -> Iterator[None]:
    """Let a message about a field say which class's field it is: `agent.memory`."""
    try:
        yield
    except ValueError as refused:
        raise SettingError(f"{name}.{refused}") from None


def _check_names(kind: type, fields: Mapping[str, Any]) -> None:
    known = _hints(kind)
    for name in fields:
        if name not in known:
            hint = suggestion(name, _as_written(kind)) or f" There are {', '.join(known)}."
            raise SettingError(f"{name} is no setting of {kind.__name__}.{hint}")


@cache
def _as_written(kind: type) -> dict[str, str]:
    """How each setting is written in Python, those of nested classes too."""
    written: dict[str, str] = {}
    for name, hint in _hints(kind).items():
        if _is_settings_class(hint):
            example = f"{name}={hint.__name__}"
            written |= {inner: f"{example}({inner}=...)" for inner in _hints(hint)}
    return written | {name: name for name in _hints(kind)}


def _is_settings_class(hint: Any) -> TypeGuard[type]:
    return isinstance(hint, type) and dataclasses.is_dataclass(hint)


@cache
def _hints(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


@cache
def _readers(kind: type) -> dict[str, Reader]:
    return {name: reader(hint) for name, hint in _hints(kind).items()}


def reader(hint: Any) -> Reader:
    """What reads values of this declared type."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        conversions = [note.convert for note in arguments if isinstance(note, Read)]
        checks = [note for note in arguments if isinstance(note, (Must, OneOf))]
        return partial(_read_annotated, reader(arguments[0]), conversions, checks)
    if origin is Literal:
        return partial(check_choice, choices=arguments)
    if origin in (Union, UnionType):
        # A path beside text is made into text before, by the field's `Read`.
        words = [
            word for kind in arguments if get_origin(kind) is Literal for word in get_args(kind)
        ]
        others = [kind for kind in arguments if get_origin(kind) is not Literal]
        kinds = [kind for kind in others if kind not in (NoneType, Path)]
        if not kinds:
            read: Reader = partial(check_choice, choices=words)
        else:
            (inner,) = kinds
            read = partial(_read_beside_words, reader(inner), words) if words else reader(inner)
        return partial(_read_optional, read) if NoneType in arguments else read
    if origin is dict:
        return partial(_read_dict, reader(arguments[1]))
    if origin is tuple:
        return partial(_read_tuple, reader(arguments[0]))
    if _is_settings_class(hint):
        return partial(_read_nested, hint)
    return {bool: _truth, int: _whole, float: _number, str: _text, Any: _as_it_is}[hint]


def _read_annotated(
    read: Reader, conversions: list[Reader], checks: list[Must | OneOf], name: str, value: Any
) -> Any:
    for convert in conversions:
        value = convert(name, value)
    value = read(name, value)
    if value is None:
        return None
    for check in checks:
        if isinstance(check, OneOf):
            check_choice(name, value, check.names, check.beside)
        elif not check.holds(value):
            raise SettingError(refusal(name, value, check.be))
    return value


def _read_optional(read: Reader, name: str, value: Any) -> Any:
    return None if value is None else read(name, value)


def _read_beside_words(read: Reader, words: list[str], name: str, value: Any) -> Any:
    if not isinstance(value, str):
        return read(name, value)
    try:
        return check_choice(name, value, words)
    except SettingError:
        raise SettingError(refusal(name, value, f"{' or '.join(words)}, or a number")) from None


def _read_tuple(read: Reader, name: str, given: Any) -> tuple[Any, ...]:
    values = given.tolist() if isinstance(given, np.ndarray) else given
    if not isinstance(values, (list, tuple, range)):
        raise SettingError(refusal(name, given, "a list or tuple"))
    return tuple(read(f"{name}[{index}]", value) for index, value in enumerate(values))


def _read_dict(read: Reader, name: str, given: Any) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise SettingError(refusal(name, given, "a dict"))
    return {_text(name, key): read(f"{name}.{key}", value) for key, value in given.items()}


def _as_it_is(name: str, value: Any) -> Any:
    return value


def _read_nested(kind: type, name: str, value: Any) -> Any:
    if isinstance(value, kind):
        return value
    if not isinstance(value, Mapping):
        raise SettingError(refusal(name, value, f"of {kind.__name__}, or a dict of its fields"))
    with within(name):
        return build(kind, value)


def _truth(name: str, given: Any) -> bool:
    value = _scalar(given)
    if not isinstance(value, bool):
        raise SettingError(refusal(name, given, "True or False"))
    return value


def _whole(name: str, given: Any) -> int:
    value = _scalar(given)
    if not _is_number(value) or value % 1 != 0:
        raise SettingError(refusal(name, given, "a whole number"))
    number = int(value)
    if abs(number) > LARGEST_INT:
        raise SettingError(refusal(name, given, "a whole number below 2**63"))
    return number


def _number(name: str, given: Any) -> float:
    value = _scalar(given)
    if _is_number(value):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if abs(number) <= LARGEST_FLOAT:
            return number
    raise SettingError(refusal(name, given, "a finite number that float32 can hold"))


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise SettingError(refusal(name, value, "text"))
    try:
        value.encode()
    except UnicodeEncodeError:
        raise SettingError(refusal(name, value, "text that UTF-8 can hold")) from None
    return str.__str__(value)


def _scalar(value: Any) -> Any:
    """A number of NumPy, or an array or tensor without dimensions, as a number of Python."""
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        try:
            return value.item()
        except RuntimeError:  # a tensor on the meta device
            return value
    return value
