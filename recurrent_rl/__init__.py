"""Reinforcement learning with recurrent policies, for environments that do not show everything.

The public names are loaded on first use: importing the package, or its environments, does not
import PyTorch.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # here little is imported: typing and random are long to
if TYPE_CHECKING:
    from typing import Any

_HOMES = {
    "ActionHead": "agents.heads",
    "ActionMaskError": "agents.action_masks",
    "ActorCritic": "agents.actor_critic",
    "AgentConfig": "agents.config",
    "Callback": "runs.callbacks",
    "DeviceError": "agents.devices",
    "Evaluation": "runs.figures",
    "ExportError": "agents.export.step",
    "FaultyEnvironmentError": "checks.finding",
    "FileWriteError": "agents.files",
    "Finding": "checks.finding",
    "Memory": "agents.memory.contract",
    "MemoryInputError": "agents.kernels.safeguards",
    "NonFiniteError": "agents.files",
    "ObservationError": "agents.spaces",
    "Policy": "agents.policy",
    "PolicyFileError": "agents.files",
    "RecordedEpisode": "runs.imitation",
    "RunHeldError": "runs.folder",
    "SecondDerivativeError": "agents.kernels.safeguards",
    "SettingError": "agents.settings",
    "ToldError": "errors",
    "TrainConfig": "config",
    "Trainer": "trainer",
    "TrainingState": "runs.callbacks",
    "EnvConfig": "env_config",
    "UnsupportedSpaceError": "agents.spaces",
    "UserError": "agents.errors",
    "check_env": "checks.check",
    "convert_sb3": "agents.sb3.convert",
    "evaluate": "runs.evaluation",
    "imitate": "runs.imitation",
    "load_policy": "agents.policy",
    "make_vector_env": "vectorize",
    "record_video": "runs.filming",
    "register_encoder": "agents.encoders",
    "register_head": "agents.heads",
    "register_memory": "agents.memory.registry",
    "resume": "runs.training",
    "train": "runs.training",
    "tune": "experiments.tuning",
}

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("recurrent-rl")
    if name in _HOMES:
        import random

        state = random.getstate()  # importing rich draws from it
        try:
            return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        finally:
            random.setstate(state)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
