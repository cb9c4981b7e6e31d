"""Array operations as statements in C."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any

from recurrent_rl.agents.export.c.functions import NAMES
from recurrent_rl.agents.export.c.names import Names
from recurrent_rl.agents.export.c.text import TYPES, cast, index, literal, loops
from recurrent_rl.agents.export.listing import (
    ELEMENTWISE,
    Buffer,
    Listing,
    Operation,
    View,
    merged,
)
from recurrent_rl.agents.export.step import ExportError


class Statements:
    """Writes the operations of a listing.

    Args:
        listing: of one stream.
        names: of its arrays.
        short: the constants that are kept in 8 bits.

    Attributes:
        computed: the arrays that are written on the way, in order of their first use.
    """

    def __init__(self, listing: Listing, names: Names, short: Collection[Buffer]) -> None:
        self._names, self._short = names, short
        self._inlined = _inlined(listing)
        self._by_out = {one.out.buffer: one for one in listing.operations}
        kept = self._by_out.keys() - self._inlined
        self.computed = [buffer for buffer in listing.buffers if buffer in kept]

    def of(self, operation: Operation) -> Iterator[str]:
        """The lines that fill an array; none where it is computed where it is used."""
        if operation.out.buffer in self._inlined:
            return
        yield ""
        yield from self._statement(operation)

    def _statement(self, operation: Operation) -> Iterator[str]:
        """What fills an array."""
        kind, out, operands = operation.kind, operation.out, operation.operands
        if kind in ELEMENTWISE:
            views = [out, *self._leaves(operation)]
            sizes, strides = merged(out.shape, [view.strides for view in views])
            text = self._expression(operation, dict(zip(map(_key, views), strides, strict=True)))
            yield from loops(sizes, f"{self._names.entry(out, strides[0])} = {text};")
        elif kind == "product":
            yield from self._product(operation, *operands)
        elif kind == "rows":
            table, index = operands
            width = table.shape[1]
            entry = f"{self._names.start(index)}[i]"
            yield f"for (int i = 0; i < {index.size}; i++) {{"
            yield (
                f"    memcpy({self._names.start(out)} + i * {width}, {self._names.start(table)} + "
                f"{entry} * {width}, sizeof({TYPES[out.dtype]}) * {width});"
            )
            yield "}"
        elif kind == "convolution":
            x, factors, bias = operands
            yield from self._convolution(out, x, factors, bias, **operation.options)
        else:
            yield from self._reduction(kind, out, *operands)

    def _leaves(self, operation: Operation) -> Iterator[View]:
        """The arrays that an expression reads, through those that are written into it."""
        for x in operation.operands:
            if x.buffer in self._inlined:
                yield from self._leaves(self._by_out[x.buffer])
            else:
                yield x

    def _expression(self, operation: Operation, strides: dict[Any, tuple[int, ...]]) -> str:
        """One number of an array, as C."""
        texts = []
        for x in operation.operands:
            if x.buffer in self._inlined:
                texts.append(self._expression(self._by_out[x.buffer], strides))
            elif x.buffer.constant is not None and x.buffer.size == 1:
                texts.append(literal(x.buffer.constant.item(), x.dtype))
            else:
                texts.append(self._names.entry(x, strides[_key(x)]))
        dtype = operation.operands[-1].dtype
        short = "f" if dtype == "float32" else ""
        if operation.kind == "copy":
            return cast(texts[0], dtype, operation.out.dtype)
        if operation.kind in INFIX:
            return _wrapped(f"({texts[0]} {INFIX[operation.kind]} {texts[1]})", operation)
        if short and operation.kind in NAMES:
            return f"{NAMES[operation.kind]}({texts[0]})"
        if operation.kind in FUNCTIONS:
            return f"{FUNCTIONS[operation.kind]}{short}({', '.join(texts)})"
        one = f"1{'.0' if short == '' else '.0f'}"
        patterns = {
            "neg": _wrapped("(-{0})", operation),
            "not": "(!{0})",
            "sigmoid": "(1.0 / (1.0 + exp(-{0})))",
            "rsqrt": f"({one} / sqrt{short}({{0}}))",
            "where": "({0} ? {1} : {2})",
        }
        return patterns[operation.kind].format(*texts)

    def _product(
        self, operation: Operation, x: View, w: View, bias: View | None = None
    ) -> Iterator[str]:
        out = operation.out
        *lead, columns = out.shape
        rows = x.shape[-1]
        if is_row(operation):
            begin = "0" if bias is None else self._names.start(bias)
            arguments = f"{self._names.start(out)}, {self._names.start(x)}, {self._names.start(w)}"
            if w.buffer in self._short:
                scale = f"{self._names.of(w.buffer)}_scale"
                yield f"product8({arguments}, {scale}, {begin}, {rows}, {columns});"
            else:
                yield f"product({arguments}, {begin}, {rows}, {columns});"
            return
        # Axes of the output, and the one that is summed over, in every array.
        summed = [*out.shape, rows]
        left = [*x.strides[:-1], 0, x.strides[-1]]
        right = [*w.strides[:-2], 0, w.strides[-1], w.strides[-2]]
        target = [*out.strides, 0]
        names = "ijklmn"
        beside = bias is None and out.dtype == "float32"
        if beside and columns == 1 and x.strides[-1] == w.strides[-2] == 1:
            text = (
                f"{self._names.entry(out, out.strides)} = dot({self._names.start(x)} + "
                f"{index(0, left[:-1], names)}, {self._names.start(w)} + "
                f"{index(0, right[:-1], names)}, {rows});"
            )
            yield from loops(out.shape, text)
            return
        place = f"{self._names.of(out.buffer)}[{index(out.offset, target, names)}]"
        begin = "0" if bias is None else self._names.entry(bias, [*[0] * len(lead), 1])
        yield from loops(out.shape, f"{place} = {begin};")
        first = f"{self._names.read(x.buffer)}[{index(x.offset, left, names)}]"
        second = f"{self._names.read(w.buffer)}[{index(w.offset, right, names)}]"
        yield from loops(summed, f"{place} += {first} * {second};")

    def _reduction(self, kind: str, out: View, x: View) -> Iterator[str]:
        width = x.shape[-1]
        lead = x.shape[:-1]
        begin = f"{self._names.start(x)} + {index(0, x.strides[:-1], 'ijklmn')}"
        name = {"sum": "sum_of", "max": "largest_of", "argmax": "place_of_largest"}[kind]
        if x.dtype != "float32":
            raise ExportError(f"A policy in C has no {kind} of {x.dtype} numbers, only of float32.")
        strides = out.strides[: len(lead)]
        yield from loops(lead, f"{self._names.entry(out, strides)} = {name}({begin}, {width});")

    def _convolution(
        self,
        out: View,
        x: View,
        factors: View,
        bias: View,
        kernel: list[int],
        stride: list[int],
        padding: list[int],
    ) -> Iterator[str]:
        _, *image = x.shape
        sizes = (*image, *factors.shape[1:], *kernel, *out.shape[2:], *stride, *padding)
        arrays = ", ".join(map(self._names.start, (out, x, factors, bias)))
        yield "{"
        yield f"    float patch[{factors.shape[0]}], sums[{factors.shape[1]}];"
        yield f"    convolution({arrays}, {', '.join(map(str, sizes))}, patch, sums);"
        yield "}"


def _wrapped(text: str, operation: Operation) -> str:
    """As a small integer where the operation gives one: C computes them as int."""
    dtype = operation.out.dtype
    return f"({TYPES[dtype]}){text}" if dtype in ("int8", "uint8") else text


def is_row(product: Operation) -> bool:
    """Whether a product is of one row in single precision, for which there is a function."""
    x, w, *_ = product.operands
    one = math.prod(product.out.shape[:-1]) == 1 and product.out.dtype == "float32"
    return one and x.is_dense and w.is_dense


def _key(view: View) -> Any:
    return (view.buffer, view.offset, view.strides)


def _inlined(listing: Listing) -> set[Buffer]:
    """Arrays that are computed where they are used: once, number by number, all of them."""
    uses: Counter[Buffer] = Counter(view.buffer for view in listing.outputs.values())
    writers: Counter[Buffer] = Counter()
    for operation in listing.operations:
        uses.update(view.buffer for view in operation.operands)
        writers[operation.out.buffer] += 1
    shapes = {
        operation.out.buffer: operation.out.shape
        for operation in listing.operations
        if operation.kind in ELEMENTWISE
    }
    return {
        x.buffer
        for operation in listing.operations
        if operation.kind in ELEMENTWISE
        for x in operation.operands
        if uses[x.buffer] == writers[x.buffer] == 1
        and shapes.get(x.buffer) == x.shape
        and x.is_dense
    }


INFIX = {
    **{"add": "+", "sub": "-", "mul": "*", "div": "/", "gt": ">", "ge": ">=", "lt": "<"},
    **{"le": "<=", "eq": "==", "ne": "!=", "and": "&&", "or": "||"},
}
FUNCTIONS = {
    **{
        name: name for name in ("exp", "log", "log1p", "sqrt", "sin", "cos", "tanh", "erf", "floor")
    },
    **{"abs": "fabs", "pow": "pow", "min": "least", "max2": "greatest", "mod": "modulo"},
}
