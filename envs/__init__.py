"""Environments that need memory, written batch-first; RedBlueDoors alone is MiniGrid's own.

Importing this package registers them with Gymnasium under `recurrent_rl/`; so does Gymnasium itself
with the id `recurrent_rl.envs:recurrent_rl/NAME`. The classes are loaded on first use.
"""

from importlib import import_module
from typing import Any

from gymnasium.envs.registration import register, registry

_CLASSES = {
    "Autoencode": "autoencode",
    "BatchEnv": "batch",
    "CartPole": "cartpole",
    "Concentration": "concentration",
    "CountRecall": "count_recall",
    "Flicker": "wrappers",
    "Forecast": "forecast",
    "HideIndices": "wrappers",
    "HigherLower": "higher_lower",
    "Ladder": "ladder",
    "MountainCar": "mountain_car",
    "MultiarmedBandit": "bandit",
    "ObservationNoise": "wrappers",
    "Pendulum": "pendulum",
    "Recall": "recall",
    "RedBlueDoorsEnv": "red_blue_doors",
    "RepeatFirst": "repeat_first",
    "RepeatPrevious": "repeat_previous",
    "SingleEnv": "single",
    "TMaze": "tmaze",
}

# Name under recurrent_rl/, module and class, arguments.
_ENVIRONMENTS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("Autoencode-Easy-v0", "autoencode:Autoencode", {"num_decks": 1}),
    ("Autoencode-Medium-v0", "autoencode:Autoencode", {"num_decks": 2}),
    ("Autoencode-Hard-v0", "autoencode:Autoencode", {"num_decks": 3}),
    ("CartPole-NoVelocity-v0", "cartpole:CartPole", {}),
    ("CartPole-NoVelocity-Noisy-v0", "cartpole:CartPole", {"noise": 0.1}),
    ("Concentration-Easy-v0", "concentration:Concentration", {"num_decks": 1, "kind": "colours"}),
    ("Concentration-Medium-v0", "concentration:Concentration", {"num_decks": 2, "kind": "colours"}),
    ("Concentration-Hard-v0", "concentration:Concentration", {"num_decks": 1, "kind": "ranks"}),
    ("CountRecall-Easy-v0", "count_recall:CountRecall", {"num_decks": 1, "kind": "colours"}),
    ("CountRecall-Medium-v0", "count_recall:CountRecall", {"num_decks": 2, "kind": "suits"}),
    ("CountRecall-Hard-v0", "count_recall:CountRecall", {"num_decks": 4, "kind": "ranks"}),
    ("Forecast-v0", "forecast:Forecast", {}),
    ("HigherLower-Easy-v0", "higher_lower:HigherLower", {"num_decks": 1}),
    ("HigherLower-Medium-v0", "higher_lower:HigherLower", {"num_decks": 2}),
    ("HigherLower-Hard-v0", "higher_lower:HigherLower", {"num_decks": 3}),
    ("Ladder-v0", "ladder:Ladder", {}),
    ("MountainCar-NoVelocity-v0", "mountain_car:MountainCar", {}),
    (
        "MultiarmedBandit-Easy-v0",
        "bandit:MultiarmedBandit",
        {"num_arms": 10, "max_episode_steps": 200},
    ),
    (
        "MultiarmedBandit-Medium-v0",
        "bandit:MultiarmedBandit",
        {"num_arms": 20, "max_episode_steps": 400},
    ),
    (
        "MultiarmedBandit-Hard-v0",
        "bandit:MultiarmedBandit",
        {"num_arms": 30, "max_episode_steps": 600},
    ),
    *(
        (
            f"NoisyPositionOnlyCartPole-{level}-v0",
            "cartpole:CartPole",
            {"noise": noise, "max_episode_steps": 200, "scaled": True},
        )
        for level, noise in (("Easy", 0.1), ("Medium", 0.2), ("Hard", 0.3))
    ),
    *(
        (
            f"NoisyPositionOnlyPendulum-{level}-v0",
            "pendulum:Pendulum",
            {"noise": noise, "max_episode_steps": 200, "scaled": True},
        )
        for level, noise in (("Easy", 0.1), ("Medium", 0.2), ("Hard", 0.3))
    ),
    ("Pendulum-NoVelocity-v0", "pendulum:Pendulum", {}),
    *(
        (
            f"PositionOnlyCartPole-{level}-v0",
            "cartpole:CartPole",
            {"max_episode_steps": steps, "scaled": True},
        )
        for level, steps in (("Easy", 200), ("Medium", 400), ("Hard", 600))
    ),
    *(
        (
            f"PositionOnlyPendulum-{level}-v0",
            "pendulum:Pendulum",
            {"max_episode_steps": steps, "scaled": True},
        )
        for level, steps in (("Easy", 200), ("Medium", 150), ("Hard", 100))
    ),
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
    for size in (6, 8):
        env_id = f"recurrent_rl/RedBlueDoors-{size}x{size}-v0"
        if env_id not in registry:
            register(
                env_id,
                entry_point=f"{__name__}.red_blue_doors:RedBlueDoorsEnv",
                max_episode_steps=20 * size**2,
                kwargs={"size": size},
            )


def __getattr__(name: str) -> Any:
    if name in _CLASSES:
        return getattr(import_module(f"{__name__}.{_CLASSES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__


register_envs()
