"""A step on the compiled kernels: the whole list of operations in one call."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recurrent_rl.agents.export.listing import ELEMENTWISE, Listing, Operation, View, merged
from recurrent_rl.agents.export.step import ExportError
from recurrent_rl.agents.kernels import library

TYPES = ("float32", "float64", "int64", "int32", "int8", "uint8", "bool")
KINDS = (
    *("copy", "neg", "not", "abs", "exp", "log", "log1p", "sqrt", "rsqrt", "sin", "cos", "tanh"),
    *("sigmoid", "erf", "floor", "add", "sub", "mul", "div", "min", "max2", "pow", "mod"),
    *("gt", "ge", "lt", "le", "eq", "ne", "and", "or", "where"),
    *("product", "sum", "max", "argmax", "rows", "convolution"),
)
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
        listing: what a step computes.

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
        self.inputs = {name: self._numbers(view) for name, view in listing.inputs.items()}
        self.outputs = {name: self._numbers(view) for name, view in listing.outputs.items()}
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

    def _numbers(self, view: View) -> NDArray[Any]:
        array = self._arrays[view.buffer][view.offset :]
        steps = [stride * array.itemsize for stride in view.strides]
        return np.lib.stride_tricks.as_strided(array, view.shape, steps)

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


def _parts(operation: Operation) -> Parts:
    """An operation as steps.c takes it.

    Raises:
        ExportError: it is of a type that steps.c has not.
    """
    kind, out, operands = operation.kind, operation.out, list(operation.operands)
    _check_type(kind, operands[-1].dtype)
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


def _check_type(kind: str, dtype: str) -> None:
    of_kind = {
        "copy": TYPES,
        "not": ("bool",),
        "and": ("bool",),
        "or": ("bool",),
        "rows": ("int64",),
    }
    if kind in ("product", "sum", "max", "argmax", "convolution"):
        allowed: Collection[str] = ("float32",)
    elif kind in ("neg", "add", "sub", "mul", "min", "max2"):
        allowed = ("float32", "float64", "int64")
    elif kind in ("gt", "ge", "lt", "le", "eq", "ne", "where"):
        allowed = ("float32", "float64", "int64", "uint8", "bool")
    else:
        allowed = of_kind.get(kind, ("float32", "float64"))
    if dtype not in allowed:
        raise ExportError(f"The compiled kernels have no {kind} of {dtype}.")
