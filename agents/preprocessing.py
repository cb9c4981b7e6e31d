"""From a raw observation to the numbers that the agent keeps and reads.

The policy takes observations as the environment gives them. What is done to them is decided here,
once, from the space: which entries are hidden, and how each component is scaled. A policy file
records the decision, so that a policy keeps its own whatever later versions decide.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import NoneType
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor, nn

from recurrent_rl.agents.arguments import argument, check_is
from recurrent_rl.agents.moments import Moments, Total
from recurrent_rl.agents.settings import SettingError, check_choice, refusal
from recurrent_rl.agents.spaces import (
    ObservationError,
    UnsupportedSpaceError,
    as_array,
    at,
    component_arrays,
    component_spaces,
    first_nonfinite,
    integer_limits,
    is_image,
)

SCALINGS = ("none", "bounds", "running", "centred", "bytes")
"""How a component is scaled: not at all; from its bounds to 0..1; to zero mean and unit variance by
running statistics; the same for values that float32 cannot tell apart until a constant is taken
from them; by 1/255, as policy files of format 1 have it."""
RUNNING = ("running", "centred")
WIDEST = 65_535.0
"""Bounds farther apart than this (16 bits) say nothing of where the values are."""
NEAR = 2.0**20
"""Bounds of whole numbers farther from zero than this do not scale them: float32 would show each
with an error of more than a sixteenth of the step to the next, and from 2^24 on several alike."""
FAR = 1e4
"""A first value beyond this is taken from all that follow, where the type is wider than float32."""


def scaling_of(space: gym.Space[Any]) -> str:
    """How a component is scaled: one of `SCALINGS`.

    Bounds scale integers that are `NEAR` zero, and images. Vectors of floats go by running
    statistics, whatever their bounds: these often say what could be at most, not what is.
    """
    if not isinstance(space, spaces.Box):
        return "none"
    by_bounds = is_image(space) or (space.dtype.kind in "biu" and _near(space))
    if by_bounds and _bounds_tell(space):
        return "bounds"
    wide = space.dtype.kind in "iu" or space.dtype == np.float64
    return "centred" if wide and not is_image(space) else "running"


def scaling_of_format_1(space: gym.Space[Any]) -> str:
    """How policies in files of format 1 scale a component."""
    if not isinstance(space, spaces.Box):
        return "none"
    if space.dtype == np.uint8:
        return "bytes"
    return "none" if is_image(space) else "running"


def _checked(scaling: Any, path: str, space: gym.Space[Any]) -> str:
    """A scaling that is given for a component.

    Raises:
        SettingError: there is none of this name, or the component cannot be scaled so.
    """
    check_choice("scaling", scaling, SCALINGS)
    found: str = scaling
    if not isinstance(space, spaces.Box):
        if found != "none":
            raise SettingError(f"scaling is {found!r}{at(path)}; it must be 'none' of a {space}.")
    elif found == "bounds" and not space.is_bounded("both"):
        raise SettingError(f"scaling is 'bounds'{at(path)}, and {space} has not all bounds.")
    return found


def _bounds_tell(space: spaces.Box) -> bool:
    """Whether all bounds are finite and near enough to each other to say where the values are."""
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    return bool(np.isfinite(low).all() and np.isfinite(high).all() and (high - low <= WIDEST).all())


def _near(space: spaces.Box) -> bool:
    """Whether all bounds are `NEAR` zero."""
    return all((np.abs(x.astype(np.float64)) <= NEAR).all() for x in (space.low, space.high))


def affine(space: gym.Space[Any], scaling: str) -> tuple[Tensor, Tensor] | None:
    """Factor and summand, float32, that scale a component by its space; None where nothing does.

    Where all entries are alike they are single numbers, else `[*shape]`.
    """
    if scaling == "bytes":
        return torch.tensor(1 / 255), torch.tensor(0.0)
    if scaling != "bounds":
        return None
    assert isinstance(space, spaces.Box)
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    factor = 1 / np.where(high > low, high - low, 1.0)
    return _as_short(factor), _as_short(-low * factor)


def _as_short(x: NDArray[np.float64]) -> Tensor:
    """As float32; one number where all entries are alike."""
    alike = x.size and (x == x.flat[0]).all()
    return torch.as_tensor(np.asarray(x.flat[0] if alike else x, dtype=np.float32))


def _reach(space: gym.Space[Any], scaling: str) -> tuple[Any, Any] | None:
    """The least and greatest value to take of what is scaled by its bounds; None: all there are.

    That is once their width around the bounds. What lies farther off is of another unit, such as
    bytes where the bounds are 0 and 1.
    """
    if scaling != "bounds":
        return None
    assert isinstance(space, spaces.Box)
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    width = np.where(high > low, high - low, 1.0)
    least, most = low - width, high + width
    held = integer_limits(space.dtype)
    if held is not None and (least <= held[0]).all() and (most >= held[1]).all():
        return None
    alike = least.size and (least == least.flat[0]).all() and (most == most.flat[0]).all()
    return (least.flat[0], most.flat[0]) if alike else (least, most)


class Reader(nn.Module):
    """Reads raw observations: checks them, drops what is hidden, centres what is far from zero.

    Args:
        observation_space: of one raw observation, any nesting of the supported spaces.
        hide_indices: entries of a vector observation that the agent is not to see.
        scaling: of each component; None for `scaling_of`.

    Attributes:
        component_spaces: the components, without hidden entries.
        scaling: of each component by path.
        kept: the entries of a vector that are not hidden; None: nothing is.
        reach: least and greatest value to take, numbers or `[*shape]`, of each component that
            could have others.

    Raises:
        UnsupportedSpaceError: a component is of another kind, or there is no such entry to hide.
        SettingError: `hide_indices` or `scaling` is of another type, or there is no such scaling
            of a component.
    """

    def __init__(
        self,
        observation_space: gym.Space[Any],
        hide_indices: Collection[int] = (),
        scaling: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        check_is("hide_indices", hide_indices, Collection, "whole numbers, in a list or tuple")
        check_is("scaling", scaling, (Mapping, NoneType), "a dict by component, or None")
        hidden = argument("hide_indices", list(hide_indices), tuple[int, ...])
        self.observation_space = observation_space
        self.hide_indices = tuple(sorted(set(hidden)))
        self.component_spaces = component_spaces(observation_space)
        self.kept: NDArray[np.intp] | None = None
        if self.hide_indices:
            self.kept = _kept(observation_space, self.hide_indices)
            self.component_spaces[""] = _part(observation_space, self.kept)
        self.scaling = {
            path: scaling_of(space) if scaling is None else _checked(scaling.get(path), path, space)
            for path, space in self.component_spaces.items()
        }
        reach = {path: _reach(x, self.scaling[path]) for path, x in self.component_spaces.items()}
        self.reach = {path: ends for path, ends in reach.items() if ends is not None}
        self.centred = [path for path, kind in self.scaling.items() if kind == "centred"]
        # By position, since a path may hold what a buffer's name may not.
        for i, path in enumerate(self.centred):
            shape = self.component_spaces[path].shape or ()
            self.register_buffer(f"centre_{i}", torch.zeros(shape, dtype=torch.float64))
        self.is_centred = False
        """Whether the centre is that of weights and statistics which were learnt with it, and so
        stays."""

    def read(self, observation: Any) -> dict[str, NDArray[Any]]:
        """A batch of raw observations by components.

        Args:
            observation: arrays, lists or tensors `[B, ...]` in the space's nesting.

        Returns:
            `[B, *shape]` for each of `component_spaces`; Discrete and MultiDiscrete count from 0.

        Raises:
            ObservationError: it is not of the space, or holds NaN, infinity or a number beyond
                float32, or one that is far outside of the bounds by which it is scaled.
        """
        return self.prepared(component_arrays(self.observation_space, observation))

    def prepared(self, components: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """As `read`, of what `component_arrays` gave, which stays as it is."""
        arrays = self._visible(components)
        for path in self.centred:
            if (centre := self.centre(path)) is not None:
                arrays[path] = _difference(arrays[path], centre.cpu().numpy())
        if (bad := first_nonfinite(arrays)) is not None:
            path, i = bad
            raise ObservationError(
                f"The observation{at(path)} of environment {i} holds NaN or infinity, or a number "
                "that float32 cannot hold; observations must be finite."
            )
        self.refuse_far(arrays)
        return arrays

    def refuse_far(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Refuse components `[..., *shape]` beyond `reach`.

        Raises:
            ObservationError: names the value, and the bounds.
        """
        for path, (least, most) in self.reach.items():
            x = arrays[path]
            if isinstance(least, np.ndarray):
                outside = (x < least).any() or (x > most).any()
            else:
                outside = x.size and (x.min() < least or x.max() > most)
            if outside:
                space = self.component_spaces[path]
                raise _far_outside(path, space, x, (x < least) | (x > most))

    def centre(self, path: str) -> Tensor | None:
        """What is subtracted from a component, float64 `[*shape]`; None: nothing."""
        if path not in self.centred:
            return None
        centre = self.get_buffer(f"centre_{self.centred.index(path)}")
        return centre if centre.any() else None

    @torch.no_grad()
    def centre_on(self, observation: Any, total: Total = list) -> None:
        """Subtract what is far from zero in this first batch from it and from all that follow.

        Does nothing where the reader `is_centred`.

        float32 holds seven digits: what changes in the last digits of a Unix time, or of a large
        id, would be lost in it.

        Args:
            observation: a batch of raw observations, as for `read`.
            total: to the first batch of all workers.
        """
        if self.is_centred:
            return
        arrays = self._visible(component_arrays(self.observation_space, observation))
        firsts = [torch.as_tensor(arrays[path].astype(np.float64)) for path in self.centred]
        for i, moments in enumerate(total(list(map(Moments.of, firsts)))):
            mean = moments.mean
            centre = torch.where(mean.abs() > FAR, mean.round(), 0.0)
            self.get_buffer(f"centre_{i}").copy_(centre)

    def _visible(self, components: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        arrays = dict(components)
        if self.kept is not None:
            arrays[""] = arrays[""][:, self.kept]
        return arrays


def _far_outside(
    path: str, space: gym.Space[Any], x: NDArray[Any], outside: NDArray[np.bool_]
) -> ObservationError:
    """The error that names the first value that is."""
    assert isinstance(space, spaces.Box)
    place = tuple(int(i) for i in np.argwhere(outside)[0])
    entry = place[x.ndim - len(space.shape) :]
    whose = f" of environment {place[0]}" if len(place) > len(entry) else ""
    return ObservationError(
        f"The observation{at(path)}{whose} holds {x[place]} at {list(entry)}, far outside of the "
        f"bounds [{space.low[entry]}, {space.high[entry]}] by which it is scaled. Return what the "
        "space declares, or declare the bounds of what is returned."
    )


def _kept(space: gym.Space[Any], hidden: Collection[int]) -> NDArray[np.intp]:
    """The entries of a vector that are not hidden."""
    if not isinstance(space, spaces.Box) or len(space.shape) != 1:
        kind = f"{type(space).__name__}{space.shape or ''}"
        raise UnsupportedSpaceError(
            f"hide_indices hides entries of a vector, and the observation space is a {kind}. "
            "Select the vector among several components (observe), make one vector of them or of a "
            "matrix (the wrapper flatten), or hide nothing."
        )
    size = space.shape[0]
    if bad := [index for index in hidden if not 0 <= index < size]:
        raise UnsupportedSpaceError(
            f"There is no entry {bad[0]} to hide: entries are 0 to {size - 1}."
        )
    kept = np.setdiff1d(np.arange(size), np.array(hidden, dtype=np.int64))
    if not len(kept):
        raise UnsupportedSpaceError(f"Hiding {list(hidden)} leaves nothing to observe of {space}.")
    return kept


def _part(space: gym.Space[Any], kept: NDArray[np.intp]) -> spaces.Box:
    """The space of these entries."""
    assert isinstance(space, spaces.Box)
    return spaces.Box(space.low[kept], space.high[kept], dtype=space.dtype.type)


def _difference(array: NDArray[Any], centre: NDArray[np.float64]) -> NDArray[Any]:
    """The array less the centre, float64; of integers without rounding."""
    if array.dtype.kind == "f":
        return array - centre
    wide = np.uint64 if array.dtype == np.uint64 else np.int64
    # What wraps around in uint64 is a negative difference in int64.
    difference = array.astype(wide) - centre.astype(wide)
    return difference.astype(np.int64).astype(np.float64)


def read_rewards(reward: Any, start: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The rewards of the step before, float32 `[B]`; 0 where an episode starts, whatever is given.

    Args:
        reward: a number, or one for each stream; None where all of them start.
        start: bool `[B]`.

    Raises:
        ObservationError: it is missing, no number, of another shape, or not finite.
    """
    if reward is None:
        if not start.all():
            raise ObservationError(
                "This policy is fed the reward of the previous step: pass reward= at every step "
                "but an episode's first."
            )
        return np.zeros(len(start), np.float32)
    try:
        given = as_array(reward)
        if given.dtype.kind not in "biuf":
            raise TypeError(given.dtype)
        with np.errstate(over="ignore"):
            given = np.broadcast_to(given.astype(np.float32), start.shape)
    except (TypeError, ValueError):
        several = f", or one for each of {len(start)} streams" if len(start) > 1 else ""
        raise ObservationError(refusal("reward", reward, f"a number{several}")) from None
    read = np.where(start, np.float32(0), given)
    if not np.isfinite(read).all():
        raise ObservationError(
            f"The reward of the previous step is {reward}; it must be a finite number."
        )
    return read
