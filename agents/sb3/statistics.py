"""The statistics of Stable-Baselines3's VecNormalize, by which a converted policy normalises."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor

from recurrent_rl.agents.normalisers import CLIP
from recurrent_rl.agents.settings import SettingError, parser, refusal, shown
from recurrent_rl.agents.spaces import at, is_image

FAR = 100.0
"""Standard deviations from zero beyond which float32 rounds an entry by more than 1e-5 of one."""
_EXPECTED = (
    "the VecNormalize that the model was trained behind, or a dict of its mean, var and count, and "
    "of its epsilon and clip_obs where they are not 1e-8 and 10"
)
_read_number = parser(float)


@dataclass(frozen=True)
class Statistics:
    """Of one component, each entry by itself."""

    mean: Tensor
    """`[*shape]`, float64."""
    var: Tensor
    """`[*shape]`, float64; VecNormalize's epsilon is added to it."""
    count: float
    """Observations that were seen."""

    @property
    def is_far(self) -> bool:
        """Whether float32 would lose what an entry varies by, beside its mean."""
        return bool((self.mean.abs() > FAR * self.var.sqrt()).any())


def statistics_of(
    normaliser: Any, components: Mapping[str, gym.Space[Any]]
) -> dict[str, Statistics]:
    """The statistics of each component that is normalised, by path.

    Args:
        normaliser: as in `convert_sb3`; None: nothing is normalised.
        components: of the observation space, by path.

    Raises:
        SettingError: it is of another type, lacks something, does not fit the components, or clips
            where ours does not.
    """
    if normaliser is None or not getattr(normaliser, "norm_obs", True):
        return {}
    found = _by_name(normaliser)
    if unknown := found.keys() - {"mean", "var", "count", "epsilon", "clip_obs"}:
        raise SettingError(
            f"normaliser holds {shown(min(unknown, key=str))}; it must be {_EXPECTED}."
        )
    epsilon = _read_number("normaliser.epsilon", found.get("epsilon", 1e-8))
    clip = _read_number("normaliser.clip_obs", found.get("clip_obs", CLIP))
    if clip != CLIP:
        raise SettingError(
            f"normaliser.clip_obs is {clip}; what a policy normalises here is clipped at {CLIP}, "
            "and no other way is known. It cannot be converted."
        )
    by_key = {name: _by_path(name, found) for name in ("mean", "var", "count")}
    statistics = {}
    for path in by_key["mean"]:
        space = _vector(path, components)
        mean, var = (
            _array(f"normaliser.{name}{at(path)}", by_key[name].get(path), space)
            for name in ("mean", "var")
        )
        if (var < 0).any():
            raise SettingError(f"normaliser.var{at(path)} is below zero.")
        count = _read_number(f"normaliser.count{at(path)}", by_key["count"].get(path))
        statistics[path] = Statistics(mean, var + epsilon, count)
    return statistics


def _by_name(normaliser: Any) -> dict[str, Any]:
    """What a VecNormalize or a dict tells."""
    if isinstance(normaliser, Mapping) and {"mean", "var", "count"} <= normaliser.keys():
        return dict(normaliser)
    if not hasattr(normaliser, "obs_rms"):
        raise SettingError(refusal("normaliser", normaliser, _EXPECTED))
    moments = normaliser.obs_rms
    found = {"epsilon": normaliser.epsilon, "clip_obs": normaliser.clip_obs}
    for name in ("mean", "var", "count"):
        if isinstance(moments, Mapping):
            found[name] = {key: getattr(one, name) for key, one in moments.items()}
        else:
            found[name] = getattr(moments, name)
    return found


def _by_path(name: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """One of the statistics by path: that of the whole observation under the path ""."""
    value = found[name]
    if isinstance(value, Mapping) != isinstance(found["mean"], Mapping):
        raise SettingError(
            f"normaliser.{name} and normaliser.mean must be both by key, or neither."
        )
    return dict(value) if isinstance(value, Mapping) else {"": value}


def _vector(path: str, components: Mapping[str, gym.Space[Any]]) -> gym.spaces.Box:
    """The component of this path, which can be normalised entry by entry."""
    space = components.get(path)
    if not isinstance(space, gym.spaces.Box) or is_image(space):
        vectors = [p for p, s in components.items() if isinstance(s, gym.spaces.Box)]
        raise SettingError(
            f"normaliser holds statistics{at(path) or ' without keys'}, where there is no vector "
            f"of numbers; the observation space has Boxes under {vectors}."
        )
    return space


def _array(name: str, value: Any, space: gym.spaces.Box) -> Tensor:
    """Finite numbers of the space's shape, float64."""
    try:
        x = torch.as_tensor(value, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise SettingError(refusal(name, value, f"numbers {list(space.shape)}")) from None
    if x.shape != space.shape or not torch.isfinite(x).all():
        found = f"of shape {list(x.shape)}" if x.shape != space.shape else "not finite"
        raise SettingError(f"{name} is {found}; it must be finite numbers {list(space.shape)}.")
    return x
