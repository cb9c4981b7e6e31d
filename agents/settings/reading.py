"""How a value is brought to the type that its field declares, whatever that is made of."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache, partial, wraps
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

import numpy as np

from recurrent_rl.agents.settings.building import (
    Settings,
    build,
    check_names,
    hints_of,
    is_settings_class,
)
from recurrent_rl.agents.settings.refusals import SettingError, refusal, within
from recurrent_rl.agents.settings.requirements import Must, OneOf, Parser, Read
from recurrent_rl.agents.settings.values import (
    check_choice,
    read_bool,
    read_float,
    read_int,
    read_str,
)


def validated(kind: type[Settings]) -> type[Settings]:
    """A decorator of a frozen dataclass: each argument is of its field's declared type, or refused.

    The class raises a `SettingError`, which names the field, what came and what was expected, and
    for a wrong choice the nearest; also where there is no such field, and Python would not say what
    it is called here. Defaults are taken as they are. `__post_init__` finds the fields in their
    types.
    """
    made, any_kind = kind.__init__, cast(type, kind)
    positional = [field.name for field in dataclasses.fields(kind) if not field.kw_only]  # type: ignore[arg-type]

    @wraps(made)
    def init(self: Any, *values: Any, **named: Any) -> None:
        check_names(kind, named)
        parsers = _parsers(any_kind)
        first = [parsers[name](name, x) for name, x in zip(positional, values, strict=False)]
        read = {name: parsers[name](name, x) for name, x in named.items()}
        made(self, *first, *values[len(positional) :], **read)  # too many are Python's to refuse

    kind.__init__ = init  # type: ignore[method-assign]
    return kind


@cache
def _parsers(kind: type) -> dict[str, Parser]:
    return {name: parser(hint) for name, hint in hints_of(kind).items()}


def parser(hint: Any) -> Parser:
    """What reads values of this declared type."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        conversions = [note.convert for note in arguments if isinstance(note, Read)]
        checks = [note for note in arguments if isinstance(note, (Must, OneOf))]
        return partial(_read_annotated, parser(arguments[0]), conversions, checks)
    if origin is Literal:
        return partial(check_choice, choices=arguments)
    if origin in (Union, UnionType):
        return _union_parser(arguments)
    if origin is dict:
        return partial(_read_dict, parser(arguments[1]))
    if origin is tuple:
        return partial(_read_tuple, parser(arguments[0]))
    if is_settings_class(hint):
        return partial(_read_nested, hint)
    return {
        bool: read_bool,
        int: read_int,
        float: read_float,
        str: read_str,
        Any: _as_it_is,
    }[hint]


def _union_parser(arguments: tuple[Any, ...]) -> Parser:
    """What reads a value of one of these: a type, choices, None."""
    # A path beside text is made into text before, by the field's `Read`.
    words = [word for kind in arguments if get_origin(kind) is Literal for word in get_args(kind)]
    others = [kind for kind in arguments if get_origin(kind) is not Literal]
    kinds = [kind for kind in others if kind not in (NoneType, Path)]
    if not kinds:
        read: Parser = partial(check_choice, choices=words)
    else:
        (inner,) = kinds
        read = partial(_read_beside_words, parser(inner), words) if words else parser(inner)
    return partial(_read_optional, read) if NoneType in arguments else read


def _read_annotated(
    read: Parser, conversions: list[Parser], checks: list[Must | OneOf], name: str, value: Any
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


def _read_optional(read: Parser, name: str, value: Any) -> Any:
    return None if value is None else read(name, value)


def _read_beside_words(read: Parser, words: list[str], name: str, value: Any) -> Any:
    if not isinstance(value, str):
        return read(name, value)
    try:
        return check_choice(name, value, words)
    except SettingError:
        raise SettingError(refusal(name, value, f"{' or '.join(words)}, or a number")) from None


def _read_tuple(read: Parser, name: str, given: Any) -> tuple[Any, ...]:
    values = given.tolist() if isinstance(given, np.ndarray) else given
    if not isinstance(values, (list, tuple, range)):
        raise SettingError(refusal(name, given, "a list or tuple"))
    return tuple(read(f"{name}[{index}]", value) for index, value in enumerate(values))


def _read_dict(read: Parser, name: str, given: Any) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise SettingError(refusal(name, given, "a dict"))
    return {read_str(name, key): read(f"{name}.{key}", value) for key, value in given.items()}


def _as_it_is(name: str, value: Any) -> Any:
    return value


def _read_nested(kind: type, name: str, value: Any) -> Any:
    if isinstance(value, kind):
        return value
    if not isinstance(value, Mapping):
        raise SettingError(refusal(name, value, f"of {kind.__name__}, or a dict of its fields"))
    with within(name):
        return build(kind, value)
