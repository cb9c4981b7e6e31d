"""Settings as the command line shows them: without nesting, in groups with titles.

tyro makes a box of its help from each nested class, titled by the field's name. So the settings of
a class, and of the classes within it, are dealt out to one class a group; what was read is put back
together.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, TypeVar, get_type_hints

import tyro

Arguments = TypeVar("Arguments")


@dataclass(frozen=True)
class Setting:
    """A field of a settings class: its declared type, its default and what it is for."""

    hint: Any
    field: dataclasses.Field[Any]
    text: str

    def as_field(self, defaults: Mapping[str, Any]) -> tuple[str, Any, Any]:
        """As `make_dataclass` takes it; the docstring is on one line, for the help to break it.

        Args:
            defaults: instead of the class's own, by name.
        """
        if self.field.name in defaults:
            value = defaults[self.field.name]
            copied: Any = dataclasses.field(default_factory=lambda: value)
        else:
            copied = dataclasses.field(
                default=self.field.default, default_factory=self.field.default_factory
            )
        return self.field.name, Annotated[self.hint, tyro.conf.arg(help=self.text)], copied

    @property
    def written(self) -> str:
        """How the command line takes it: its flag, or what stands for a positional argument."""
        given = _given_to_tyro(self.hint)
        if tyro.conf.Positional in getattr(self.hint, "__metadata__", ()):
            shown = next((note.metavar for note in given if note.metavar), self.field.name.upper())
            return f"{shown}, without a flag"
        name = next((note.name for note in given if note.name), self.field.name)
        return f"--{name.replace('_', '-')}"


def settings_of(kind: type) -> dict[str, Setting]:
    """The settings of a class and of the classes within it, by name."""
    hints, texts = get_type_hints(kind, include_extras=True), _docstrings(kind)
    found: dict[str, Setting] = {}
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            found |= settings_of(hint)
        else:
            text = texts.get(field.name) or next(x.help for x in _given_to_tyro(hint) if x.help)
            found[field.name] = Setting(hint, field, text)
    return found


def _given_to_tyro(hint: Any) -> list[Any]:
    """The `tyro.conf.arg(...)` of a declared type."""
    notes = getattr(hint, "__metadata__", ())
    return [note for note in notes if isinstance(note, type(tyro.conf.arg()))]


def grouped(
    kind: type, groups: Mapping[str, Sequence[str]], defaults: Mapping[str, Any] | None = None
) -> type:
    """A class of the same settings, in which each group is a class of its own.

    Args:
        kind: the settings class.
        groups: the names of settings by the title of their group; the rest stays outside.
        defaults: instead of the class's own, by name.
    """
    defaults = defaults or {}
    settings = settings_of(kind)
    nested = {name for names in groups.values() for name in names}
    fields = [one.as_field(defaults) for name, one in settings.items() if name not in nested]
    for title, names in groups.items():
        box = dataclasses.make_dataclass(
            title.replace("-", "_"),
            [settings[name].as_field(defaults) for name in names],
            frozen=True,
        )
        fields.append((box.__name__, box, dataclasses.field(default_factory=box)))
    return dataclasses.make_dataclass(
        kind.__name__, fields, frozen=True, namespace={"__doc__": kind.__doc__}
    )


def ungrouped(kind: type[Arguments], given: Any) -> Arguments:
    """The settings class from an instance of its `grouped` one."""
    values: dict[str, Any] = {}
    for name, value in vars(given).items():
        values |= vars(value) if dataclasses.is_dataclass(value) else {name: value}
    return _filled(kind, values)


def _filled(kind: type[Arguments], values: Mapping[str, Any]) -> Arguments:
    hints = get_type_hints(kind)
    return kind(
        **{
            field.name: _filled(hints[field.name], values)
            if dataclasses.is_dataclass(hints[field.name])
            else values[field.name]
            for field in dataclasses.fields(kind)  # type: ignore[arg-type]
        }
    )


def _docstrings(kind: type) -> dict[str, str]:
    """The string under each field of a class, on one line."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(definition, ast.ClassDef)
    return {
        field.target.id: " ".join(text.value.value.split())
        for field, text in pairwise(definition.body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }
