"""Classes and functions by `module:name`: imported by it, and named by it."""

from __future__ import annotations

import importlib
import inspect
import sys
from operator import attrgetter
from types import ModuleType
from typing import Any

from recurrent_rl.agents.raising import place
from recurrent_rl.agents.settings import SettingError, did_you_mean

_MAIN = ("__main__", "__mp_main__")


def is_class_path(text: str) -> bool:
    """Whether the text has the form `module:Class`."""
    module, colon, name = text.partition(":")
    return bool(colon) and all(part.isidentifier() for part in (module + "." + name).split("."))


def class_path(part: type) -> str:
    """The `module:Class` of a class."""
    return f"{part.__module__}:{part.__qualname__}"


def import_module(name: str, whose: str) -> Any:
    """Import a module for what a user named.

    Args:
        name: of the module.
        whose: for the message: "memory 'module:Class'".

    Raises:
        SettingError: there is no such module, or one that it imports is missing.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if name.endswith(".py"):
            module = ".".join(part for part in name[:-3].split("/") if part.isidentifier())
            hint = f"A module is named without .py: {module}:..., not {name}:..."
        elif where := place(error):
            hint = f"Mend that import{where}, or install what it needs."
        else:
            hint = "Is it on the Python path?"
        raise SettingError(
            f"Module {name!r} of {whose} cannot be imported ({error}). {hint}"
        ) from error


def imported(text: str, what: str) -> Any:
    """The function or class that `module:name` names; its module is imported.

    Args:
        text: `module:name`; the name may be a dotted path.
        what: it is looked up as, for messages: "memory".

    Raises:
        SettingError: the module cannot be imported, has no such attribute, or it cannot be called.
    """
    name, _, path = text.rpartition(":")
    module = import_module(name, f"{what} {text!r}")
    if not has(module, path):
        hint = did_you_mean(path, public_callables(module), f"{name}:")
        raise SettingError(f"Module {name!r} has no {what} {path!r}.{hint}")
    thing = attrgetter(path)(module)
    if not callable(thing):
        raise SettingError(
            f"{text!r} is a {type(thing).__name__}, which cannot be called; the {what} must be a "
            "function or a class."
        )
    return thing


def public_callables(module: ModuleType) -> list[str]:
    """The names of what can be called in a module, without those that begin with an underscore."""
    return [name for name, x in vars(module).items() if callable(x) and not name.startswith("_")]


def has(module: ModuleType, path: str) -> bool:
    """Whether the module has an attribute of this dotted path."""
    try:
        attrgetter(path)(module)
    except AttributeError:
        return False
    return True


def name_of(thing: Any) -> str | None:
    """The `module:name` by which another process finds this very thing; None where there is none.

    There is none for lambdas, functions within functions, instances and partial functions, and for
    all of `__main__`, which is another module in another process.
    """
    module_name = getattr(thing, "__module__", None)
    path = getattr(thing, "__qualname__", None)
    if not isinstance(module_name, str) or not isinstance(path, str):
        return None
    module = sys.modules.get(module_name)
    # A module without a spec was made by a program, not found on the path.
    if module is None or module.__spec__ is None or module_name in _MAIN:
        return None
    if "<" in path or not has(module, path):
        return None
    there = attrgetter(path)(module)
    is_it = there is thing or (inspect.ismethod(thing) and there == thing)
    return f"{module_name}:{path}" if is_it else None


def unreachable(part: type) -> str | None:
    """Why another process could not import a class; None: it can."""
    if "<locals>" in part.__qualname__:
        return "it is defined in a function"
    module = sys.modules.get(part.__module__)
    if part.__module__ in _MAIN:
        return None if hasattr(module, "__file__") else "it is defined at a prompt"
    return None if module is not None else f"its module {part.__module__} is not imported"
