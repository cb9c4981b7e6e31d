"""A step of one stream in fewer operations, for a runtime in which each one costs a call.

No pass knows a memory. Each looks for operations that can be one, or none:

- `identities`: sums with 0, and choices by what is not true;
- `likeliest`, `roots`, `scaled_errors`, `halves` (functions.py): functions by such as cost
  fewer calls;
- `summed`, `same_input`, `weights_halved`, `in_groups`, `biases` (products.py): products of
  one row that become one, and what is done to their weights instead of to what they give;
- `complex_products` (complex.py): six operations on the parts of complex numbers;
- `at_times`, `in_place` (outside.py): resets and masks of steps that have none, and copies;
- `side_by_side`: the same operation on neighbouring numbers, or on such as stand in turn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from recurrent_rl.agents.export.listing import ELEMENTWISE, Listing, Operation, View
from recurrent_rl.agents.export.passes.complex import (
    alternate,
    alternating,
    can_be_spread,
    complex_products,
    parts_in_turn,
)
from recurrent_rl.agents.export.passes.functions import halves, likeliest, roots, scaled_errors
from recurrent_rl.agents.export.passes.outside import at_times, in_place
from recurrent_rl.agents.export.passes.products import (
    biases,
    in_groups,
    same_input,
    summed,
    weights_halved,
)
from recurrent_rl.agents.export.passes.rewriting import (
    Rewriting,
    as_row,
    is_constant,
    is_number,
    is_row,
    value_of,
    with_few_axes,
)


def shorter(listing: Listing) -> Listing:
    """The same step in fewer operations, where it is one of a single stream."""
    if listing.signature.batch != 1:
        return listing
    steps = Rewriting(listing)
    identities(steps)
    likeliest(steps)
    roots(steps)
    scaled_errors(steps)
    steps.clear()
    halves(steps)
    summed(steps)
    same_input(steps)
    weights_halved(steps)
    complex_products(steps)
    in_groups(steps)
    parts_in_turn(steps)
    whole_constants(steps)
    steps.unpin()
    at_times(steps)
    in_place(steps)
    biases(steps)
    while side_by_side(steps):
        pass
    return steps.listing()


def identities(steps: Rewriting) -> None:
    """Without sums with 0, and without `not` before a choice."""
    negated = {one.out.buffer: one.operands[0] for one in steps.operations if one.kind == "not"}
    for i, one in enumerate(steps.operations):
        if one.kind == "where" and one.operands[0].buffer in negated:
            choice, x, other = one.operands
            given = negated[choice.buffer]
            if given.shape == choice.shape and given.strides == choice.strides:
                steps.operations[i] = replace(one, operands=(given, other, x))
        elif one.kind in ("add", "sub") and is_constant(one.operands[1], 0):
            steps.operations[i] = Operation("copy", one.out, one.operands[:1])
        elif one.kind == "add" and is_constant(one.operands[0], 0):
            steps.operations[i] = Operation("copy", one.out, one.operands[1:])


def whole_constants(steps: Rewriting) -> None:
    """Constants that are repeated along an axis are written out, so that one axis is enough."""
    for i, one in enumerate(steps.operations):
        if one.kind not in ELEMENTWISE or len(one.out.shape) < 2 or one.out.size > LARGE:
            continue
        operands = []
        for x in one.operands:
            value = value_of(x)
            repeated = value is not None and not is_number(x)
            operands.append(steps.constant(np.ascontiguousarray(value)) if repeated else x)
        steps.operations[i] = with_few_axes(replace(one, operands=tuple(operands)))


LARGE = 1024
"""Numbers for which it does not pay to write a constant out."""


def side_by_side(steps: Rewriting) -> bool:
    """Join operations that do the same to neighbouring numbers; whether there were any."""
    changed, i = False, 0
    while i < len(steps.operations):
        joined = any(
            _join(steps, i, j, way)
            for j in range(len(steps.operations))
            if j != i and steps.operations[j].kind == steps.operations[i].kind
            for way in (BEHIND, BETWEEN)
        )
        changed, i = changed or joined, i + (not joined)
    return changed


@dataclass(frozen=True)
class Way:
    """How the numbers of a second row stand to those of a first."""

    are: Callable[[View, View], bool]
    """Whether they stand so."""
    may_be: Callable[[Rewriting, View, View], bool]
    """Whether those of two whole arrays can be put so."""
    put: Callable[[Rewriting, View, View], None]
    """Put them so."""
    joined: Callable[[Rewriting, View, View], View]
    """Both as one row."""


def _join(steps: Rewriting, i: int, j: int, way: Way) -> bool:
    """Make one operation of two whose numbers are neighbours, or can be."""
    a, b = steps.operations[i], steps.operations[j]
    if a.kind not in (*ELEMENTWISE, "complex", "sum") or is_number(a.out) or a.options != b.options:
        return False
    length = a.operands[0].shape[-1]
    if a.kind == "sum" and (way is not BEHIND or b.operands[0].shape[-1] != length):
        return False
    pairs = list(zip(_rows(a), _rows(b), strict=True))
    if not all(_may_join(steps, way, *pair) for pair in pairs):
        return False
    apart = {(x.buffer, y.buffer) for x, y in pairs if _can_be_put(steps, way, x, y)}
    if len({buffer for pair in apart for buffer in pair}) < 2 * len(apart):
        return False  # one of them would have to stand in two places
    if way is BETWEEN and not any(way.are(x, y) for x, y in pairs):
        return False
    at = steps.bring_together(i, j)
    if at is None:
        return False
    i, j = (at, at + 1) if steps.operations[at] is a else (at + 1, at)
    for k in range(len(pairs)):
        x, y = _rows(steps.operations[i])[k], _rows(steps.operations[j])[k]
        if _can_be_put(steps, way, x, y):
            way.put(steps, x, y)
    both = zip(_rows(steps.operations[i]), _rows(steps.operations[j]), strict=True)
    out, *operands = (x if is_number(x) else way.joined(steps, x, y) for x, y in both)
    if a.kind == "sum":
        operands = [replace(x, shape=(out.size, length), strides=(length, 1)) for x in operands]
    else:
        operands = [replace(x, shape=out.shape) for x in operands]
    steps.operations[at] = Operation(a.kind, out, tuple(operands), a.options)
    del steps.operations[at + 1]
    return True


def _rows(one: Operation) -> list[View]:
    """What it fills and its operands; of a sum as rows, whose strides are its own."""
    views = (one.out, *one.operands)
    return [as_row(x) if one.kind == "sum" else x for x in views]


def _may_join(steps: Rewriting, way: Way, x: View, y: View) -> bool:
    """Whether what two views show can be shown by one."""
    if x.dtype != y.dtype or not (len(x.shape) == len(y.shape) == 1):
        return False
    a, b = value_of(x), value_of(y)
    if is_number(x) or is_number(y):
        if not (is_number(x) and is_number(y)):
            return False
        same = (x.buffer, x.offset) == (y.buffer, y.offset)
        return same or (a is not None and b is not None and a.flat[0] == b.flat[0])
    return way.are(x, y) or _can_be_put(steps, way, x, y) or (a is not None and b is not None)


def _can_be_put(steps: Rewriting, way: Way, x: View, y: View) -> bool:
    """Whether two arrays can stand side by side in a new one."""
    apart = x.buffer is not y.buffer and not is_number(x) and not is_number(y)
    return apart and way.may_be(steps, x, y)


def _behind(x: View, y: View) -> bool:
    step = x.strides[0]
    apart = y.offset - x.offset == step * x.size
    return x.buffer is y.buffer and x.strides == y.strides and apart


def _between(x: View, y: View) -> bool:
    in_turn = x.strides == y.strides == (2,) and y.offset == x.offset + 1
    return x.buffer is y.buffer and in_turn


def _both(steps: Rewriting, x: View, y: View) -> View:
    a, b = value_of(x), value_of(y)
    if a is not None and b is not None:
        return steps.constant(np.concatenate([a, b]))
    return View(x.buffer, (x.size + y.size,), x.strides, x.offset)


BEHIND = Way(
    _behind,
    lambda steps, x, y: all(steps.is_free(one) and is_row(one) for one in (x, y)),
    lambda steps, x, y: steps.line_up((x, y), steps.array((x.size + y.size,), x.dtype)),
    _both,
)
"""The second row behind the first."""
BETWEEN = Way(
    _between,
    lambda steps, x, y: x.shape == y.shape and can_be_spread(steps, x, y),
    alternate,
    lambda steps, x, y: as_row(alternating(steps, x, y)),
)
"""The numbers of both in turn, as the parts of complex numbers."""
