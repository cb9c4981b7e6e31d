"""How a space is written into a file, and read from one that may come from anywhere."""

from __future__ import annotations

import math
import reprlib
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from recurrent_rl.agents.spaces import DTYPES, UnsupportedSpaceError, has_form_of_image


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


def space_from_json(
    fields: Any, most_entries: int | None = None, most_of_images: int | None = None
) -> gym.Space[Any]:
    """The space that `space_to_json` wrote.

    Args:
        fields: JSON values, which may come from anywhere.
        most_entries: of all Boxes together but for images, whose bounds take memory; None: any
            number.
        most_of_images: the same of images.

    Raises:
        ValueError: they are of no space, or of one with more entries.
    """
    try:
        for most, images in ((most_entries, False), (most_of_images, True)):
            if most is not None and (entries := _box_entries(fields, images)) > most:
                raise ValueError(f"the space has {entries:,} entries, more than {most:,}")
        return _space_from_json(fields)
    except (TypeError, LookupError, ArithmeticError, AssertionError, RecursionError) as error:
        raise ValueError(f"no space is described by that ({error!r})") from error


def _box_entries(fields: Any, images: bool) -> int:
    """Of all Boxes that are images, or of all others."""
    kind = fields["type"]
    if kind == "Box":
        shape = _shape(fields["shape"])
        return math.prod(shape) if has_form_of_image(shape, fields["dtype"]) == images else 0
    if kind == "Dict":
        return sum(_box_entries(inner, images) for _, inner in fields["spaces"])
    return sum(_box_entries(one, images) for one in fields["spaces"]) if kind == "Tuple" else 0


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
    if name not in DTYPES:
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
