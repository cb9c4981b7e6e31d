"""Spaces: which are supported, how an observation becomes tensors, and how a space is written down.

Inside the library an observation is a dictionary of *leaves*: one array for each Box, Discrete,
MultiDiscrete or MultiBinary in the space, named by its path. A plain space has the single path "".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

Leaves: TypeAlias = dict[str, Tensor]
LEAF_TYPES = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


class UnsupportedSpaceError(ValueError):
    """A space for which there is no encoder or no action head."""


class ObservationError(ValueError):
    """An observation that is not what its space declares."""


def _children(space: gym.Space[Any]) -> Iterator[tuple[str, Any, gym.Space[Any]]]:
    """Path part, key and space of what a Dict or Tuple holds."""
    if isinstance(space, spaces.Dict):
        for key, inner in space.spaces.items():
            yield str(key), key, inner
    elif isinstance(space, spaces.Tuple):
        for i, inner in enumerate(space.spaces):
            yield str(i), i, inner


def _join(path: str, part: str) -> str:
    return f"{path}/{part}" if path else part


def leaf_spaces(space: gym.Space[Any], path: str = "") -> dict[str, gym.Space[Any]]:
    """The leaves of an observation space by path, in the space's order.

    Raises:
        UnsupportedSpaceError: a leaf is of another kind, or a key cannot be part of a path.
    """
    if isinstance(space, LEAF_TYPES):
        return {path: space}
    if not isinstance(space, (spaces.Dict, spaces.Tuple)):
        where = f" under {path!r}" if path else ""
        raise UnsupportedSpaceError(
            f"The observation space {space}{where} is not supported. Use Box, Discrete, "
            "MultiDiscrete, MultiBinary, or Dict and Tuple of these; gymnasium.wrappers."
            "TransformObservation can convert others."
        )
    found: dict[str, gym.Space[Any]] = {}
    for part, _, inner in _children(space):
        if "/" in part or not part:
            raise UnsupportedSpaceError(
                f"The observation space has the key {part!r}; a key may not be empty or contain "
                "'/'. Rename it."
            )
        found |= leaf_spaces(inner, _join(path, part))
    if not found and not path:
        raise UnsupportedSpaceError("The observation space is empty: there is nothing to see.")
    return found


def leaf_arrays(space: gym.Space[Any], observation: Any, path: str = "") -> dict[str, NDArray[Any]]:
    """A batched observation, as a vector environment returns it, by leaves.

    Args:
        space: of one observation.
        observation: arrays `[B, ...]` in the space's nesting.
        path: of `space` in the whole, for messages.

    Returns:
        `[B, *leaf.shape]` for each leaf; Discrete and MultiDiscrete count from 0.

    Raises:
        ObservationError: a key is missing, or a leaf's shape, type or range is not as declared.
    """
    if not isinstance(space, LEAF_TYPES):
        found: dict[str, NDArray[Any]] = {}
        for part, key, inner in _children(space):
            try:
                value = observation[key]
            except (KeyError, IndexError, TypeError) as error:
                raise ObservationError(
                    f"The observation{_at(path)} lacks {part!r}, which its space declares."
                ) from error
            found |= leaf_arrays(inner, value, _join(path, part))
        return found
    array = np.asarray(observation)
    shape = space.shape or ()
    if array.shape[1:] != shape or array.ndim != len(shape) + 1:
        came = f"shape {list(array.shape)}"
        raise ObservationError(
            f"The observation{_at(path)} has {came}; expected a batch "
            f"[B{''.join(f', {n}' for n in shape)}] of {space}."
        )
    if array.dtype.kind not in "biuf":
        raise ObservationError(
            f"The observation{_at(path)} is of type {array.dtype}; expected numbers of {space}."
        )
    if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)):
        size: Any = space.n if isinstance(space, spaces.Discrete) else space.nvec
        if np.any(space.start):
            array = array - space.start
        if len(array) and ((array < 0) | (array >= size)).any():
            rows = np.argwhere((array < 0) | (array >= size))[:, 0]
            raise ObservationError(
                f"The observation{_at(path)} of copy {rows[0]} is {observation[rows[0]]}, which "
                f"is not in {space}."
            )
        return {path: array.astype(np.int64, copy=False)}
    return {path: array}


def _at(path: str) -> str:
    return f" under {path!r}" if path else ""


def stack_observations(space: gym.Space[Any], observations: Sequence[Any]) -> Any:
    """Unbatched observations as one batched observation of the same nesting.

    Raises:
        ObservationError: they do not have the same shape.
    """
    if isinstance(space, spaces.Dict):
        return {
            key: stack_observations(inner, [o[key] for o in observations])
            for key, inner in space.spaces.items()
        }
    if isinstance(space, spaces.Tuple):
        return tuple(
            stack_observations(inner, [o[i] for o in observations])
            for i, inner in enumerate(space.spaces)
        )
    try:
        return np.stack([np.asarray(o) for o in observations])
    except ValueError as error:
        raise ObservationError(f"Observations of {space} differ in shape: {error}.") from error


def first_nonfinite(arrays: dict[str, NDArray[Any]]) -> tuple[str, int] | None:
    """Path and copy of the first NaN or infinity in the leaves, or None."""
    for path, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            return path, int(np.argwhere(~np.isfinite(array))[0, 0])
    return None


def is_image(space: gym.Space[Any]) -> bool:
    """Whether a leaf goes through a convolutional network: bytes, or three dimensions."""
    return isinstance(space, spaces.Box) and (
        len(space.shape) == 3 or (len(space.shape) == 2 and space.dtype == np.uint8)
    )


def storage_dtype(space: gym.Space[Any]) -> torch.dtype:
    """The type in which a leaf is kept: bytes stay bytes, numbers float32, indices int64."""
    if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)):
        return torch.int64
    if isinstance(space, spaces.MultiBinary) or space.dtype == np.uint8:
        return torch.uint8
    return torch.float32


def check_action_space(space: gym.Space[Any]) -> None:
    """Refuse an action space for which there is no head.

    Raises:
        UnsupportedSpaceError: names the space and what is supported.
    """
    discrete = (spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
    if isinstance(space, discrete):
        return
    if not (isinstance(space, spaces.Box) and space.dtype.kind == "f"):
        raise UnsupportedSpaceError(
            f"The action space {space} is not supported. Use Discrete, MultiDiscrete, MultiBinary "
            "or a Box of floats; gymnasium.wrappers.TransformAction can convert others."
        )


def space_to_json(space: gym.Space[Any]) -> dict[str, Any]:
    """A space as JSON values; `space_from_json` gives an equal one."""
    kind = type(space).__name__
    if isinstance(space, spaces.Box):
        return {
            "type": kind,
            "low": _bound_to_json(space.low),
            "high": _bound_to_json(space.high),
            "shape": list(space.shape),
            "dtype": str(space.dtype),
        }
    if isinstance(space, spaces.Discrete):
        return {"type": kind, "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete):
        return {
            "type": kind,
            "nvec": space.nvec.tolist(),
            "start": space.start.tolist(),
            "dtype": str(space.dtype),
        }
    if isinstance(space, spaces.MultiBinary):
        return {"type": kind, "n": list(space.shape)}
    if isinstance(space, spaces.Dict):
        # A list keeps the order, which the leaves follow.
        return {"type": kind, "spaces": [[k, space_to_json(s)] for k, s in space.spaces.items()]}
    if isinstance(space, spaces.Tuple):
        return {"type": kind, "spaces": [space_to_json(inner) for inner in space.spaces]}
    raise UnsupportedSpaceError(f"The space {space} cannot be saved.")


def space_from_json(fields: dict[str, Any]) -> gym.Space[Any]:
    """The space that `space_to_json` wrote.

    Raises:
        ValueError: the type is unknown.
    """
    kind = fields["type"]
    if kind == "Box":
        dtype = np.dtype(fields["dtype"])
        low, high = (
            np.broadcast_to(np.array(fields[side], dtype=float).astype(dtype), fields["shape"])
            if dtype.kind == "f"
            else np.broadcast_to(np.array(fields[side], dtype=dtype), fields["shape"])
            for side in ("low", "high")
        )
        return spaces.Box(low.copy(), high.copy(), dtype=dtype.type)
    if kind == "Discrete":
        return spaces.Discrete(fields["n"], start=fields["start"])
    if kind == "MultiDiscrete":
        dtype = np.dtype(fields["dtype"])
        return spaces.MultiDiscrete(fields["nvec"], dtype=dtype.type, start=fields["start"])
    if kind == "MultiBinary":
        shape = fields["n"]
        return spaces.MultiBinary(shape[0] if len(shape) == 1 else shape)
    if kind == "Dict":
        return spaces.Dict({key: space_from_json(inner) for key, inner in fields["spaces"]})
    if kind == "Tuple":
        return spaces.Tuple([space_from_json(inner) for inner in fields["spaces"]])
    raise ValueError(f"Unknown space type {kind!r}.")


def _bound_to_json(bound: NDArray[Any]) -> Any:
    """One number where all entries are alike, else nested lists; infinities as text."""

    def item(value: Any) -> Any:
        if isinstance(value, list):
            return [item(inner) for inner in value]
        return value if np.isfinite(value) else str(value)

    alike = bound.size > 0 and (bound == bound.flat[0]).all()
    return item(bound.flat[0].item() if alike else bound.tolist())
