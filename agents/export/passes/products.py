"""Products of one row in fewer operations: what can be done to their weights once, is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurrent_rl.agents.export.listing import (
    EACH,
    Buffer,
    Operation,
    View,
    dense_strides,
)
from recurrent_rl.agents.export.passes.rewriting import (
    Rewriting,
    is_constant,
    is_number,
    is_row,
    overlap,
    span,
    value_of,
    with_few_axes,
)


def _is_linear(steps: Rewriting, one: Operation) -> bool:
    """Whether it is a row times constants, seen only within the step."""
    if one.kind != "product" or not steps.is_free(one.out):
        return False
    x, *constants = one.operands
    flat = len(x.shape) == 2 and x.shape[0] == 1
    return flat and all(view.buffer.constant is not None for view in constants)


def _weights(one: Operation) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """The matrix `[K, N]` and the bias `[N]` of a product."""
    matrix, *bias = (value_of(view) for view in one.operands[1:])
    assert matrix is not None
    return matrix, (bias[0] if bias else None)


def _with_weights(
    steps: Rewriting, one: Operation, matrix: NDArray[Any], bias: NDArray[Any] | None
) -> Operation:
    constants = [matrix] if bias is None else [matrix, bias]
    made = (steps.constant(np.ascontiguousarray(value)) for value in constants)
    return replace(one, operands=(one.operands[0], *made))


def same_input(steps: Rewriting) -> None:
    """Products of the same row are one, whose weights stand side by side."""
    at = 0
    while at < len(steps.operations):
        one = steps.operations[at]
        if _is_linear(steps, one):
            alike = [other for other in steps.operations if _is_linear(steps, other)]
            group = [other for other in alike if other.operands[0] == one.operands[0]]
            if len(group) > 1:
                _make_one(steps, group)
        at += 1


def _make_one(steps: Rewriting, group: list[Operation]) -> None:
    matrices, biases = zip(*map(_weights, group), strict=True)
    matrix, bias = np.concatenate(matrices, 1), None
    if any(one is not None for one in biases):
        zeros = (np.zeros(one.shape[1], one.dtype) for one in matrices)
        bias = np.concatenate([z if b is None else b for b, z in zip(biases, zeros, strict=True)])
    row = steps.array((1, matrix.shape[1]), group[0].out.dtype)
    made = Operation("product", row, group[0].operands[:1])
    steps.operations[steps.operations.index(group[0])] = _with_weights(steps, made, matrix, bias)
    steps.remove(group[1:])
    steps.line_up([one.out for one in group], row)


def summed(steps: Rewriting) -> None:
    """A sum of two products is one product, of both rows in one."""
    steps.at_each(_sum_joined)


def _sum_joined(steps: Rewriting, at: int) -> bool:
    one = steps.operations[at]
    if one.kind != "add" or not is_row(one.out):
        return False
    found = []
    for x in one.operands:
        writers = steps.writers(x)
        if len(writers) != 1 or not _is_linear(steps, writers[0]) or x.size != writers[0].out.size:
            return False
        if steps.readers(x) != [one]:
            return False
        found.append(writers[0])
    rows = [writer.operands[0] for writer in found]
    if rows[0].buffer is rows[1].buffer or not all(steps.is_free(row) for row in rows):
        return False
    weights = [_weights(writer) for writer in found]
    biases = [bias for _, bias in weights if bias is not None]
    both = steps.array((1, sum(row.size for row in rows)), one.out.dtype)
    made = _with_weights(
        steps,
        Operation(
            "product",
            View(one.out.buffer, (1, one.out.size), (one.out.size, 1), one.out.offset),
            (both,),
        ),
        np.concatenate([matrix for matrix, _ in weights]),
        np.sum(biases, 0) if biases else None,
    )
    steps.operations[at] = made
    steps.remove(found)
    steps.line_up(rows, both)
    return True


def weights_halved(steps: Rewriting) -> None:
    """What is only read to be halved is computed by half the weights: not one bit differs."""
    steps.at_each(_halved)


def _halved(steps: Rewriting, at: int) -> bool:
    one = steps.operations[at]
    if one.kind != "mul" or not steps.is_free(one.out) or not is_row(one.out):
        return False
    x, factor = one.operands
    if not (is_row(x) and is_number(factor) and is_constant(factor, 0.5)):
        return False
    computed = _computed_by_products(steps, x, one)
    if computed is None:
        return False
    _halve(steps, computed)
    del steps.operations[at]
    steps.put(one.out.buffer, x)
    return True


def _computed_by_products(steps: Rewriting, x: View, reader: Operation) -> list[View] | None:
    """The columns of products of which x is made by sums; None where anything else reads or is."""
    if not steps.is_inner(x) or steps.readers(x) != [reader]:
        return None
    writers = steps.writers(x)
    if len(writers) != 1:
        return None
    (writer,) = writers
    if _is_linear(steps, writer):
        return [x]
    if writer.kind not in ("add", "sub") or not all(map(is_row, (writer.out, *writer.operands))):
        return None
    columns: list[View] = []
    for y in writer.operands:
        part = replace(x, buffer=y.buffer, offset=y.offset + x.offset - writer.out.offset)
        found = _computed_by_products(steps, part, writer)
        if found is None:
            return None
        columns += found
    return columns


def _halve(steps: Rewriting, columns: list[View]) -> None:
    """Let columns of products come out half as large, each once however many views show it."""
    for at, one in enumerate(steps.operations):
        shown = [_places(x) for x in columns if overlap(one.out, x)]
        if shown:
            places = np.unique(np.concatenate(shown)) - one.out.offset
            matrix, bias = (None if part is None else part.copy() for part in _weights(one))
            assert matrix is not None
            matrix[:, places] *= 0.5
            if bias is not None:
                bias[places] *= 0.5
            steps.operations[at] = _with_weights(steps, one, matrix, bias)


def in_groups(steps: Rewriting) -> None:
    """Columns that are read together stand in a row, and those that go the same way beside it."""
    for at in range(len(steps.operations)):
        one = steps.operations[at]
        if not _is_linear(steps, one):
            continue
        parts = _parts(steps, one.out)
        keys = [_way(steps, view) for view in parts]
        parts = [
            x for _, x in sorted(enumerate(parts), key=lambda p: (keys.index(keys[p[0]]), p[0]))
        ]
        places = np.concatenate([_places(view) for view in parts])
        matrix, bias = _weights(one)
        bias = None if bias is None else bias[places]
        made = _with_weights(steps, one, matrix[:, places], bias)
        steps.operations[at] = made
        begins = np.cumsum([0, *(view.size for view in parts)]).tolist()
        moved = dict(zip(parts, begins, strict=False))
        _rearrange(steps, one.out, moved)


def _rearrange(steps: Rewriting, out: View, moved: dict[View, int]) -> None:
    """Let each part of a row be read where it stands now."""

    def changed(view: View) -> View:
        if view == out:
            return view
        if view in moved:
            return View(view.buffer, view.shape, dense_strides(view.shape), moved[view])
        low = span(view)[0]
        part = next(one for one in moved if is_row(one) and span(one)[0] <= low < span(one)[1])
        return replace(view, offset=view.offset + moved[part] - part.offset)

    steps.move(out.buffer, changed)
    steps.operations = [with_few_axes(one) for one in steps.operations]


def _parts(steps: Rewriting, out: View) -> list[View]:
    """All columns, in parts that no operation reads beyond, and of which most are read whole."""
    reads = {x: None for one in steps.operations for x in one.operands if overlap(x, out)}
    blocks: list[tuple[set[int], list[View]]] = []
    for view in reads:
        here, views = set(_places(view).tolist()), [view]
        for places, others in [block for block in blocks if block[0] & here]:
            blocks = [block for block in blocks if block[0] is not places]
            here, views = here | places, views + others
        blocks.append((here, views))
    runs = [(places, views[0]) for places, views in blocks if _is_run(places, views)]
    rest = sorted(set(range(out.size)) - {place for places, _ in runs for place in places})
    for begin, end in _runs(rest):
        runs.append((set(range(begin, end)), View(out.buffer, (end - begin,), (1,), begin)))
    return [view for _, view in sorted(runs, key=lambda run: min(run[0]))]


def _is_run(places: set[int], views: list[View]) -> bool:
    """Whether one view alone shows these numbers, each of them once."""
    return len(views) == 1 and views[0].size == len(places)


def _runs(places: list[int]) -> list[tuple[int, int]]:
    """Sorted whole numbers as ranges."""
    cuts = [i for i in range(1, len(places)) if places[i] != places[i - 1] + 1]
    ends = zip([0, *cuts], [*cuts, len(places)], strict=True)
    return [(places[i], places[j - 1] + 1) for i, j in ends if i < j]


def _places(view: View) -> NDArray[np.int64]:
    """Of the numbers that a view shows, in its order."""
    steps = (np.arange(n) * step for n, step in zip(view.shape, view.strides, strict=True))
    found = np.full((1,) * len(view.shape), view.offset, np.int64)
    for axis, offsets in enumerate(steps):
        shape = [1] * len(view.shape)
        shape[axis] = -1
        found = found + offsets.reshape(shape)
    return found.reshape(-1)


def _way(steps: Rewriting, view: View, depth: int = 3) -> Any:
    """What is done to numbers, and to what comes of it."""
    found = []
    for one in steps.readers(view):
        if one.kind in EACH and view in one.operands and depth:
            fixed = [str(value_of(x)) if is_number(x) else "" for x in one.operands]
            place = one.operands.index(view)
            found.append(str((one.kind, place, fixed, _way(steps, one.out, depth - 1))))
        else:
            found.append(one.kind)
    return str(sorted(found))


def biases(steps: Rewriting) -> None:
    """A bias is the weight of a 1 that stands behind the row."""
    ones: dict[Buffer, Operation] = {}
    for at in range(len(steps.operations)):
        one = steps.operations[at]
        if one.kind != "product" or len(one.operands) < 3 or not _is_linear(steps, one):
            continue
        x = one.operands[0]
        end, size = x.offset + x.size, x.buffer.size
        if not x.is_dense or not steps.is_inner(x) or end != size - (x.buffer in ones):
            continue
        if x.buffer not in ones:
            row = steps.array((size + 1,), x.dtype)
            steps.put(x.buffer, View(row.buffer, (size,), (1,), 0))
            one_more = View(row.buffer, (1,), (1,), size)
            made = Operation("copy", one_more, (steps.constant(np.ones(1, x.dtype)),))
            ones[row.buffer] = made
        one = steps.operations[at]
        x = one.operands[0]
        longer = View(x.buffer, (1, x.size + 1), (x.size + 1, 1), x.offset)
        matrix, bias = _weights(one)
        assert bias is not None
        with_bias = steps.constant(np.concatenate([matrix, bias[None]]))
        steps.operations[at] = replace(one, operands=(longer, with_bias))
    steps.operations[:0] = ones.values()
