"""Environments that need memory, written batch-first.

Importing this package registers them with Gymnasium under `recurrent_rl/`; so does Gymnasium itself
with the id `recurrent_rl.envs:recurrent_rl/NAME`. The classes are loaded on first use.
"""

from importlib import import_module
from typing import Any

from gymnasium.envs.registration import register, registry

_CLASSES = {
    "BatchEnv": "batch",
    "CartPole": "cartpole",
    "Flicker": "wrappers",
    "Forecast": "forecast",
    "HideIndices": "wrappers",
    "ObservationNoise": "wrappers",
    "Pendulum": "pendulum",
    "Recall": "recall",
    "RepeatFirst": "repeat_first",
    "RepeatPrevious": "repeat_previous",
    "SingleEnv": "batch",
    "TMaze": "tmaze",
}

# Name under recurrent_rl/, module and class, arguments.
_ENVIRONMENTS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("CartPole-NoVelocity-v0", "cartpole:CartPole", {}),
    ("CartPole-NoVelocity-Noisy-v0", "cartpole:CartPole", {"noise": 0.1}),
    ("Forecast-v0", "forecast:Forecast", {}),
    ("Pendulum-NoVelocity-v0", "pendulum:Pendulum", {}),
    ("Recall-v0", "recall:Recall", {}),
    ("RepeatFirst-Easy-v0", "repeat_first:RepeatFirst", {"num_decks": 1}),
    ("RepeatFirst-Medium-v0", "repeat_first:RepeatFirst", {"num_decks": 8}),
    ("RepeatFirst-Hard-v0", "repeat_first:RepeatFirst", {"num_decks": 16}),
    ("RepeatPrevious-Easy-v0", "repeat_previous:RepeatPrevious", {"num_decks": 1, "k": 4}),
    ("RepeatPrevious-Medium-v0", "repeat_previous:RepeatPrevious", {"num_decks": 2, "k": 32}),
    ("RepeatPrevious-Hard-v0", "repeat_previous:RepeatPrevious", {"num_decks": 3, "k": 64}),
    ("TMaze-v0", "tmaze:TMaze", {}),
    ("Probe-Constant-v0", "probes:ConstantProbe", {}),
    ("Probe-Observation-v0", "probes:ObservationProbe", {}),
    ("Probe-Discount-v0", "probes:DiscountProbe", {}),
    ("Probe-TimeLimit-v0", "probes:TimeLimitProbe", {}),
    ("Probe-Memory-v0", "probes:MemoryProbe", {}),
    ("Probe-Signal-v0", "probes:SignalProbe", {}),
    ("Probe-Mask-v0", "probes:MaskProbe", {}),
)

__all__ = ["register_envs", *sorted(_CLASSES)]


def register_envs() -> None:
    """Register our environments with Gymnasium; a second call changes nothing."""
    for name, place, kwargs in _ENVIRONMENTS:
        env_id = f"recurrent_rl/{name}"
        if env_id not in registry:
            register(
                env_id,
                entry_point=f"{__name__}.{place}Env",
                vector_entry_point=f"{__name__}.{place}",
                kwargs=kwargs,
            )


def __getattr__(name: str) -> Any:
    if name in _CLASSES:
        return getattr(import_module(f"{__name__}.{_CLASSES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__


register_envs()
