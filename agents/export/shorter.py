"""A step of one stream in fewer operations, for a runtime in which each one costs a call.

No pass knows a memory. Each looks for operations that can be one, or none:

- `identities`: sums with 0, and choices by what is not true;
- `roots`, `scaled_errors`, `halves` (shorter_functions.py): functions by such as cost fewer calls;
- `summed`, `same_input`, `weights_halved`, `in_groups` (shorter_products.py): products of one row
  that become one, and what is done to their weights instead of to what they give;
- `in_place`: copies into an array that was joined of several;
- `side_by_side`: the same operation on neighbouring numbers.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from recurrent_rl.agents.export.listing import ELEMENTWISE, Listing, Operation, View
from recurrent_rl.agents.export.rewriting import (
    Rewriting,
    is_constant,
    is_number,
    is_row,
    value_of,
    with_few_axes,
)
from recurrent_rl.agents.export.shorter_functions import halves, roots, scaled_errors
from recurrent_rl.agents.export.shorter_products import (
    in_groups,
    same_input,
    summed,
    weights_halved,
)


def shorter(listing: Listing) -> Listing:
    """The same step in fewer operations, where it is one of a single stream."""
    if listing.signature.batch != 1:
        return listing
    steps = Rewriting(listing)
    identities(steps)
    roots(steps)
    scaled_errors(steps)
    steps.clear()
    halves(steps)
    summed(steps)
    same_input(steps)
    weights_halved(steps)
    in_groups(steps)
    whole_constants(steps)
    in_place(steps)
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


def in_place(steps: Rewriting) -> None:
    """What is only copied elsewhere is written there at once."""
    steps.at_each(_put_in_place)


def _put_in_place(steps: Rewriting, at: int) -> bool:
    one = steps.operations[at]
    if one.kind != "copy":
        return False
    (x,), out = one.operands, one.out
    if not (is_row(x) and len(out.shape) == 1 and x.dtype == out.dtype):
        return False
    if not steps.is_free(x) or not _may_stand(steps, x, out):
        return False
    del steps.operations[at]
    steps.put(x.buffer, out)
    return True


def _may_stand(steps: Rewriting, x: View, out: View) -> bool:
    """Whether all that has to do with an array can do it with numbers that stand elsewhere."""
    if is_row(out) or x.size == 1:
        return True
    concerned = [*steps.writers(x), *steps.readers(x)]
    return all(one.kind in ELEMENTWISE for one in concerned)


def side_by_side(steps: Rewriting) -> bool:
    """Join operations that do the same to neighbouring numbers; whether there were any."""
    changed, i = False, 0
    while i < len(steps.operations):
        joined = any(
            _join(steps, i, j)
            for j in range(len(steps.operations))
            if j != i and steps.operations[j].kind == steps.operations[i].kind
        )
        changed, i = changed or joined, i + (not joined)
    return changed


def _join(steps: Rewriting, i: int, j: int) -> bool:
    """Make one operation of two whose numbers are neighbours, or can be."""
    a, b = steps.operations[i], steps.operations[j]
    if a.kind not in ELEMENTWISE or is_number(a.out) or a.options != b.options:
        return False
    pairs = list(zip((a.out, *a.operands), (b.out, *b.operands), strict=True))
    if not all(_may_join(steps, *pair) for pair in pairs):
        return False
    apart = {(x.buffer, y.buffer) for x, y in pairs if _can_be_put(steps, x, y)}
    if len({buffer for pair in apart for buffer in pair}) < 2 * len(apart):
        return False  # one of them would have to stand in two places
    at = j if steps.can_move(i, j) else i
    if at == i and not steps.can_move(j, i):
        return False
    size = a.out.size + b.out.size
    for k in range(len(pairs)):
        a, b = steps.operations[i], steps.operations[j]
        x, y = (a.out, *a.operands)[k], (b.out, *b.operands)[k]
        if _can_be_put(steps, x, y):
            steps.line_up((x, y), steps.array((size,), x.dtype))
    a, b = steps.operations[i], steps.operations[j]
    out, *operands = (
        _joined(steps, x, y)
        for x, y in zip((a.out, *a.operands), (b.out, *b.operands), strict=True)
    )
    shaped = (View(x.buffer, (size,), (0 if is_number(x) else 1,), x.offset) for x in operands)
    steps.operations[at] = Operation(a.kind, out, tuple(shaped), a.options)
    del steps.operations[i if at == j else j]
    return True


def _may_join(steps: Rewriting, x: View, y: View) -> bool:
    """Whether what two views show can be shown by one."""
    if x.dtype != y.dtype:
        return False
    a, b = value_of(x), value_of(y)
    if is_number(x) or is_number(y):
        if not (is_number(x) and is_number(y)):
            return False
        same = (x.buffer, x.offset) == (y.buffer, y.offset)
        return same or (a is not None and b is not None and a.flat[0] == b.flat[0])
    if not (is_row(x) and is_row(y)):
        return False
    neighbours = x.buffer is y.buffer and y.offset == x.offset + x.size
    return neighbours or _can_be_put(steps, x, y) or (a is not None and b is not None)


def _can_be_put(steps: Rewriting, x: View, y: View) -> bool:
    """Whether two arrays can stand side by side in a new one."""
    apart = x.buffer is not y.buffer and not is_number(x) and not is_number(y)
    return apart and steps.is_free(x) and steps.is_free(y)


def _joined(steps: Rewriting, x: View, y: View) -> View:
    """Both as one."""
    if is_number(x):
        return x
    a, b = value_of(x), value_of(y)
    if a is not None and b is not None:
        return steps.constant(np.concatenate([a, b]))
    return View(x.buffer, (x.size + y.size,), (1,), x.offset)
