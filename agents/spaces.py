"""Spaces: which are supported, how an observation becomes tensors, and how a space is written down.

Inside the library an observation is a dictionary of *components*: one array for each Box, Discrete,
MultiDiscrete or MultiBinary in the space, named by its path. A plain space has the single path "".
"""

from __future__ import annotations

import math
import reprlib
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
_DTYPES = frozenset(
    {
        *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *("float16", "float32", "float64"),
    }
)
"""Types that PyTorch and a file can hold: not longdouble, nor those of the other byte order."""
MOST_VALUES = 2**26
"""Of a Discrete or a MultiDiscrete: their table of vectors takes 8 GiB."""


class UnsupportedSpaceError(UserError):
    """A space for which there is no encoder or no action head."""


class ObservationError(UserError):
    """An observation that is not what its space declares, or no finite number."""


class ActionMaskError(UserError):
    """An action mask that does not fit its action space, or allows nothing."""


def as_array(x: Any) -> NDArray[Any]:
    """A NumPy array of what an environment or a user hands over: array, list, number or tensor."""
    return np.asarray(x.detach().cpu() if isinstance(x, Tensor) else x)


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


def component_spaces(space: gym.Space[Any], path: str = "") -> dict[str, gym.Space[Any]]:
    """The components of an observation space by path, in the space's order.

    A component or a Dict without entries adds nothing, but must not be all there is.

    Raises:
        UnsupportedSpaceError: a component is of another kind or type, a key cannot be part of a
            path, or there is nothing to see.
    """
    found = _component_spaces(space, path)
    if not any(np.prod(component.shape or ()) for component in found.values()):
        raise UnsupportedSpaceError(
            f"The observation space {space}{at(path)} is empty: there is nothing to see. Use one "
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
    if str(space.dtype) not in _DTYPES:
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
    if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)):
        size: Any = space.n if isinstance(space, spaces.Discrete) else space.nvec
        index = array.astype(np.int64, copy=False) - space.start
        _refuse(path, space, array, (index < 0) | (index >= size))
        return {path: index}
    if isinstance(space, spaces.MultiBinary):
        _refuse(path, space, array, (array != 0) & (array != 1))
    elif space.dtype != array.dtype and (limits := _integer_limits(space.dtype)):
        _refuse(path, space, array, (array < limits[0]) | (array > limits[1]))
    return {path: array}


def _integer_limits(dtype: Any) -> tuple[int, int] | None:
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
    return len(space.shape) == 3 or (len(space.shape) == 2 and space.dtype == np.uint8)


def storage_dtype(space: gym.Space[Any]) -> torch.dtype:
    """The type that keeps a component: uint8 for bits and bytes, float32, int64 for indices."""
    if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)):
        return torch.int64
    if isinstance(space, spaces.MultiBinary) or space.dtype in (np.uint8, np.bool_):
        return torch.uint8
    return torch.float32


def mask_sizes(space: gym.Space[Any]) -> list[int] | None:
    """How many actions each component of an action has; None where actions have no masks."""
    if isinstance(space, spaces.Discrete):
        return [int(space.n)]
    if isinstance(space, spaces.MultiDiscrete):
        return [int(n) for n in space.nvec.reshape(-1)]
    return None


def flat_mask(space: gym.Space[Any], mask: Any) -> NDArray[np.bool_]:
    """One action mask, the components one behind the other.

    Args:
        space: Discrete or MultiDiscrete.
        mask: 1 or true for what is allowed: `[n]`, n the sum of all components' actions; or one
            mask for each component, as Gymnasium nests them, also as the rows of a matrix that is
            filled up with zeros.

    Returns:
        bool `[n]`.

    Raises:
        ActionMaskError: the space has no masks, or this is none of its.
    """
    sizes = mask_sizes(space)
    if sizes is None:
        raise ActionMaskError(f"{space} has no action masks; leave them out.")
    parts = [as_array(part).reshape(-1) for part in _mask_parts(mask)]
    if len(parts) == len(sizes) > 1:
        fits = all(
            len(part) >= size and not part[size:].any()
            for part, size in zip(parts, sizes, strict=True)
        )
        flat = np.concatenate([part[:n] for part, n in zip(parts, sizes, strict=True)])
    else:
        flat = np.concatenate(parts) if parts else np.empty(0)
        fits = len(flat) == sum(sizes)
    if not fits:
        shape = [len(part) for part in parts] if len(parts) > 1 else [len(flat)]
        raise ActionMaskError(
            f"An action mask of {shape} entries does not fit {space}; expected "
            + (f"{sizes[0]}." if len(sizes) == 1 else f"{sum(sizes)}, or {sizes}.")
        )
    return as_mask(flat)


