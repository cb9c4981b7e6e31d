"""Ways to look at an array's numbers in another shape, of which none computes anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from recurrent_rl.agents.export.listing import View, dense_strides


def expanded(x: View, shape: Sequence[int], *_: Any) -> View:
    """Repeated along the axes that it lacks, or has once."""
    lacking = len(shape) - len(x.shape)
    own = (1,) * lacking + x.shape
    sizes = [own[axis] if size == -1 else size for axis, size in enumerate(shape)]
    strides = [
        0 if one == 1 and size != 1 else stride
        for one, size, stride in zip(own, sizes, (0,) * lacking + x.strides, strict=True)
    ]
    return View(x.buffer, tuple(sizes), tuple(strides), x.offset)


def permuted(x: View, order: Sequence[int]) -> View:
    """With the axes in this order."""
    shape = tuple(x.shape[axis] for axis in order)
    return View(x.buffer, shape, tuple(x.strides[axis] for axis in order), x.offset)


def with_axis(x: View, axis: int = -1) -> View:
    """With an axis of size 1 put in."""
    axis %= len(x.shape) + 1
    shape = (*x.shape[:axis], 1, *x.shape[axis:])
    return View(x.buffer, shape, (*x.strides[:axis], 0, *x.strides[axis:]), x.offset)


def squeezed(x: View, axes: Sequence[int]) -> View:
    """Without those of these axes that have size 1."""
    gone = {axis % len(x.shape) for axis in axes}
    kept = [i for i, size in enumerate(x.shape) if not (i in gone and size == 1)]
    return permuted(x, kept)


def sliced(x: View, axis: int = 0, begin: Any = 0, end: Any = None, step: int = 1) -> View:
    """From `begin` up to `end` along an axis."""
    axis %= len(x.shape)
    begin, end, step = slice(begin, end, step).indices(x.shape[axis])
    shape, strides = list(x.shape), list(x.strides)
    offset = x.offset + begin * strides[axis]
    shape[axis], strides[axis] = len(range(begin, end, step)), strides[axis] * step
    return View(x.buffer, tuple(shape), tuple(strides), offset)


def selected(x: View, axis: int, index: int) -> View:
    """One entry along an axis, which goes."""
    axis %= len(x.shape)
    part = sliced(x, axis, index % x.shape[axis])
    return permuted(part, [i for i in range(len(x.shape)) if i != axis])


def split(x: View, sizes: Sequence[int], axis: int = 0) -> list[View]:
    """In parts of these sizes along an axis."""
    ends = np.cumsum(sizes).tolist()
    return [sliced(x, axis, end - size, end) for size, end in zip(sizes, ends, strict=True)]


def reshaped(x: View, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The strides with which the same numbers have this shape; None: only a copy has it."""
    if x.is_dense:
        return dense_strides(shape)
    try:
        seen = np.lib.stride_tricks.as_strided(np.empty(1, np.int8), x.shape, x.strides)
        view = np.reshape(seen, shape, copy=False)
    except ValueError:
        return None
    return tuple(view.strides)


def is_one(x: View) -> bool:
    """Whether it is the number one."""
    return x.buffer.constant is not None and x.size == 1 and bool(x.buffer.constant == 1)
