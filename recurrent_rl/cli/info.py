"""`recurrent-rl info`: what a report of a fault should say."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import tyro

from recurrent_rl.agents.settings import validated
from recurrent_rl.cli.terminal import Imports, parse
from recurrent_rl.fields import FolderPath
from recurrent_rl.output import without_controls

PACKAGES = ("torch", "numpy", "gymnasium", "tensorboard", "safetensors", "tyro")


@validated
@dataclass(frozen=True)
class InfoArguments:
    """Versions, kernels, cores and device; and the settings of a run."""

    run: Annotated[FolderPath | None, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")] = None
    """A run folder, whose settings are added where they are not the defaults."""
    imports: Imports = ()


def info_command(arguments: Sequence[str]) -> int:
    """What to put into a report of a fault: versions, kernels, device, settings."""
    given = parse(InfoArguments, "info", arguments)
    details = installed()
    if given.run is not None:
        details |= settings(Path(given.run))
    for name, value in details.items():
        print(f"{name:24} {without_controls(value)}")
    return 0


def installed() -> dict[str, str]:
    """What is installed, and what it runs on."""
    import torch

    from recurrent_rl.agents.kernels import library
    from recurrent_rl.agents.kernels.dispatch import VARIABLE
    from recurrent_rl.agents.policy_file import library_version
    from recurrent_rl.process import available_cores, pick_device

    device = pick_device("auto")
    return {
        "recurrent-rl": library_version(),
        "python": f"{platform.python_version()} on {platform.platform()}",
        **{package: version(package) for package in PACKAGES},
        "kernels": library.instruction_set(),
        VARIABLE: os.environ.get(VARIABLE, "not set"),
        "bfloat16": "yes" if library.has_bfloat16() else "no",
        "cores": str(available_cores()),
        "device": f"cuda, {torch.cuda.get_device_name()}" if device.type == "cuda" else str(device),
    }


def settings(run: Path) -> dict[str, str]:
    """The settings of a run that are not the defaults.

    Raises:
        UserError: there is no run, or its settings cannot be read.
    """
    from recurrent_rl.config import TrainConfig
    from recurrent_rl.runs.folder import RunFolder

    config = RunFolder(run).load_config().as_requested()
    defaults = TrainConfig(config.env_id).flat()
    return {"env_id": config.environment} | {
        name: str(value) for name, value in config.flat().items() if value != defaults.get(name)
    }
