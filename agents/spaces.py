"""Spaces: which are supported, and how an observation becomes arrays.

Inside the library an observation is a dictionary of *components*: one array for each Box, Discrete,
MultiDiscrete or MultiBinary in the space, named by its path. A plain space has the single path "".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from recurrent_rl.agents.errors import UserError

Components: TypeAlias = dict[str, Tensor]
"""An observation: its components by path, `[..., *component.shape]` each."""
COMPONENT_TYPES = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
FLOAT32_MAX = np.finfo(np.float32).max
DTYPES = frozenset(
    {
        "bool",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "float16",
        "float32",
        "float64",
    }
)
"""Types that PyTorch and a file can hold: not longdouble, nor those of the other byte order."""
MOST_VALUES = 2**26
"""Of a Discrete or a MultiDiscrete: their table of vectors takes 8 GiB."""


class UnsupportedSpaceError(UserError):
    """A space for which there is no encoder or no action head."""


class ObservationError(UserError):
    """An observation that is not what its space declares, or no finite number."""


TOO_LARGE = (
    "What the agent computes from this observation is not finite, though the observation is: it is "
    "too large for this policy. Scale it, or train with normalize_observations."
)


def in_short(space: gym.Space[Any]) -> str:
    """A space without its bounds: `Box(4,)`, `Discrete(2)`, `Dict of 3`."""
    if isinstance(space, spaces.Discrete):
        return f"Discrete({space.n})"
    if isinstance(space, (spaces.Dict, spaces.Tuple)):
        return f"{type(space).__name__} of {len(space)}"
    return f"{type(space).__name__}{space.shape}"


def as_array(x: Any) -> NDArray[Any]:
    """A NumPy array of what an environment or a user hands over: array, list, number or tensor."""
    if isinstance(x, Tensor):
        x = x.detach().cpu()
        x = x.float() if x.dtype == torch.bfloat16 else x  # which NumPy does not have
    return np.asarray(x)


def array_of_numbers(x: Any) -> NDArray[Any] | None:
    """As `as_array`; None where that holds no numbers."""
    try:
        array = as_array(x)
    except (TypeError, ValueError, RuntimeError):  # ragged, or a tensor that NumPy cannot read
        return None
    return array if array.dtype.kind in "biuf" else None


def _children(space: gym.Space[Any]) -> Iterator[tuple[Any, gym.Space[Any]]]:
    """Key and space of what a Dict or Tuple holds."""
    if isinstance(space, spaces.Dict):
        yield from space.spaces.items()
    elif isinstance(space, spaces.Tuple):
        yield from enumerate(space.spaces)


def _child(observation: Any, key: Any, path: str) -> Any:
    """What an observation holds under a key, or an error that says what it holds instead."""
    try:
        return observation[key]
    except (KeyError, IndexError, TypeError) as error:
        if isinstance(observation, Mapping):
            came = f"a mapping with the keys {list(observation)}"
        else:
            came = f"a {type(observation).__name__}"
        raise ObservationError(
            f"The observation{at(path)} lacks {str(key)!r}, which its space declares; it is {came}."
        ) from error


def _join(path: str, key: Any) -> str:
    return f"{path}/{key}" if path else str(key)


def at(path: str) -> str:
    """Where in an observation, for messages; nothing where it is the whole."""
    return f" under {path!r}" if path else ""


def component_spaces(space: gym.Space[Any]) -> dict[str, gym.Space[Any]]:
    """The components of an observation space by path, in the space's order.

    A component or a Dict without entries adds nothing, but must not be all there is.

    Raises:
        UnsupportedSpaceError: a component is of another kind or type, a key cannot be part of a
            path, or there is nothing to see.
    """
    found = _component_spaces(space, "")
    if not any(np.prod(component.shape or ()) for component in found.values()):
        raise UnsupportedSpaceError(
            f"The observation space {space} is empty: there is nothing to see. Use one "
            "with an entry, for example Box(0, 1, (1,)), and observe zero."
        )
    return found


def _component_spaces(space: gym.Space[Any], path: str) -> dict[str, gym.Space[Any]]:
    if isinstance(space, COMPONENT_TYPES):
        _check_component(space, path)
        return {path: space}
    if not isinstance(space, (spaces.Dict, spaces.Tuple)):
        raise UnsupportedSpaceError(
            f"The observation space {space}{at(path)} is not supported. Use Box, Discrete, "
            "MultiDiscrete, MultiBinary, or Dict and Tuple of these; gymnasium.wrappers."
            "TransformObservation can convert others."
        )
    found: dict[str, gym.Space[Any]] = {}
    for key, inner in _children(space):
        if isinstance(space, spaces.Dict) and (not isinstance(key, str) or "/" in key or not key):
            raise UnsupportedSpaceError(
                f"The observation space has the key {key!r}; a key must be text, not empty, and "
                "without '/'. Rename it."
            )
        found |= _component_spaces(inner, _join(path, key))
    return found


def _check_component(space: gym.Space[Any], path: str) -> None:
    if str(space.dtype) not in DTYPES:
        raise UnsupportedSpaceError(
            f"The observation space {space}{at(path)} is of type {space.dtype}, which PyTorch "
            "does not have. Use float32; gymnasium.wrappers.TransformObservation can convert it."
        )
    if isinstance(space, spaces.MultiDiscrete) and not space.nvec.size:
        raise UnsupportedSpaceError(
            f"The observation space {space}{at(path)} has no entries. Leave it out, or use "
            "Box(0, 1, (0,))."
        )
    if (values := _count_values(space)) > MOST_VALUES:
        raise UnsupportedSpaceError(
            f"The observation space {space}{at(path)} has {values:,} values; there is no memory "
            f"for a learnt vector of each where they are more than {MOST_VALUES:,}. Use a Box."
        )


def _count_values(space: gym.Space[Any]) -> int:
    """Values of a Discrete, or of all entries of a MultiDiscrete; 0 of others."""
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    return sum(map(int, space.nvec.flat)) if isinstance(space, spaces.MultiDiscrete) else 0


def component_arrays(
    space: gym.Space[Any], observation: Any, path: str = ""
) -> dict[str, NDArray[Any]]:
    """A batched observation, as a vector environment returns it, by components.

    Args:
        space: of one observation.
        observation: arrays `[B, ...]` in the space's nesting.
        path: of `space` in the whole, for messages.

    Returns:
        `[B, *component.shape]` for each component; Discrete and MultiDiscrete count from 0.

    Raises:
        ObservationError: a key is missing, a component's shape, type or range is not as declared,
            or components are of different batches. Of a Box only what its type can hold is checked,
            not its bounds.
    """
    if not isinstance(space, COMPONENT_TYPES):
        found: dict[str, NDArray[Any]] = {}
        for key, inner in _children(space):
            found |= component_arrays(inner, _child(observation, key, path), _join(path, key))
        if len({len(array) for array in found.values()}) > 1:
            sizes = {name: len(array) for name, array in found.items()}
            raise ObservationError(
                f"The observation{at(path)} has components of different batches: {sizes}."
            )
        return found
    try:
        array = as_array(observation)
    except ValueError as error:
        raise ObservationError(
            f"The observation{at(path)} is ragged; expected {_batch_of(space)}."
        ) from error
    shape = space.shape or ()
    if array.shape[1:] != shape or array.ndim != len(shape) + 1:
        raise ObservationError(
            f"The observation{at(path)} has shape {list(array.shape)}; expected {_batch_of(space)}."
        )
    kinds, what = ("biuf", "numbers") if _takes_fractions(space) else ("biu", "integers")
    if array.dtype.kind not in kinds:
        raise ObservationError(
            f"The observation{at(path)} is of type {array.dtype}; expected {what} of {space}."
        )
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        array = array.astype(np.float64)  # PyTorch has none that is wider
    if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)):
        size: Any = space.n if isinstance(space, spaces.Discrete) else space.nvec
        index = array.astype(np.int64, copy=False) - space.start
        _refuse(path, space, array, (index < 0) | (index >= size))
        return {path: index}
    if isinstance(space, spaces.MultiBinary):
        _refuse(path, space, array, (array != 0) & (array != 1))
    elif space.dtype != array.dtype and (limits := integer_limits(space.dtype)):
        _refuse(path, space, array, (array < limits[0]) | (array > limits[1]))
    return {path: array}


def integer_limits(dtype: Any) -> tuple[int, int] | None:
    """The least and greatest value of an integer type, bool among them; None for floats."""
    if dtype.kind == "b":
        return 0, 1
    return (np.iinfo(dtype).min, np.iinfo(dtype).max) if dtype.kind in "iu" else None


def _batch_of(space: gym.Space[Any]) -> str:
    return f"a batch [B{''.join(f', {n}' for n in space.shape or ())}] of {space}"


def _takes_fractions(space: gym.Space[Any]) -> bool:
    """Whether floats may stand for a component's values: not where they would be cut."""
    return isinstance(space, spaces.MultiBinary) or (
        isinstance(space, spaces.Box) and space.dtype.kind == "f"
    )


