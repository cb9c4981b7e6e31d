"""Products of complex numbers, which a policy's step computes by their parts, as one operation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recurrent_rl.agents.export.listing import EACH, Operation, View, dense_strides
from recurrent_rl.agents.export.passes.rewriting import (
    Rewriting,
    as_row,
    is_number,
    value_of,
    with_few_axes,
)


def complex_products(steps: Rewriting) -> None:
    """With (a + ib)(c + id) = (ac - bd) + i(ad + bc): six operations become one.

    The parts of a number then stand one after the other.
    """
    steps.at_each(_make_complex)


def _make_complex(steps: Rewriting, at: int) -> bool:
    """Make one operation of `ac - bd`, and of the one that computes the imaginary part."""
    real = steps.operations[at]
    parts = [_product(steps, x) for x in real.operands] if real.kind == "sub" else []
    for imaginary in steps.operations if parts else ():
        if imaginary.kind != "add":
            continue
        others = [_product(steps, x) for x in imaginary.operands]
        factors = _factors(parts, others)
        pairs = [(real.out, imaginary.out), *factors]
        products = [one for one in (*parts, *others) if one is not None]
        apart = {(x.buffer, y.buffer) for x, y in pairs if x.buffer is not y.buffer}
        if not factors or not all(can_alternate(steps, *pair) for pair in pairs):
            continue
        if len({buffer for pair in apart for buffer in pair}) < 2 * len(apart):
            continue  # one of them would have to stand in two places
        if any(len(steps.readers(one.out)) > 1 or steps.is_seen(one.out) for one in products):
            continue
        last = max(at, steps.operations.index(imaginary))
        later = [*steps.readers(real.out), *steps.readers(imaginary.out)]
        if any(steps.operations.index(one) < last for one in later):
            continue
        every = [view for pair in pairs for view in pair]
        steps.operations[last] = made = Operation("complex", real.out, tuple(every))
        steps.remove([one for one in (real, imaginary, *products) if one is not made])
        _alternate(steps, steps.operations.index(made))
        return True
    return False


def _product(steps: Rewriting, view: View) -> Operation | None:
    """What multiplies two rows to just what a view shows, in any shape."""
    writers = steps.writers(view)
    if len(writers) != 1 or writers[0].kind != "mul" or as_row(writers[0].out) != as_row(view):
        return None
    return writers[0]


def _factors(
    parts: Sequence[Operation | None], others: Sequence[Operation | None]
) -> list[tuple[View, View]]:
    """(a, b) and (c, d), where parts compute ac and bd, others ad and bc; else nothing."""
    if None in (*parts, *others):
        return []
    first, second = (one.operands for one in parts if one is not None)
    given = [set(one.operands) for one in others if one is not None]
    for a, c in (first, first[::-1]):
        for b, d in (second, second[::-1]):
            if given in ([{a, d}, {b, c}], [{b, c}, {a, d}]):
                return [(a, b), (c, d)]
    return []


def _alternate(steps: Rewriting, at: int) -> None:
    """Let the parts of a product's numbers alternate, and the operation read and write them so."""
    for k in (0, 2, 4):
        alternate(steps, *steps.operations[at].operands[k : k + 2])
    views = steps.operations[at].operands
    out, x, y = (alternating(steps, *views[k : k + 2]) for k in (0, 2, 4))
    out = View(out.buffer, x.shape, dense_strides(x.shape), out.offset)
    steps.operations[at] = with_few_axes(Operation("complex", out, (x, y)))


def parts_in_turn(steps: Rewriting) -> None:
    """Numbers whose parts do not alternate yet, as columns that others read too, are copied."""
    for one in [one for one in steps.operations if one.kind == "complex"]:
        made, operands = [], []
        for x in one.operands:
            operands.append(x if x.is_dense else steps.array(x.shape, x.dtype))
            if not x.is_dense:
                made.append(Operation("copy", operands[-1], (x,)))
        at = steps.operations.index(one)
        both = with_few_axes(Operation("complex", one.out, tuple(operands)))
        steps.operations[at : at + 1] = [*map(with_few_axes, made), both]


def can_alternate(steps: Rewriting, x: View, y: View) -> bool:
    """Whether the numbers of two rows can stand in turn: x[0], y[0], x[1], ..."""
    if x.shape != y.shape or is_number(x) or is_number(y):
        return False
    if value_of(x) is not None or value_of(y) is not None:
        return value_of(x) is not None and value_of(y) is not None
    if x.buffer is y.buffer:
        return x.strides == y.strides
    return can_be_spread(steps, x, y)


def can_be_spread(steps: Rewriting, *rows: View) -> bool:
    """Whether the numbers of whole arrays can stand with others between them."""
    for row in rows:
        concerned = [*steps.writers(row), *steps.readers(row)]
        plain = all(one.kind in EACH and one.kind != "complex" for one in concerned)
        if not (plain and steps.is_free(row)):
            return False
    return rows[0].buffer is not rows[1].buffer


def alternate(steps: Rewriting, x: View, y: View) -> None:
    """Let the numbers of two arrays stand in turn, where they are in different ones."""
    if x.buffer is not y.buffer and value_of(x) is None:
        row = steps.array((2 * x.size,), x.dtype)
        for begin, one in enumerate((x, y)):
            steps.put(one.buffer, View(row.buffer, (one.size,), (2,), begin))


def alternating(steps: Rewriting, x: View, y: View) -> View:
    """The numbers of both in turn, `[..., 2]`."""
    a, b = value_of(x), value_of(y)
    if a is not None and b is not None:
        return steps.constant(np.stack([a, b], -1))
    return View(x.buffer, (*x.shape, 2), (*x.strides, y.offset - x.offset), x.offset)
