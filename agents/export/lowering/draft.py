"""A list of array operations while it is being written."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import fx

from recurrent_rl.agents.export.listing import (
    ELEMENTWISE,
    Buffer,
    Operation,
    View,
    dense_strides,
    filled,
    numbers,
    whole,
)
from recurrent_rl.agents.export.lowering.views import expanded, permuted


def kind_of(node: fx.Node) -> tuple[tuple[int, ...], str]:
    """Shape and type of what a node gives."""
    value = node.meta["val"]
    return tuple(value.shape), str(value.dtype).removeprefix("torch.")


class Draft:
    """Operations so far, and names for the arrays that they fill.

    Attributes:
        operations: in their order.
        name: of the node that is written now; arrays are named after it.
    """

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.name = ""
        self._names: Counter[str] = Counter()

    def unique(self) -> str:
        """A name for an array."""
        self._names[self.name] += 1
        number = self._names[self.name]
        return self.name if number == 1 else f"{self.name}_part{number}"

    def new(self, shape: Sequence[int], dtype: str) -> View:
        """An array to be computed."""
        return whole(Buffer(self.unique(), dtype, math.prod(shape)), tuple(shape))

    def number(self, x: float, dtype: str) -> View:
        """A constant."""
        return filled(self.unique(), np.asarray(x, dtype))

    def do(
        self,
        kind: str,
        shape: Sequence[int],
        dtype: str,
        *operands: View,
        into: View | None = None,
        **options: Any,
    ) -> View:
        """Add an operation; what it fills."""
        out = self.new(shape, dtype) if into is None else into
        if kind in ELEMENTWISE:
            operands = tuple(expanded(one, out.shape) for one in operands)
        self.operations.append(Operation(kind, out, operands, options))
        return out

    def operand(self, x: Any, dtype: str, kind: str) -> View:
        """A view, or a number as one, in the type that an operation computes in."""
        if not isinstance(x, View):
            return self.number(x, dtype)
        if x.dtype == dtype or kind == "where":  # the condition is of another
            return x
        return self.do("copy", x.shape, dtype, x)

    def dense(self, x: View) -> View:
        """The numbers one after the other."""
        if x.is_dense:
            return x
        if x.buffer.constant is not None:
            return filled(f"{x.buffer.name}_dense", numbers(x, x.buffer.constant.reshape(-1)))
        return self.do("copy", x.shape, x.dtype, x)

    def last(self, x: View, axes: Sequence[int]) -> View:
        """With these axes as the last one, and the numbers one after the other."""
        found = [axis % len(x.shape) for axis in axes]
        order = [axis for axis in range(len(x.shape)) if axis not in found] + found
        moved = self.dense(permuted(x, order))
        lead = moved.shape[: len(x.shape) - len(found)]
        shape = (*lead, math.prod(moved.shape[len(lead) :]))
        return View(moved.buffer, shape, dense_strides(shape), moved.offset)