def _refuse(
    path: str, space: gym.Space[Any], array: NDArray[Any], outside: NDArray[np.bool_]
) -> None:
    if outside.any():
        entry = tuple(int(i) for i in np.argwhere(outside)[0])
        where = f" at {list(entry[1:])}" if entry[1:] else ""
        raise ObservationError(
            f"The observation{at(path)} of environment {entry[0]} is {array[entry]}{where}, which "
            f"is not in {space}."
        )


def stack_observations(space: gym.Space[Any], observations: Sequence[Any], path: str = "") -> Any:
    """Unbatched observations as one batched observation of the same nesting.

    Raises:
        ObservationError: a key is missing, or they do not have the same shape.
    """
    if not isinstance(space, COMPONENT_TYPES):
        stacked = {
            key: stack_observations(
                inner, [_child(o, key, path) for o in observations], _join(path, key)
            )
            for key, inner in _children(space)
        }
        return stacked if isinstance(space, spaces.Dict) else tuple(stacked.values())
    try:
        return np.stack([as_array(o) for o in observations])
    except ValueError as error:
        raise ObservationError(
            f"Observations{at(path)} of {space} differ in shape: {error}."
        ) from error


def rows_of(batch: Any, index: Any) -> Any:
    """Of batched observations, in whatever nesting, the one or those of this index.

    Raises:
        IndexError, TypeError: it holds fewer, or nothing that has rows.
    """
    if isinstance(batch, Mapping):
        return {key: rows_of(x, index) for key, x in batch.items()}
    if isinstance(batch, tuple):
        return tuple(rows_of(x, index) for x in batch)
    return as_array(batch)[index]


