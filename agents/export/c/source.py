"""A step as C99: one header and one source, without dependencies and without allocation."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from recurrent_rl.agents.export.c.array_functions import HELPERS
from recurrent_rl.agents.export.c.functions import FUNCTIONS
from recurrent_rl.agents.export.c.header import header, prototype
from recurrent_rl.agents.export.c.names import Names, given_names, kept_as, struct_fields
from recurrent_rl.agents.export.c.statements import Statements, is_row
from recurrent_rl.agents.export.c.text import TYPES, array, loops, shortened
from recurrent_rl.agents.export.listing import Buffer, Listing, View
from recurrent_rl.agents.export.step import MASK, Limits
from recurrent_rl.agents.previous_step import PREVIOUS_REWARD

FEWEST_ROWS = 8
"""Of a weight that is kept in 8 bits."""


@dataclass(frozen=True)
class Source:
    """The two files."""

    header: str
    source: str


def written(
    listing: Listing, name: str, limits: Limits, mask_parts: Sequence[int], int8: bool
) -> Source:
    """A step as C.

    Args:
        listing: of one stream.
        name: before every public name in it: `name_step`, `name_reset`, `name_state`.
        limits: of the inputs that are whole numbers.
        mask_parts: entries of an action mask for each component of an action.
        int8: keep the factors of products in 8 bits each, with a scale for each column.
    """
    names = Names(listing)
    short = _short(listing) if int8 else set()
    statements = Statements(listing, names, short)
    body = [
        *_checks(listing, name, limits, mask_parts),
        *(f"{TYPES[one.dtype]} {names.of(one)}[{one.size}];" for one in statements.computed),
        *(line for one in listing.operations for line in statements.of(one)),
        "",
        *_results(listing, names),
        "state->episode_start = 0;",
        f"return {name.upper()}_OK;",
    ]
    constants = list(_constants(listing, names, short))
    stack = _stack_bytes(listing, statements.computed)
    return Source(header(listing, name, stack), _source(listing, name, constants, body))


def _source(listing: Listing, name: str, constants: list[str], body: list[str]) -> str:
    """The source file, of the arrays of weights and the lines of a step."""
    called = _called("\n".join(body))
    helpers = [helper for name, helper in _HELPERS.items() if name in called]
    return "\n".join(
        [
            f'#include "{name}.h"',
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
            f"void {name}_reset({name}_state *state) {{",
            "    memset(state, 0, sizeof *state);",
            "    state->episode_start = 1;",
            "}",
            "",
            f"{prototype(listing, name)} {{",
            *(f"    {line}" if line else "" for line in body),
            "}",
            "",
        ]
    )


_HELPERS = FUNCTIONS | HELPERS


def _called(text: str) -> set[str]:
    """The helpers that are called in a text, and those that these call."""
    found = {one for one in re.findall(r"\b(\w+)\(", text) if one in _HELPERS}
    return found.union(*(_called(_HELPERS[one].split("{", 1)[1]) for one in found))


def _short(listing: Listing) -> set[Buffer]:
    """The constants that are kept in 8 bits: those of a row's product, with several rows."""
    found: set[Buffer] = set()
    others: set[Buffer] = set()
    for operation in listing.operations:
        for place, view in enumerate(operation.operands):
            x = view.buffer
            if x.constant is None or x.constant.ndim != 2:
                continue
            factors = operation.kind == "product" and place == 1 and is_row(operation)
            factors &= len(x.constant) >= FEWEST_ROWS
            (found if factors else others).add(x)
    return found - others


def _constants(listing: Listing, names: Names, short: set[Buffer]) -> Iterator[str]:
    """The weights that are read, as arrays."""
    for buffer in listing.buffers:
        if buffer.constant is None or buffer not in names.asked:
            continue
        if buffer in short:
            factors, scale = shortened(buffer.constant)
            yield from array(f"{names.of(buffer)}_scale", "float32", scale)
            yield from array(names.of(buffer), "int8", factors)
        else:
            yield from array(names.of(buffer), buffer.dtype, buffer.constant)


def _checks(
    listing: Listing, name: str, limits: Limits, mask_parts: Sequence[int]
) -> Iterator[str]:
    """What refuses an input, before anything is changed."""

    def refused(condition: str, status: str) -> str:
        return f"if ({condition}) return {name.upper()}_{status};"

    for given in given_names(listing):
        view = listing.inputs[given]
        is_float = view.dtype in ("float32", "float64")
        if is_float:
            condition = f"!isfinite({given}[i])"
            if given == PREVIOUS_REWARD:  # not read there
                condition = f"!state->episode_start && {condition}"
            yield from loops([view.size], refused(condition, "NOT_FINITE"))
        if given in limits:
            lowest, highest = limits[given]
            alike = len({*zip(lowest, highest, strict=True)}) == 1
            for i in range(1 if alike else view.size):
                x = f"{given}[{'i' if alike else i}]"
                condition = f"{x} < {lowest[i]} || {x} > {highest[i]}"
                if is_float:
                    condition += f" || {x} != floor({x})"
                line = refused(condition, "OUT_OF_RANGE")
                yield from loops([view.size], line) if alike else [line]
    begin = 0
    for size in mask_parts:
        allowed = " || ".join(f"{MASK}[{i}]" for i in range(begin, begin + size))
        yield refused(f"!({allowed})", "NOTHING_ALLOWED")
        begin += size


def _results(listing: Listing, names: Names) -> Iterator[str]:
    """What puts outputs where the caller finds them."""
    state, outputs = listing.signature.state, listing.outputs
    places: list[tuple[str, View]] = [("action", outputs["action"])]
    for shown in struct_fields(listing.signature)[len(state) :]:
        places.append((f"state->{shown}", outputs[shown]))
    places += [(f"state->{kept_as(one)}", outputs[after]) for one, after in state.items()]
    for place, view in places:
        size = f"sizeof({TYPES[view.dtype]}) * {view.size}"
        yield f"memcpy({place}, {names.start(view)}, {size});"


def _stack_bytes(listing: Listing, computed: list[Buffer]) -> int:
    """Of the arrays that a step computes on the way."""
    found = sum(buffer.size * np.dtype(buffer.dtype).itemsize for buffer in computed)
    patches = [
        4 * sum(one.operands[1].shape) for one in listing.operations if one.kind == "convolution"
    ]
    return found + max(patches, default=0)
