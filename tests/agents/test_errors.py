"""One class of errors for users: every error that a user can mend is one, and has a public name."""

import importlib
import pkgutil
import re
import sys
from collections.abc import Iterator

import pytest

import recurrent_rl
from recurrent_rl import agents
from recurrent_rl.agents.errors import UserError

PUBLIC = sorted(name for name in recurrent_rl.__all__ if name.endswith("Error"))


def error_classes() -> Iterator[type[Exception]]:
    """Every error class that a module of the library defines."""
    for found in pkgutil.walk_packages(recurrent_rl.__path__, "recurrent_rl."):
        if not found.name.rpartition(".")[2].startswith("_"):  # __main__, and the kernel in C
            importlib.import_module(found.name)
    for name, module in list(sys.modules.items()):
        if name.startswith("recurrent_rl"):
            for value in vars(module).values():
                is_error = isinstance(value, type) and issubclass(value, Exception)
                if is_error and value.__module__ == name:
                    yield value


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_error_is_a_user_error_made_of_its_message(name: str) -> None:
    kind = getattr(recurrent_rl, name)
    assert issubclass(kind, UserError)
    assert issubclass(kind, ValueError)
    assert str(kind("Mend it.")) == "Mend it."
    if kind.__module__.startswith("recurrent_rl.agents"):
        assert getattr(agents, name) is kind
    assert (kind.__doc__ or "").strip()


def test_every_error_class_of_the_library_is_a_public_user_error() -> None:
    assert sorted({kind.__name__ for kind in error_classes()}) == PUBLIC


def test_the_docstring_names_them_all() -> None:
    named = re.findall(r"^ *- `(\w+)`: ", UserError.__doc__ or "", re.MULTILINE)
    assert sorted([*named, "UserError"]) == PUBLIC
