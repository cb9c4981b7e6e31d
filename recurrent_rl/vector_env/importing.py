"""What `module:name` stands for, and what was likely meant where it stands for nothing."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter
from types import ModuleType
from typing import Any

from recurrent_rl.agents.importing import has, import_module
from recurrent_rl.agents.settings import close_matches
from recurrent_rl.errors import UserError


def found(text: str, what: str) -> Any:
    """The function or class that `module:name` names.

    Args:
        text: `module:name`; the name may be a dotted path.
        what: it is looked up as, for messages: "wrapper".

    Raises:
        UserError: the module cannot be imported, has no such attribute, or it cannot be called.
    """
    module_name, _, path = text.rpartition(":")
    module = import_module(module_name, repr(text))
    if not has(module, path):
        hint = did_you_mean(path, public_callables(module), f"{module_name}:")
        raise UserError(f"Module {module_name!r} has no {what} {path!r}.{hint}")
    thing = attrgetter(path)(module)
    if not callable(thing):
        raise UserError(
            f"{text!r} is a {type(thing).__name__}, which cannot be called; the {what} must be a "
            "function or a class."
        )
    return thing


def public_callables(module: ModuleType) -> list[str]:
    """The names of what can be called in a module, without those that begin with an underscore."""
    return [name for name, x in vars(module).items() if callable(x) and not name.startswith("_")]


def did_you_mean(name: str, choices: Iterable[str], prefix: str = "") -> str:
    """A sentence that names up to three of the choices that are like the name; else nothing."""
    near = close_matches(name, choices, most=3, cutoff=0.6)
    return f" Did you mean {' or '.join(prefix + one for one in near)}?" if near else ""
