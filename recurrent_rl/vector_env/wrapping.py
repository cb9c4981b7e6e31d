"""What is put around each single environment: components selected, and wrappers by their names."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv, VectorEnv, VectorWrapper
from gymnasium.wrappers import (
    FilterObservation,
    FlattenObservation,
    FrameStackObservation,
    GrayscaleObservation,
    NormalizeObservation,
    NormalizeReward,
    ResizeObservation,
    TransformObservation,
    vector,
)

from recurrent_rl.agents.importing import imported
from recurrent_rl.agents.raising import place
from recurrent_rl.agents.settings import SettingError, did_you_mean, refusal
from recurrent_rl.agents.spaces import UnsupportedSpaceError, channel_axis, is_image
from recurrent_rl.errors import UserError
from recurrent_rl.fields import json_object

Env = gym.Env[Any, Any]


class _Usual(NamedTuple):
    """A wrapper of Gymnasium's that has a short name."""

    written: str
    pattern: str
    """Of its numbers, after its name."""
    wrap: Callable[..., Env]
    """Takes the environment and these numbers."""


class OwnObservations(gym.ObservationWrapper[Any, Any, Any]):
    """Hands out a copy of each observation, to be kept by what is around it.

    Some environments write each observation over the one before. What stacks or delays
    observations would hold the latest alone.
    """

    def observation(self, observation: Any) -> Any:
        """A copy."""
        return copy.deepcopy(observation)


def _stacked(env: Env, frames: int) -> Env:
    """The latest observations in a row; of images one image, with the channels of all.

    Raises:
        ValueError: the channels of such an image could not be told from its sides.
    """
    space, stacked = env.observation_space, FrameStackObservation(env, frames)
    if not is_image(space) or len(space.shape or ()) != 3:
        return stacked
    assert isinstance(space, spaces.Box)
    assert isinstance(stacked.observation_space, spaces.Box)
    axis = channel_axis(space.shape)
    join = partial(np.concatenate, axis=axis)
    low, high = join(stacked.observation_space.low), join(stacked.observation_space.high)
    if channel_axis(low.shape) != axis:
        raise ValueError(
            f"the channels of {frames} images of {space.shape} could not be distinguished from "
            f"their sides in {low.shape}"
        )
    return TransformObservation(stacked, join, spaces.Box(low, high, dtype=space.dtype.type))


_USUAL = {
    "flatten": _Usual("flatten", "", FlattenObservation),
    "frame-stack": _Usual("frame-stack:N", r":([1-9]\d{0,3})", _stacked),
    "grayscale": _Usual("grayscale", "", GrayscaleObservation),
    "resize": _Usual(
        "resize:HEIGHTxWIDTH",
        r":([1-9]\d{0,3})x([1-9]\d{0,3})",
        lambda env, *shape: ResizeObservation(env, shape),
    ),
}
_WITH_ARGUMENTS = """module:function{"argument": 1}"""
_MODULE_NAME = re.compile(r"[^\W\d][\w.]*:[^\W\d][\w.]*")


def wrapper_name(name: str, text: Any) -> Any:
    """Read a wrapper's name: one of the usual, or module:function.

    Raises:
        SettingError: it is neither; names the usual ones, and the nearest.
    """
    if not isinstance(text, str):
        return text
    kind = text.partition(":")[0]
    path, brace, arguments = text.partition("{")
    usual = _USUAL.get(kind)
    if usual is not None:
        if not re.fullmatch(kind + usual.pattern, text):
            raise SettingError(refusal(name, text, f"written {usual.written}"))
    elif not _MODULE_NAME.fullmatch(path):
        known = ", ".join(one.written for one in _USUAL.values())
        raise SettingError(
            refusal(name, text, f"{known}, or module:function, or {_WITH_ARGUMENTS}")
            + did_you_mean(kind, _USUAL)
        )
    elif brace:
        json_object(name, brace + arguments)
    return text


def names_a_module(wrapper: str) -> bool:
    """Whether a module is imported for this wrapper."""
    return wrapper.partition(":")[0] not in _USUAL


def wrapped(env: Env, wrapper: str) -> Env:
    """The environment with the wrapper of this name around it.

    Raises:
        UserError: the wrapper cannot be found, cannot go around this environment, or returns no
            environment.
    """
    numbers: list[str] = []
    arguments: dict[str, Any] = {}
    if names_a_module(wrapper):
        path, brace, text = wrapper.partition("{")
        wrap = imported(path, "wrapper")
        arguments = json_object("wrapper", brace + text) if brace else {}
    else:
        wrap, numbers = _USUAL[wrapper.partition(":")[0]].wrap, re.findall(r"\d+", wrapper)
    keeps = getattr(wrap, "__module__", "").startswith("gymnasium.") or wrap is _stacked
    try:
        outer = wrap(OwnObservations(env) if keeps else env, *map(int, numbers), **arguments)
    except UserError:
        raise
    except (gym.error.Error, ImportError, TypeError, ValueError, AssertionError) as error:
        why = (str(error).rstrip(".") or type(error).__name__) + place(error)
        raise UserError(
            f"Wrapper {wrapper} cannot go around {env.unwrapped}, which observes "
            f"{env.observation_space}: {why}. Leave it out, or put another before it."
        ) from error
    if not isinstance(outer, gym.Env):
        raise UserError(
            f"Wrapper {wrapper} returned a {type(outer).__name__}; it must return the environment "
            "that it wraps, a gymnasium.Env."
        )
    return outer


