"""What an agent is fed of the step before, beside what the environment shows: action and reward."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import gymnasium as gym
import numpy as np

from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.heads import ActionHead
from recurrent_rl.agents.importing import class_path
from recurrent_rl.agents.settings import SettingError
from recurrent_rl.agents.spaces import UnsupportedSpaceError

PREVIOUS_ACTION = "previous_action"
PREVIOUS_REWARD = "previous_reward"


def previous_inputs(config: AgentConfig) -> tuple[str, ...]:
    """The names of the components that the agent is fed beside the environment's."""
    wanted = {PREVIOUS_ACTION: config.previous_action, PREVIOUS_REWARD: config.previous_reward}
    return tuple(name for name, is_wanted in wanted.items() if is_wanted)


def previous_spaces(config: AgentConfig, action_space: gym.Space[Any]) -> dict[str, gym.Space[Any]]:
    """The spaces of `previous_inputs`, by their names."""
    spaces = {
        PREVIOUS_ACTION: fed_back(action_space),
        PREVIOUS_REWARD: gym.spaces.Box(-np.inf, np.inf, (1,), np.float32),
    }
    return {name: spaces[name] for name in previous_inputs(config)}


def fed_back(action_space: gym.Space[Any]) -> gym.Space[Any]:
    """The space of `previous_action`: 0-based for discrete actions, raw for continuous ones."""
    if isinstance(action_space, gym.spaces.Discrete):
        return gym.spaces.Discrete(int(action_space.n))
    if isinstance(action_space, gym.spaces.MultiDiscrete):
        return gym.spaces.MultiDiscrete(action_space.nvec.reshape(-1))
    size = int(np.prod(action_space.shape or ()))
    if isinstance(action_space, gym.spaces.MultiBinary):
        return gym.spaces.MultiBinary(size)
    return gym.spaces.Box(-np.inf, np.inf, (size,), np.float32)


def check_names(config: AgentConfig, keys: Iterable[str]) -> None:
    """Refuse an observation with a key that is the name of one of `previous_inputs`.

    Raises:
        UnsupportedSpaceError: names the key, and what to do.
    """
    if taken := sorted({*previous_inputs(config)} & {*keys}):
        raise UnsupportedSpaceError(
            f"The observation space has a key {taken[0]!r}, the name of an input of the "
            f"agent's own. Set {taken[0]} to false, or rename the key "
            "(gymnasium.wrappers.TransformObservation can)."
        )


def check_fed_back(head: ActionHead, space: gym.Space[Any]) -> None:
    """Refuse a head whose actions are not of the space of `previous_action`.

    Raises:
        SettingError: names both shapes.
    """
    if head.action_shape != (space.shape or ()):
        raise SettingError(
            f"{class_path(type(head))} has actions of shape {list(head.action_shape)}, and the "
            f"agent is fed its previous action as {list(space.shape or ())}. Give the head this "
            "action_shape, or set previous_action to false."
        )
