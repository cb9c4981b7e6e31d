"""One of each kind of our environments, for what holds of all alike."""

from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec

import recurrent_rl.envs  # noqa: F401 (registers them)


def _kind(spec: EnvSpec) -> tuple[Any, ...]:
    """The class, and its arguments without the values of numbers."""
    values = ((name, isinstance(x, str) and x) for name, x in sorted(spec.kwargs.items()))
    return spec.vector_entry_point, *values


KINDS = {
    _kind(spec): env_id
    for env_id, spec in sorted(gym.registry.items())
    if spec.namespace == "recurrent_rl" and spec.vector_entry_point
}.values()
"""Ids: of those whose arguments differ in numbers alone, as Easy, Medium and Hard often do, one."""
