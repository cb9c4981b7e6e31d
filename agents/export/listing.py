"""A step as a list of plain array operations: what runtimes without torch read.

Every array has a fixed shape. What only looks at another's numbers (a slice, a transpose) is no
operation: it is a view, with an offset and strides, as NumPy has them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurrent_rl.agents.export.signature import Signature


@dataclass(eq=False)
class Buffer:
    """Numbers one after the other."""

    name: str
    dtype: str
    """float32, float64, int64, int32, int8, uint8 or bool."""
    size: int
    constant: NDArray[Any] | None = None
    """What it holds from the start, in its shape; None: it is computed, or given."""


@dataclass(frozen=True)
class View:
    """Some numbers of a buffer, in a shape."""

    buffer: Buffer
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    """In numbers, not in bytes; 0 along an axis where all are alike."""
    offset: int = 0

    @property
    def dtype(self) -> str:
        """Of the numbers."""
        return self.buffer.dtype

    @property
    def size(self) -> int:
        """How many numbers it shows."""
        return prod(self.shape)

    @property
    def is_dense(self) -> bool:
        """Whether the numbers stand one after the other."""
        dense = zip(self.shape, self.strides, dense_strides(self.shape), strict=True)
        return self.size == 0 or all(size == 1 or a == b for size, a, b in dense)


def dense_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Of numbers one after the other, the last axis quickest."""
    return tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))


def whole(buffer: Buffer, shape: tuple[int, ...]) -> View:
    """All of a buffer."""
    return View(buffer, shape, dense_strides(shape))


@dataclass(frozen=True)
class Operation:
    """What fills an array.

    `kind` is one of:

    - a key of `ELEMENTWISE`: number by number, of operands of the output's shape, or of one number;
    - `product`: x `[..., M, K]` times w `[..., K, N]`, with a bias `[N]` as third operand where
      there is one;
    - `sum`, `max`, `argmax`: over the last axis of x, to an output without it;
    - `complex`: the product of complex numbers `[n, 2]`, whose parts stand one after the other;
    - `replace`: a number `[]` takes the place of those of x where a choice is what the option
      `where` says, and x `[...]` is the output too; of choice, x and number;
    - `rows`: those of table `[R, N]` with the indices `[...]`, to `[..., N]`;
    - `convolution`: image `[B, C, H, W]`, factors `[C * R * S, O]`, bias `[O]`, to
      `[B, O, H', W']`, with the options kernel (R and S), stride and padding, `[2]` each.
    """

    kind: str
    out: View
    operands: tuple[View, ...]
    options: dict[str, Any] = field(default_factory=dict)


ELEMENTWISE = (
    *("copy", "neg", "not", "abs", "exp", "log", "log1p", "sqrt", "rsqrt"),
    *("sin", "cos", "tanh", "sigmoid", "erf", "floor"),
    *("add", "sub", "mul", "div", "min", "max2", "pow", "mod"),
    *("gt", "ge", "lt", "le", "eq", "ne", "and", "or", "where"),
)
"""Operations number by number: of one operand, of two, and last `where`, of three. `copy` also
changes the type; `mod` has the sign of its second operand; `not`, `and` and `or` are of
booleans."""
EACH = (*ELEMENTWISE, "replace", "complex")
"""With those that a shortened step has too."""


@dataclass(frozen=True)
class Listing:
    """A whole step."""

    signature: Signature
    inputs: dict[str, View]
    outputs: dict[str, View]
    operations: tuple[Operation, ...]

    @property
    def buffers(self) -> list[Buffer]:
        """All that it reads or writes, in order of their first use."""
        views = [*self.inputs.values()]
        for operation in self.operations:
            views += [*operation.operands, operation.out]
        views += self.outputs.values()
        return list(dict.fromkeys(view.buffer for view in views))


def merged(
    shape: tuple[int, ...], strides: list[tuple[int, ...]]
) -> tuple[list[int], list[tuple[int, ...]]]:
    """As few axes as there can be: those of size 1 go, neighbours that are one run become one.

    Args:
        shape: of all arrays.
        strides: of each array.

    Returns:
        The sizes of the axes, and each array's strides along them.
    """
    axes: list[tuple[int, tuple[int, ...]]] = []
    for size, steps in zip(shape, zip(*strides, strict=True), strict=True):
        if size == 1:
            continue
        if axes and all(a == b * size for a, b in zip(axes[-1][1], steps, strict=True)):
            axes[-1] = (axes[-1][0] * size, steps)
        else:
            axes.append((size, steps))
    of_arrays = list(zip(*(steps for _, steps in axes), strict=True)) or [()] * len(strides)
    return [size for size, _ in axes], of_arrays


def flat(operation: Operation) -> tuple[View, tuple[View, ...]]:
    """What an operation fills, and its operands: of one number by number with few axes.

    An operand that is one number for all has none.
    """
    views = (operation.out, *operation.operands)
    if operation.kind in EACH:
        sizes, strides = merged(operation.out.shape, [view.strides for view in views])
        shapes = [tuple(sizes) if any(steps) or i == 0 else () for i, steps in enumerate(strides)]
        views = tuple(
            View(view.buffer, shape, steps[: len(shape)], view.offset)
            for view, shape, steps in zip(views, shapes, strides, strict=True)
        )
    return views[0], views[1:]


def numbers(view: View, of: NDArray[Any]) -> NDArray[Any]:
    """What a view shows of its buffer's numbers, which stand in a row."""
    array = of[view.offset :]
    steps = [stride * array.itemsize for stride in view.strides]
    return np.lib.stride_tricks.as_strided(array, view.shape, steps)


def filled(name: str, value: Any) -> View:
    """A constant."""
    array = np.ascontiguousarray(value)
    return whole(Buffer(name, str(array.dtype), array.size, array), array.shape)


def to_json(listing: Listing) -> dict[str, Any]:
    """As a file holds it; what is constant is told by name."""
    buffers = listing.buffers
    number = {buffer: i for i, buffer in enumerate(buffers)}

    def view(x: View) -> list[Any]:
        return [number[x.buffer], x.offset, list(x.shape), list(x.strides)]

    def operation(one: Operation) -> list[Any]:
        out, operands = flat(one)
        return [one.kind, view(out), [view(x) for x in operands], one.options]

    return {
        "buffers": [[buffer.name, buffer.dtype, buffer.size] for buffer in buffers],
        "operations": [operation(one) for one in listing.operations],
        "inputs": {name: view(x) for name, x in listing.inputs.items()},
        "outputs": {name: view(x) for name, x in listing.outputs.items()},
    }


def constants_of(listing: Listing) -> dict[str, NDArray[Any]]:
    """What is not computed, by name."""
    return {
        buffer.name: buffer.constant for buffer in listing.buffers if buffer.constant is not None
    }