def check_streams(arrays: Mapping[str, NDArray[Any]], streams: int) -> None:
    """Refuse components `[B, ...]` that are not of so many streams.

    Raises:
        ObservationError: B is another number.
    """
    found = len(next(iter(arrays.values())))
    if found != streams:
        raise ObservationError(
            f"The observation is of {found} streams, and the actor plays {streams}. Give one "
            "observation for each, or make the actor with another num_envs."
        )


def first_nonfinite(arrays: dict[str, NDArray[Any]]) -> tuple[str, int] | None:
    """Path and environment of the first value that is no finite float32, or None."""
    for path, array in arrays.items():
        # NaN compares as false. A finite float64 beyond float32 would be infinite once stored.
        if array.dtype.kind == "f" and not (finite := np.abs(array) <= FLOAT32_MAX).all():
            return path, int(np.argwhere(~finite)[0, 0])
    return None


def is_image(space: gym.Space[Any]) -> bool:
    """Whether a component goes through a convolutional network: bytes, or three dimensions."""
    if not isinstance(space, spaces.Box) or 0 in space.shape:
        return False
    return has_form_of_image(space.shape, space.dtype)


def has_form_of_image(shape: Sequence[int], dtype: Any) -> bool:
    """Whether a Box of this shape and type, which may be its name, is an image."""
    return len(shape) == 3 or (len(shape) == 2 and bool(dtype == "uint8"))


def channel_axis(shape: tuple[int, ...]) -> int:
    """Which axis of an image holds its channels: 0, or 2.

    Two neighbouring axes that are alike are the sides: a board of 8 x 8 may have more channels than
    that. Else it is the smaller one of the first and last axes, the last where they are alike.
    """
    first, middle, last = shape
    if (first == middle) != (middle == last):
        return 2 if first == middle else 0
    return 2 if last <= first else 0


def storage_type(space: gym.Space[Any]) -> type[np.generic]:
    """The type in which a component is read and kept: bytes, bits (uint8), indices, or float32."""
    if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)):
        return np.int64
    if isinstance(space, spaces.MultiBinary) or space.dtype in (np.uint8, np.bool_):
        return np.uint8
    return np.float32


def storage_dtype(space: gym.Space[Any]) -> torch.dtype:
    """As `storage_type`, of a tensor."""
    dtype: torch.dtype = getattr(torch, storage_type(space).__name__)
    return dtype


def check_action_space(space: gym.Space[Any]) -> None:
    """Refuse an action space for which there is no head.

    Raises:
        UnsupportedSpaceError: names the space and what is supported.
    """
    discrete = (spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
    is_floats = isinstance(space, spaces.Box) and space.dtype.kind == "f"
    if not (isinstance(space, discrete) or is_floats) or str(space.dtype) not in DTYPES:
        raise UnsupportedSpaceError(
            f"The action space {space} is not supported. Use Discrete, MultiDiscrete, MultiBinary "
            "or a Box of floats; gymnasium.wrappers.TransformAction can convert others."
        )
    if (values := _count_values(space)) > MOST_VALUES:
        raise UnsupportedSpaceError(
            f"The action space {space} has {values:,} actions; {MOST_VALUES:,} are the most that "
            "there is memory for. Use a Box."
        )
    if 0 in (space.shape or ()):
        raise UnsupportedSpaceError(
            f"The action space {space} has no components: there is nothing to decide. Use "
            "Discrete(1) where the agent is only to watch."
        )