def _mask_parts(mask: Any) -> list[Any]:
    """What a mask is nested of: itself, or the masks of its components, in order."""
    if isinstance(mask, (list, tuple)):
        inner = [part for one in mask for part in _mask_parts(one)]
        scalars = all(np.ndim(part) == 0 for part in inner)
        return [np.array(inner)] if scalars and inner else inner
    array = as_array(mask)
    if array.dtype.kind == "O" and array.ndim:
        return _mask_parts(array.tolist())
    return list(array.reshape(-1, array.shape[-1])) if array.ndim > 1 else [array]


def as_mask(array: NDArray[Any]) -> NDArray[np.bool_]:
    """Zeros and ones of any type as bool.

    Raises:
        ActionMaskError: there is something else among them.
    """
    if array.dtype.kind == "b":
        return array
    try:
        values = array.astype(np.float64)
    except (TypeError, ValueError):
        values = np.full(array.shape, np.nan)
    if not ((values == 0) | (values == 1)).all():
        raise ActionMaskError(
            f"An action mask holds {array.tolist()}; expected 1 for what is allowed and 0 for "
            "what is not."
        )
    allowed: NDArray[np.bool_] = values == 1
    return allowed


def batch_of_masks(
    space: gym.Space[Any], masks: Any, batch: int, batched: bool
) -> NDArray[np.bool_]:
    """Masks for a batch of actions as bool `[B, n]`: one for each, or one for all.

    Args:
        space: of one action.
        masks: in any form of `flat_mask`; with `batched` also an array or list of `B` of them.
        batch: `B`.
        batched: whether a list of `B` entries can be one mask for each.

    Raises:
        ActionMaskError: as `flat_mask`.
    """
    refused: ActionMaskError | None = None
    if batched:
        try:
            if len(masks) == batch:
                return np.stack([flat_mask(space, mask) for mask in masks])
        except TypeError:  # no list of masks, nor one mask
            pass
        except ActionMaskError as error:
            refused = error
    try:
        one = flat_mask(space, masks)
    except ActionMaskError as error:
        raise (refused or error) from None
    return np.tile(one, (batch, 1))


