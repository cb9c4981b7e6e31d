"""A step on the compiled kernels: the whole list of operations in one call."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recurrent_rl.agents.export.listing import (
    ELEMENTWISE,
    Listing,
    Operation,
    View,
    merged,
    numbers,
)
from recurrent_rl.agents.kernels import library

TYPES = ("float32", "float64", "int64", "int32", "int8", "uint8", "bool")
KINDS = (*ELEMENTWISE, "product", "sum", "max", "argmax", "rows", "convolution")
"""As steps.c numbers them."""


class Parts(NamedTuple):
    """An operation in the terms of steps.c."""

    kind: str
    sizes: list[int]
    """Of its axes."""
    arrays: list[tuple[View, tuple[int, ...]]]
    """Each with its strides along these axes; the first is the one that is filled."""
    options: list[int]


class CompiledStep:
    """As `numpy_policy.Step`, by the compiled kernels.

    Args:
        listing: what a step computes, which `serves` tells.

    Attributes:
        inputs: the arrays that a step reads, by name; what is in them stays.
        outputs: those that it leaves, by name; the next step overwrites them.
    """

    def __init__(self, listing: Listing) -> None:
        self._arrays = {
            buffer: np.zeros(buffer.size, buffer.dtype)
            if buffer.constant is None
            else np.ascontiguousarray(buffer.constant).reshape(-1)
            for buffer in listing.buffers
        }
        self.inputs = self._shown(listing.inputs)
        self.outputs = self._shown(listing.outputs)
        self._scratch: list[NDArray[np.float32]] = []
        operations = [self._operation(_parts(one)) for one in listing.operations]
        self._count = len(operations)
        self._operations = (library.Operation * self._count)(*operations)
        self._run = library.built().steps_run

    def __call__(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Carry it out.

        Args:
            inputs: those that change, by name, in their shapes.

        Returns:
            `outputs`.
        """
        for name, value in inputs.items():
            self.inputs[name][...] = value
        self._run(self._operations, self._count)
        return self.outputs

    def _shown(self, views: Mapping[str, View]) -> dict[str, NDArray[Any]]:
        return {name: numbers(view, self._arrays[view.buffer]) for name, view in views.items()}

    def _operation(self, parts: Parts) -> library.Operation:
        """As C reads it."""
        out, *operands = (self._array(view, strides) for view, strides in parts.arrays)
        found = library.Operation(
            kind=KINDS.index(parts.kind), operands=len(operands), axes=len(parts.sizes), out=out
        )
        found.sizes[: len(parts.sizes)] = parts.sizes
        found.options[: len(parts.options)] = parts.options
        for i, operand in enumerate(operands):
            getattr(found, "in")[i] = operand
        if parts.kind == "convolution":
            self._scratch.append(np.zeros(sum(parts.arrays[2][0].shape), np.float32))
            found.scratch = self._scratch[-1].ctypes.data
        return found

    def _array(self, view: View, strides: tuple[int, ...]) -> library.Array:
        array = self._arrays[view.buffer]
        data = array.ctypes.data + view.offset * array.itemsize
        found = library.Array(data=data, type=TYPES.index(view.dtype))
        found.strides[: len(strides)] = strides
        return found


def serves(listing: Listing) -> bool:
    """Whether steps.c has all operations of a step in their types."""
    kinds = ((one.kind, one.operands[-1].dtype) for one in listing.operations)
    return all(dtype in _OF_KIND.get(kind, _REAL) for kind, dtype in kinds)


def _parts(operation: Operation) -> Parts:
    """An operation as steps.c takes it."""
    kind, out, operands = operation.kind, operation.out, list(operation.operands)
    if kind in ELEMENTWISE:
        sizes, strides = merged(out.shape, [view.strides for view in (out, *operands)])
        if not sizes:
            sizes, strides = [1], [(0,)] * len(strides)
        return Parts(kind, sizes, list(zip((out, *operands), strides, strict=True)), [])
    if kind == "product":
        return _product(out, *operands)
    if kind == "rows":
        table, index = operands
        sizes = [index.size, table.shape[1]]
        return Parts(kind, sizes, [(view, ()) for view in (out, table, index)], [])
    if kind == "convolution":
        x, factors, _ = operands
        sizes = [*x.shape, factors.shape[1], *operation.options["kernel"], *out.shape[2:]]
        sizes += [*operation.options["stride"], *operation.options["padding"]]
        return Parts(kind, [], [(view, ()) for view in (out, *operands)], sizes)
    (x,) = operands
    arrays = [(out, out.strides[: len(x.shape) - 1]), (x, x.strides)]
    return Parts(kind, list(x.shape), arrays, [])


def _product(out: View, x: View, w: View, *bias: View) -> Parts:
    """Axes of the output, of which the last is that of w's columns, then the one summed over."""
    lead = len(out.shape) - 2
    of_x = (*x.strides[:-1], 0, x.strides[-1])
    of_w = (*(0,) * (lead + 2 - len(w.shape)), *w.strides[:-2], 0, w.strides[-1], w.strides[-2])
    arrays = [(out, out.strides), (x, of_x), (w, of_w), *((view, ()) for view in bias)]
    return Parts("product", [*out.shape, x.shape[-1]], arrays, [])


_REAL = ("float32", "float64")
_OF_KIND: dict[str, Collection[str]] = {
    "copy": TYPES,
    "rows": ("int64",),
    **dict.fromkeys(("product", "sum", "max", "argmax", "convolution"), ("float32",)),
    **dict.fromkeys(("neg", "add", "sub", "mul", "min", "max2"), (*_REAL, "int64")),
    **dict.fromkeys(
        ("gt", "ge", "lt", "le", "eq", "ne", "where"), (*_REAL, "int64", "uint8", "bool")
    ),
    **dict.fromkeys(("not", "and", "or"), ("bool",)),
}
"""The types of which steps.c has a kind of operation; of the others the real ones."""
