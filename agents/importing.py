"""Classes and functions by `module:name`: imported by it, and named by it."""

from __future__ import annotations

import importlib
import inspect
import sys
from operator import attrgetter
from types import ModuleType
from typing import Any

from recurrent_rl.agents.raising import place
from recurrent_rl.agents.settings import SettingError, close_matches

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


def imported_class(path: str, whose: str) -> Any:
    """What `module:Class` names; its module is imported.

    Args:
        path: as the user wrote it.
        whose: for the message: "memory".

    Raises:
        SettingError: it cannot be imported, or is not there.
    """
    module, _, name = path.partition(":")
    found = import_module(module, f"{whose} {path!r}")
    for attribute in name.split("."):
        if not hasattr(found, attribute):
            near = close_matches(attribute, dir(found), most=1, cutoff=0.6)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise SettingError(f"{whose} is {path!r}, and {module} has no {attribute}.{hint}")
        found = getattr(found, attribute)
    return found


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
