"""An instance of a settings class from its fields, or from another instance and changes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeGuard, TypeVar, get_type_hints

from recurrent_rl.agents.settings.other_names import suggestion
from recurrent_rl.agents.settings.refusals import SettingError, shown, within

Settings = TypeVar("Settings")


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
    check_names(kind, fields)
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
    check_names(type(settings), changes, in_dictionaries=True)
    new = dict(changes)
    for name, value in changes.items():
        now = getattr(settings, name)
        if dataclasses.is_dataclass(now) and isinstance(value, Mapping):
            with within(name):
                new[name] = changed(now, value)
    return dataclasses.replace(settings, **new)  # type: ignore[type-var]


@cache
def hints_of(kind: type) -> dict[str, Any]:
    """The declared type of each field, by its name."""
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def is_settings_class(hint: Any) -> TypeGuard[type]:
    """Whether a declared type is a settings class."""
    return isinstance(hint, type) and dataclasses.is_dataclass(hint)


def check_names(kind: type, fields: Mapping[str, Any], in_dictionaries: bool = False) -> None:
    """Refuse a name that is no setting of the class, with what it is called here.

    Args:
        kind: the class.
        fields: by their names.
        in_dictionaries: those of nested classes are written in a dictionary, as in JSON.
    """
    known = hints_of(kind)
    for name in fields:
        if name not in known:
            hint = suggestion(name, _as_written(kind, in_dictionaries))
            hint = hint or f" There are {', '.join(known)}."
            raise SettingError(f"{name} is no setting of {kind.__name__}.{hint}")


@cache
def _as_written(kind: type, in_dictionaries: bool) -> dict[str, str]:
    """How each setting is written, those of nested classes too."""
    written: dict[str, str] = {}
    for name, hint in hints_of(kind).items():
        if is_settings_class(hint):
            before, after = f"{name}={hint.__name__}(", "=...)"
            if in_dictionaries:
                before, after = f'{{"{name}": {{"', '": ...}}'
            written |= {inner: f"{before}{inner}{after}" for inner in hints_of(hint)}
    return written | {name: name for name in hints_of(kind)}
