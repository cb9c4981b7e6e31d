"""Which head an action space has, and the names of heads of one's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
from gymnasium import spaces

from recurrent_rl.agents.heads.continuous import BoxHead
from recurrent_rl.agents.heads.contract import ActionHead
from recurrent_rl.agents.heads.discrete import DiscreteHead, MultiBinaryHead, MultiDiscreteHead
from recurrent_rl.agents.parts import Own, Parts, takes
from recurrent_rl.agents.settings import SettingError
from recurrent_rl.agents.spaces import UnsupportedSpaceError, check_action_space


def _fault(part: type) -> str | None:
    """What a class lacks to be a head."""
    if not issubclass(part, ActionHead):
        return "it is no subclass of recurrent_rl.ActionHead"
    for name in ("forward", "fill_noise", "to_env"):
        if getattr(part, name) is getattr(ActionHead, name):
            return f"it defines no {name}"
    return takes(part, ("space", "input_size"))


HEADS: Parts[ActionHead] = Parts("head", {}, _fault)
"""Action heads that were registered, each made from a space and the number of features. The
library's own go by the action space."""


def register_head(name: str) -> Callable[[Own], Own]:
    """Give an action head of your own a name, by which settings and files know it.

    A decorator of a subclass of `ActionHead`. A class that is not registered can be named as
    `module:Class`.

    Args:
        name: a letter, then letters, digits, dots, dashes and underscores.

    Raises:
        SettingError: the name is none or another class's, or the class lacks the contract.
    """
    return HEADS.register(name)


def make_head(
    space: gym.Space[Any],
    input_size: int,
    persistence: float = 0.0,
    own: Callable[..., ActionHead] | None = None,
) -> ActionHead:
    """The head for an action space.

    Args:
        space: of one action.
        input_size: features.
        persistence: of a continuous action, as in `BoxHead`.
        own: a class of one's own to make it of.

    Raises:
        UnsupportedSpaceError: there is none, or actions are to persist that are not continuous.
        SettingError: actions are to persist of a head of one's own.
    """
    check_action_space(space)
    if own is not None:
        if persistence:
            raise SettingError(
                "action_persistence is of the library's own head for continuous actions; leave it "
                "at 0 with a head of your own."
            )
        return own(space, input_size)
    if persistence and not isinstance(space, spaces.Box):
        raise UnsupportedSpaceError(
            f"action_persistence is for continuous actions, and the action space is {space}."
        )
    if isinstance(space, spaces.Discrete):
        return DiscreteHead(space, input_size)
    if isinstance(space, spaces.MultiDiscrete):
        return MultiDiscreteHead(space, input_size)
    if isinstance(space, spaces.MultiBinary):
        return MultiBinaryHead(space, input_size)
    assert isinstance(space, spaces.Box)
    return BoxHead(space, input_size, persistence)