def allows_nothing(space: gym.Space[Any], masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """For which of the masks `[B, n]` some component of the action has nothing left to choose."""
    starts = np.cumsum([0, *(mask_sizes(space) or [])[:-1]])
    left = np.add.reduceat(masks, starts, axis=1, dtype=np.int64)
    nothing: NDArray[np.bool_] = (left == 0).any(axis=1)
    return nothing


def check_action_space(space: gym.Space[Any]) -> None:
    """Refuse an action space for which there is no head.

    Raises:
        UnsupportedSpaceError: names the space and what is supported.
    """
    discrete = (spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
    is_floats = isinstance(space, spaces.Box) and space.dtype.kind == "f"
    if not (isinstance(space, discrete) or is_floats) or str(space.dtype) not in _DTYPES:
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


def space_to_json(space: gym.Space[Any]) -> dict[str, Any]:
    """A space as JSON values; `space_from_json` gives an equal one, its keys in the same order.

    Raises:
        UnsupportedSpaceError: the space, or one in it, is of another kind.
    """
    if isinstance(space, spaces.Box):
        return {
            "type": "Box",
            "low": _bound_to_json(space.low),
            "high": _bound_to_json(space.high),
            "shape": list(space.shape),
            "dtype": str(space.dtype),
        }
    if isinstance(space, spaces.Discrete):
        fields = {"type": "Discrete", "n": int(space.n), "start": int(space.start)}
        # Only where it is not the usual one: older releases of Gymnasium know no other.
        return fields if space.dtype == np.int64 else fields | {"dtype": str(space.dtype)}
    if isinstance(space, spaces.MultiDiscrete):
        return {
            "type": "MultiDiscrete",
            "nvec": space.nvec.tolist(),
            "start": space.start.tolist(),
            "dtype": str(space.dtype),
        }
    if isinstance(space, spaces.MultiBinary):
        fields = {"type": "MultiBinary", "n": list(space.shape)}
        # Gymnasium tells MultiBinary([3]) from MultiBinary(3), which is the usual one.
        is_sequence = len(space.shape) == 1 and not isinstance(space.n, int)
        return fields | {"sequence": True} if is_sequence else fields
    if isinstance(space, spaces.Dict):
        # A list keeps the order, which the components follow.
        inner = [[key, space_to_json(s)] for key, s in space.spaces.items()]
        return {"type": "Dict", "spaces": inner}
    if isinstance(space, spaces.Tuple):
        return {"type": "Tuple", "spaces": [space_to_json(inner) for inner in space.spaces]}
    raise UnsupportedSpaceError(f"The space {space} cannot be saved.")


def space_from_json(fields: Any, most_entries: int | None = None) -> gym.Space[Any]:
    """The space that `space_to_json` wrote.

    Args:
        fields: JSON values, which may come from anywhere.
        most_entries: of all Boxes together, whose bounds take memory; None: any number.

    Raises:
        ValueError: they are of no space, or of one with more entries.
    """
    try:
        if most_entries is not None and (entries := _box_entries(fields)) > most_entries:
            raise ValueError(f"the space has {entries:,} entries, more than {most_entries:,}")
        return _space_from_json(fields)
    except (TypeError, LookupError, ArithmeticError, AssertionError, RecursionError) as error:
        raise ValueError(f"no space is described by that ({error!r})") from error


def _box_entries(fields: Any) -> int:
    kind = fields["type"]
    if kind == "Box":
        return math.prod(_shape(fields["shape"]))
    if kind == "Dict":
        return sum(_box_entries(inner) for _, inner in fields["spaces"])
    return sum(map(_box_entries, fields["spaces"])) if kind == "Tuple" else 0


def _space_from_json(fields: Any) -> gym.Space[Any]:
    kind = fields["type"]
    if kind == "Box":
        dtype, shape = _dtype(fields["dtype"]), _shape(fields["shape"])
        low, high = (
            np.broadcast_to(_numbers(fields[side], dtype), shape).copy() for side in ("low", "high")
        )
        return spaces.Box(low, high, dtype=dtype.type)
    if kind == "Discrete":
        given: dict[str, Any] = {}
        if "dtype" in fields:
            given["dtype"] = _dtype(fields["dtype"]).type
        return spaces.Discrete(fields["n"], start=fields["start"], **given)
    if kind == "MultiDiscrete":
        dtype = _dtype(fields["dtype"])
        nvec, start = (_numbers(fields[name], dtype) for name in ("nvec", "start"))
        return spaces.MultiDiscrete(nvec, dtype=dtype.type, start=start)
    if kind == "MultiBinary":
        n = _shape(fields["n"])
        return spaces.MultiBinary(n[0] if len(n) == 1 and not fields.get("sequence") else n)
    if kind == "Dict":
        # Pairs, not a dictionary, whose keys Gymnasium would sort.
        return spaces.Dict([(key, _space_from_json(inner)) for key, inner in fields["spaces"]])
    if kind == "Tuple":
        return spaces.Tuple([_space_from_json(inner) for inner in fields["spaces"]])
    raise ValueError(f"unknown type of space {reprlib.repr(kind)}")


def _dtype(name: Any) -> np.dtype[Any]:
    if name not in _DTYPES:
        raise ValueError(f"{reprlib.repr(name)} is no type of numbers")
    dtype: np.dtype[Any] = np.dtype(name)
    return dtype


def _shape(value: Any) -> list[int]:
    if not (isinstance(value, list) and all(type(n) is int and n >= 0 for n in value)):
        raise ValueError(f"{reprlib.repr(value)} is no shape")
    return value


def _numbers(value: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Nested lists of numbers, infinities as text, as an array; integers are not rounded."""
    if dtype.kind == "f":
        return np.array(value, dtype=float).astype(dtype)
    array = np.array(value, dtype=object)  # of Python's integers: others would round 2^63
    least, most = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    if not all(isinstance(x, int) and least <= x <= most for x in array.flat):
        raise ValueError(f"{reprlib.repr(value)} is not of {dtype}")
    return array.astype(dtype)


def _bound_to_json(bound: NDArray[Any]) -> Any:
    """One number where all entries are alike, else nested lists; infinities as text."""

    def item(value: Any) -> Any:
        if isinstance(value, list):
            return [item(inner) for inner in value]
        return value if np.isfinite(value) else str(value)

    if not bound.size:
        return 0  # whatever it is, for its shape says that there is none
    alike = (bound == bound.flat[0]).all()
    return item(bound.flat[0].item() if alike else bound.tolist())
