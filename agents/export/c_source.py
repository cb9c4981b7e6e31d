"""A step as C99: one header and one source, without dependencies and without allocation."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from recurrent_rl.agents.export.c_helpers import HELPERS
from recurrent_rl.agents.export.c_text import (
    TYPES,
    array,
    cast,
    comment,
    declared,
    index,
    literal,
    loops,
    member,
    shortened,
)
from recurrent_rl.agents.export.listing import (
    ELEMENTWISE,
    Buffer,
    Listing,
    Operation,
    View,
    merged,
)
from recurrent_rl.agents.export.signature import Signature
from recurrent_rl.agents.export.step import MASK, START, ExportError
from recurrent_rl.agents.previous_step import PREVIOUS_REWARD

FEWEST_ROWS = 8
"""Of a weight that is kept in 8 bits."""


@dataclass(frozen=True)
class Source:
    """The two files."""

    header: str
    source: str


Limits: TypeAlias = dict[str, tuple[NDArray[Any], NDArray[Any]]]
"""Of inputs that are indices, the least and the greatest value of each entry."""


def struct_fields(signature: Signature) -> list[str]:
    """What the struct holds behind `episode_start`, in its order: the state, then what is shown."""
    after = {*signature.state.values(), "action"}
    return [*signature.state, *(one.name for one in signature.outputs if one.name not in after)]


def written(
    listing: Listing, name: str, limits: Limits, mask_parts: Sequence[int], int8: bool
) -> Source:
    """A step as C.

    Args:
        listing: of one stream.
        name: before every public name in it: `name_step`, `name_reset`, `name_state`.
        limits: of the inputs that are indices.
        mask_parts: entries of an action mask for each component of an action.
        int8: keep the factors of products in 8 bits each, with a scale for each column.

    Raises:
        ExportError: the listing is of several streams.
    """
    if listing.signature.batch != 1:
        raise ExportError("A policy in C is of one stream: --batch 1.")
    return _Writer(listing, name, limits, mask_parts, int8).source()


class _Writer:
    """Writes the two files.

    Args: see `written`.
    """

    def __init__(
        self, listing: Listing, name: str, limits: Limits, mask_parts: Sequence[int], int8: bool
    ) -> None:
        self._listing, self._name, self._int8 = listing, name, int8
        self._limits, self._mask_parts = limits, mask_parts
        self._state = listing.signature.state
        self._given = [one for one in listing.inputs if one not in {*self._state, START}]
        self._shown = struct_fields(listing.signature)[len(self._state) :]
        self._texts: dict[Buffer, str] = {}
        self._inlined = _inlined(listing)
        self._by_out = {one.out.buffer: one for one in listing.operations}

    def source(self) -> Source:
        """Header and source."""
        return Source(self._header(), self._source())

    # ---------------------------------------------------------------------------- the header

    def _header(self) -> str:
        name, upper = self._name, self._name.upper()
        fields = {field.name: field for field in self._listing.signature.inputs}
        results = {field.name: field for field in self._listing.signature.outputs}
        lines = [
            f"/* {name}: a trained recurrent policy, written by recurrent-rl as C99.",
            " *",
            f" *     {name}_state s;",
            f" *     {name}_reset(&s);                         an episode starts",
            f" *     status = {name}_step(&s, {', '.join(self._given)}, action);",
            " *",
            " * One state for each stream. Nothing is allocated, and nothing global changes:",
            " * threads may step different states at the same time. Of arrays with several axes",
            " * the last is quickest.",
            f" * A step takes about {self._stack_bytes():,} bytes of the stack. */",
            f"#ifndef {upper}_H",
            f"#define {upper}_H",
            "",
            "#include <stdint.h>",
            "",
            "#ifdef __cplusplus",
            'extern "C" {',
            "#endif",
            "",
            "enum {",
            f"    {upper}_OK = 0,",
            f"    {upper}_NOT_FINITE = 1,      /* an input is NaN or infinite */",
            f"    {upper}_OUT_OF_RANGE = 2,    /* an integer is none of its space */",
            f"    {upper}_NOTHING_ALLOWED = 3  /* the mask forbids every action */",
            "};  /* In all cases but the first the state is as it was. */",
            "",
            "typedef struct {",
            "    uint8_t episode_start;  /* the next observation starts an episode */",
        ]
        for before in self._state:
            lines += member(self._listing.inputs[before], self._kept(before), fields[before])
        if self._shown:
            lines.append("    /* Of the last step: */")
        for shown in self._shown:
            lines += member(self._listing.outputs[shown], shown, results[shown])
        lines += [f"}} {name}_state;", ""]
        lines += [f"void {name}_reset({name}_state *state);", "", "/* One step:"]
        for given in self._given:
            lines.append(f" * {given}: {comment(fields[given].meaning)}")
        lines.append(f" * action: {comment(results['action'].meaning)} */")
        lines += [
            f"{self._prototype()};",
            "",
            "#ifdef __cplusplus",
            "}",
            "#endif",
            "",
            "#endif",
            "",
        ]
        return "\n".join(lines)

    def _stack_bytes(self) -> int:
        """Of the arrays that a step computes on the way."""
        found = sum(
            buffer.size * np.dtype(buffer.dtype).itemsize for buffer in self._computed_buffers()
        )
        patches = [
            4 * sum(one.operands[1].shape)
            for one in self._listing.operations
            if one.kind == "convolution"
        ]
        return found + max(patches, default=0)

    def _computed_buffers(self) -> list[Buffer]:
        """Arrays on the way, in order of their first use."""
        kept = {one.out.buffer for one in self._listing.operations} - self._inlined
        return [buffer for buffer in self._listing.buffers if buffer in kept]

    def _kept(self, before: str) -> str:
        """The name of a part of the state in the struct."""
        return before.removesuffix("_in")

    def _prototype(self) -> str:
        arguments = [f"{self._name}_state *state"]
        arguments += [f"const {declared(self._listing.inputs[one], one)}" for one in self._given]
        arguments.append(declared(self._listing.outputs["action"], "action"))
        return f"int {self._name}_step({', '.join(arguments)})"

    # ---------------------------------------------------------------------------- the source

    def _source(self) -> str:
        body = list(self._body())
        constants = list(self._constants())
        text = "\n".join(body)
        called = text + HELPERS["convolution"] * ("convolution(" in text)
        helpers = [helper for name, helper in HELPERS.items() if re.search(rf"\b{name}\(", called)]
        return "\n".join(
            [
                f'#include "{self._name}.h"',
                "",
                "#include <math.h>",
                "#include <string.h>",
                "",
                "#ifdef __cplusplus",
                "#define restrict /* C++ has none */",
                "#endif",
                "",
                *constants,
                *helpers,
                f"void {self._name}_reset({self._name}_state *state) {{",
                "    memset(state, 0, sizeof *state);",
                "    state->episode_start = 1;",
                "}",
                "",
                f"{self._prototype()} {{",
                *(f"    {line}" if line else "" for line in body),
                "}",
                "",
            ]
        )

    def _constants(self) -> Iterator[str]:
        """The weights that are read, as arrays."""
        for buffer in self._listing.buffers:
            if buffer.constant is None or buffer not in self._texts:
                continue
            if self._is_short(buffer):
                factors, scale = shortened(buffer.constant)
                yield from array(f"{self._text(buffer)}_scale", "float32", scale)
                yield from array(self._text(buffer), "int8", factors)
            else:
                yield from array(self._text(buffer), buffer.dtype, buffer.constant)

    def _is_short(self, buffer: Buffer) -> bool:
        """Whether a constant is kept in 8 bits: that of a product with several rows."""
        if not self._int8 or buffer.constant is None or buffer.constant.ndim != 2:
            return False
        uses = [
            (one.kind, i)
            for one in self._listing.operations
            for i, x in enumerate(one.operands)
            if x.buffer is buffer
        ]
        return set(uses) == {("product", 1)} and len(buffer.constant) >= FEWEST_ROWS

    def _body(self) -> Iterator[str]:
        """The function's lines."""
        yield from self._checks()
        for buffer in self._computed_buffers():
            yield f"{TYPES[buffer.dtype]} {self._text(buffer)}[{buffer.size}];"
        for operation in self._listing.operations:
            if operation.out.buffer not in self._inlined:
                yield ""
                yield from self._statement(operation)
        yield ""
        for place, view in self._results():
            size = f"sizeof({TYPES[view.dtype]}) * {view.size}"
            yield f"memcpy({place}, {self._start(view)}, {size});"
        yield "state->episode_start = 0;"
        yield f"return {self._name.upper()}_OK;"

    def _results(self) -> Iterator[tuple[str, View]]:
        outputs = self._listing.outputs
        yield "action", outputs["action"]
        for shown in self._shown:
            yield f"state->{shown}", outputs[shown]
        for before, after in self._state.items():
            yield f"state->{self._kept(before)}", outputs[after]

    def _checks(self) -> Iterator[str]:
        """What refuses an input, before anything is changed."""
        for given in self._given:
            view = self._listing.inputs[given]
            if view.dtype in ("float32", "float64"):
                condition = f"!isfinite({given}[i])"
                if given == PREVIOUS_REWARD:  # not read there
                    condition = f"!state->episode_start && {condition}"
                yield from self._refused(view.size, condition, "NOT_FINITE")
            elif given in self._limits:
                for entry, (low, high) in enumerate(zip(*self._limits[given], strict=True)):
                    condition = f"{given}[{entry}] < {low} || {given}[{entry}] > {high}"
                    yield f"if ({condition}) return {self._name.upper()}_OUT_OF_RANGE;"
        begin = 0
        for size in self._mask_parts:
            allowed = " || ".join(f"{MASK}[{i}]" for i in range(begin, begin + size))
            yield f"if (!({allowed})) return {self._name.upper()}_NOTHING_ALLOWED;"
            begin += size

    def _refused(self, size: int, condition: str, status: str) -> Iterator[str]:
        text = f"if ({condition}) return {self._name.upper()}_{status};"
        return loops([size], text)

    # ---------------------------------------------------------------------------- operations

    def _statement(self, operation: Operation) -> Iterator[str]:
        """What fills an array."""
        kind, out, operands = operation.kind, operation.out, operation.operands
        if kind in ELEMENTWISE:
            views = [out, *self._leaves(operation)]
            sizes, strides = merged(out.shape, [view.strides for view in views])
            text = self._expression(operation, dict(zip(map(_key, views), strides, strict=True)))
            yield from loops(sizes, f"{self._entry(out, strides[0])} = {text};")
        elif kind == "product":
            yield from self._product(out, *operands)
        elif kind == "rows":
            table, index = operands
            width = table.shape[1]
            entry = f"{self._start(index)}[i]"
            yield f"for (int i = 0; i < {index.size}; i++) {{"
            yield (
                f"    memcpy({self._start(out)} + i * {width}, {self._start(table)} + "
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
                texts.append(self._entry(x, strides[_key(x)]))
        dtype = operation.operands[-1].dtype
        short = "f" if dtype == "float32" else ""
        if operation.kind == "copy":
            return cast(texts[0], dtype, operation.out.dtype)
        if operation.kind in INFIX:
            return f"({texts[0]} {INFIX[operation.kind]} {texts[1]})"
        if operation.kind in FUNCTIONS:
            return f"{FUNCTIONS[operation.kind]}{short}({', '.join(texts)})"
        one = f"1{'.0' if short == '' else '.0f'}"
        patterns = {
            "neg": "(-{0})",
            "not": "(!{0})",
            "sigmoid": f"({one} / ({one} + exp{short}(-{{0}})))",
            "rsqrt": f"({one} / sqrt{short}({{0}}))",
            "where": "({0} ? {1} : {2})",
        }
        return patterns[operation.kind].format(*texts)

    def _product(self, out: View, x: View, w: View, bias: View | None = None) -> Iterator[str]:
        *lead, columns = out.shape
        rows = x.shape[-1]
        if math.prod(lead) == 1 and w.is_dense and x.is_dense and out.dtype == "float32":
            begin = "0" if bias is None else self._start(bias)
            arguments = f"{self._start(out)}, {self._start(x)}, {self._start(w)}"
            if self._is_short(w.buffer):
                scale = f"{self._text(w.buffer)}_scale"
                yield f"product8({arguments}, {scale}, {begin}, {rows}, {columns});"
            else:
                yield f"product({arguments}, {begin}, {rows}, {columns});"
            return
        if bias is not None or self._is_short(w.buffer):
            raise ExportError("A policy in C is of one stream: --batch 1.")
        # Axes of the output, and the one that is summed over, in every array.
        summed = [*out.shape, rows]
        left = [*x.strides[:-1], 0, x.strides[-1]]
        right = [*w.strides[:-2], 0, w.strides[-1], w.strides[-2]]
        target = [*out.strides, 0]
        names = "ijklmn"
        if columns == 1 and x.strides[-1] == w.strides[-2] == 1 and out.dtype == "float32":
            text = (
                f"{self._entry(out, out.strides)} = dot({self._start(x)} + "
                f"{index(0, left[:-1], names)}, {self._start(w)} + "
                f"{index(0, right[:-1], names)}, {rows});"
            )
            yield from loops(out.shape, text)
            return
        place = f"{self._text(out.buffer)}[{index(out.offset, target, names)}]"
        yield from loops(out.shape, f"{place} = 0;")
        first = f"{self._read(x.buffer)}[{index(x.offset, left, names)}]"
        second = f"{self._read(w.buffer)}[{index(w.offset, right, names)}]"
        yield from loops(summed, f"{place} += {first} * {second};")

    def _reduction(self, kind: str, out: View, x: View) -> Iterator[str]:
        width = x.shape[-1]
        lead = x.shape[:-1]
        begin = f"{self._start(x)} + {index(0, x.strides[:-1], 'ijklmn')}"
        stride = x.strides[-1]
        dtype = TYPES[x.dtype]
        name = {"sum": "sum_of", "max": "largest_of", "argmax": "place_of_largest"}[kind]
        if (stride != 1 and width > 1) or dtype != "float":
            raise ExportError(f"A policy in C has no {kind} of {dtype} numbers {stride} apart.")
        strides = out.strides[: len(lead)]
        yield from loops(lead, f"{self._entry(out, strides)} = {name}({begin}, {width});")

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
        arrays = ", ".join(map(self._start, (out, x, factors, bias)))
        yield "{"
        yield f"    float patch[{factors.shape[0]}], sums[{factors.shape[1]}];"
        yield f"    convolution({arrays}, {', '.join(map(str, sizes))}, patch, sums);"
        yield "}"

    # ---------------------------------------------------------------------------- names

    def _text(self, buffer: Buffer) -> str:
        """The C name of an array."""
        if buffer not in self._texts:
            given = {view.buffer: name for name, view in self._listing.inputs.items()}
            if buffer in given:
                name = given[buffer]
                kept = self._kept(name) if name in self._state else name
                inside = name in self._state or name == "episode_start"
                text = f"state->{kept}" if inside else name
            else:
                text = f"{'W' if buffer.constant is not None else 't'}_{buffer.name}"
            self._texts[buffer] = text
        return self._texts[buffer]

    def _read(self, buffer: Buffer) -> str:
        """An array, as what an index can be put behind."""
        text = self._text(buffer)
        return f"(&{text})" if text == "state->episode_start" else text

    def _start(self, view: View) -> str:
        """Where the numbers of a view begin."""
        return self._read(view.buffer) + (f" + {view.offset}" if view.offset else "")

    def _entry(self, view: View, strides: Iterable[int]) -> str:
        return f"{self._read(view.buffer)}[{index(view.offset, strides, 'ijklmn')}]"


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
    results = {view.buffer for view in listing.outputs.values()}
    return {
        x.buffer
        for operation in listing.operations
        if operation.kind in ELEMENTWISE
        for x in operation.operands
        if uses[x.buffer] == writers[x.buffer] == 1
        and x.buffer not in results
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
