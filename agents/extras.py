"""Packages that only some uses need: the extra that brings each, and how a missing one is told."""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

from recurrent_rl.agents.errors import UserError


class Package(NamedTuple):
    """A package that an extra brings."""

    name: str
    """As `pip` knows it."""
    extra: str
    """Of recurrent-rl."""


PACKAGES = {
    "huggingface_hub": Package("huggingface-hub", "hub"),
    "imageio_ffmpeg": Package("imageio-ffmpeg", "video"),
    "matplotlib": Package("matplotlib", "plot"),
    "mlflow": Package("mlflow-skinny", "mlflow"),
    "onnx": Package("onnx", "onnx"),
    "onnxruntime": Package("onnxruntime", "onnx"),
    "onnxscript": Package("onnxscript", "onnx"),
    "optuna": Package("optuna", "tune"),
    "scipy": Package("scipy", "plot"),
    "trackio": Package("trackio", "trackio"),
    "wandb": Package("wandb", "wandb"),
    "yaml": Package("pyyaml", "yaml"),
}
"""By the module that is imported. `recurrent_rl.vector_env.sources` has those of environments."""


def optional(
    module: str,
    what: str,
    instead: str = "",
    *,
    extra: str | None = None,
    error: type[UserError] = UserError,
) -> Any:
    """A module of a package that an extra brings.

    Args:
        module: its name; it may lie within one of `PACKAGES`.
        what: needs it, as the first words of the message.
        instead: what does without it, if anything, as the message's last words.
        extra: that brings all that is needed, where that is not the package's own.
        error: to raise.

    Raises:
        UserError: it cannot be imported; says how to install it. It is of the class `error`.
    """
    top = module.partition(".")[0]
    package = PACKAGES[top]
    try:
        return importlib.import_module(module)
    except ImportError as missing:
        is_there = not isinstance(missing, ModuleNotFoundError) or missing.name != top
        why = f"cannot be imported ({missing})" if is_there else "is not installed"
        command = f"pip install 'recurrent-rl[{extra or package.extra}]'"
        raise error(
            f"{what} needs {package.name}, which {why}: {command}{instead and f', or {instead}'}."
        ) from missing
