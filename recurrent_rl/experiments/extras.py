"""The libraries that only comparisons need: SciPy and matplotlib, of the extra `plot`."""

from __future__ import annotations

import importlib
from typing import Any

from recurrent_rl.errors import UserError


def optional(module: str) -> Any:
    """A module of the extra `plot`.

    Raises:
        UserError: it is not installed; says how to.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"Comparing runs needs {module.partition('.')[0]}, which is not installed: "
            'pip install "recurrent-rl[plot]"'
        ) from error
