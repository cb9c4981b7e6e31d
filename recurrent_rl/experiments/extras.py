"""The libraries that only comparisons and searches need: SciPy, matplotlib, Optuna."""

from __future__ import annotations

import importlib
from typing import Any

from recurrent_rl.errors import UserError


def optional(module: str, what: str = "Comparing runs", extra: str = "plot") -> Any:
    """A module of an extra.

    Args:
        module: its name.
        what: needs it, for the message.
        extra: of this library that brings it.

    Raises:
        UserError: it is not installed; says how to.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"{what} needs {module.partition('.')[0]}, which is not installed: "
            f'pip install "recurrent-rl[{extra}]"'
        ) from error