def observing(env: Env, keys: Sequence[str]) -> Env:
    """The environment of whose Dict observation only these components are seen.

    One key leaves that component alone, several a Dict of them.

    Raises:
        UserError: the observation is no Dict, or lacks a key.
    """
    space = env.observation_space
    if not isinstance(space, spaces.Dict):
        raise UserError(
            f"observe is {list(keys)}, but {env.unwrapped} observes {space}, which has no keys: it "
            "is no Dict. Leave observe out."
        )
    if lacking := [key for key in keys if key not in space.spaces]:
        raise UserError(
            f"observe names {lacking[0]!r}, which the observation of {env.unwrapped} lacks; it has "
            f"{', '.join(space.spaces)}.{did_you_mean(lacking[0], space.spaces)}"
        )
    if len(keys) > 1:
        return FilterObservation(env, list(keys))
    return TransformObservation(env, itemgetter(keys[0]), space[keys[0]])


_NORMALISING = {
    **dict.fromkeys((NormalizeObservation, vector.NormalizeObservation), "normalize_observations"),
    **dict.fromkeys((NormalizeReward, vector.NormalizeReward), "normalize_returns"),
}
"""Wrappers that learn statistics, and the setting that does the same."""


def refuse_normalising(env: gym.Env[Any, Any] | VectorEnv, name: str) -> None:
    """Refuse a wrapper whose statistics go on changing, and stay outside of the policy.

    An evaluation would begin with other ones, and who loads the policy has none.

    Args:
        env: with its wrappers.
        name: of what it is made of, for messages.

    Raises:
        UserError: names the wrapper and the setting.
    """
    layer: Any = env
    while isinstance(layer, (gym.Wrapper, VectorWrapper)):
        setting = next((one for kind, one in _NORMALISING.items() if isinstance(layer, kind)), None)
        if setting is not None and getattr(layer, "update_running_mean", True):
            raise UserError(
                f"{name} is wrapped in {type(layer).__name__}, whose statistics the policy would "
                "lack where it is evaluated or loaded. Leave the wrapper out: the policy has its "
                f"own ({setting}). Statistics that are fixed may stay: set its "
                "update_running_mean to False."
            )
        layer = layer.env
    if isinstance(layer, SyncVectorEnv):
        refuse_normalising(layer.envs[0], name)


class WithoutFixedTexts(FilterObservation):
    """Without the components of a Dict observation that are always the same text.

    Args:
        env: observes a Dict.
        texts: by the key of each such component.
    """

    def __init__(self, env: Env, texts: dict[str, str]) -> None:
        assert isinstance(env.observation_space, spaces.Dict)
        super().__init__(env, [key for key in env.observation_space.spaces if key not in texts])
        self.texts = texts


def without_fixed_texts(env: Env) -> Env:
    """The environment without texts that tell nothing, as MiniGrid's mission where it is fixed.

    Raises:
        UnsupportedSpaceError: a component is text that may change.
    """
    space = env.observation_space
    if not isinstance(space, spaces.Dict):
        return env
    texts = {key: one for key, one in space.spaces.items() if _is_text(one)}
    fixed = {key: text for key, one in texts.items() if (text := _only_text(one)) is not None}
    others = [key for key in space.spaces if key not in texts]
    if changing := [key for key in texts if key not in fixed]:
        raise UnsupportedSpaceError(
            f"The observation's {changing[0]!r} is text that may change, {texts[changing[0]]}, "
            "which no encoder reads. Select what the agent is to see, for example "
            f"--observe {' '.join(others)} (EnvConfig.observe), or turn the text into numbers by a "
            "wrapper."
        )
    return WithoutFixedTexts(env, fixed) if fixed and others else env


def fixed_texts(env: Env) -> dict[str, str]:
    """What `without_fixed_texts` has left out of this environment's observation, by key."""
    return next((one.texts for one in layers(env) if isinstance(one, WithoutFixedTexts)), {})


def layers(env: Env) -> Iterator[Env]:
    """The wrappers around an environment, the outermost first, and then itself."""
    while isinstance(env, gym.Wrapper):
        yield env
        env = env.env
    yield env


def _is_text(space: gym.Space[Any]) -> bool:
    return isinstance(space, spaces.Text) or hasattr(space, "mission_func")


def _only_text(space: Any) -> str | None:
    """The one text that a space has; None where it has more."""
    if hasattr(space, "mission_func"):  # MiniGrid's MissionSpace
        return None if space.ordered_placeholders else str(space.mission_func())
    if len(space.character_set) == 1 and space.min_length == space.max_length:
        return str(space.characters * space.max_length)
    return None
