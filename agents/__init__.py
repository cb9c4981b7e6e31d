"""Recurrent actor-critic agents: memory cells, encoders, action heads and the loadable policy.

The public names are loaded on first use, so that importing this package costs nothing.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "ActionHead": "heads",
    "ActionMaskError": "action_masks",
    "Actor": "actor",
    "ActorCritic": "actor_critic",
    "AgentConfig": "config",
    "DeviceError": "devices",
    "Encoder": "encoders",
    "ExportError": "export.step",
    "FileWriteError": "files",
    "MEMORIES": "memory.registry",
    "Memory": "memory.contract",
    "MemoryInputError": "kernels.safeguards",
    "NonFiniteError": "files",
    "ObservationError": "spaces",
    "Policy": "policy",
    "PolicyFileError": "files",
    "PolicyState": "policy_state",
    "SecondDerivativeError": "kernels.safeguards",
    "SettingError": "settings",
    "UnsupportedSpaceError": "spaces",
    "UserError": "errors",
    "convert_sb3": "sb3.convert",
    "load_policy": "policy",
    "make_memory": "memory.registry",
    "register_encoder": "encoders",
    "register_head": "heads",
    "register_memory": "memory.registry",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
