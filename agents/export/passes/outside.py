"""Without copies of inputs and outputs, and without what most steps do not need."""

from __future__ import annotations

from collections.abc import Iterable

from recurrent_rl.agents.export.listing import EACH, Operation, View
from recurrent_rl.agents.export.passes.rewriting import (
    Rewriting,
    is_number,
    is_row,
    overlap,
    value_of,
)
from recurrent_rl.agents.export.step import MASK, START


def at_times(steps: Rewriting) -> None:
    """Resets and masks happen where the numbers are, so that a step without them leaves them out.

    A choice by `episode_start` between a number and an array, or by `action_mask` between an array
    and a number, becomes `replace`.
    """
    for name, when in ((START, True), (MASK, False)):
        if (given := steps.inputs.get(name)) is None:
            continue
        for i, one in enumerate(steps.operations):
            if one.kind != "where" or one.operands[0].buffer is not given.buffer:
                continue
            choice, *values = one.operands
            number, x = values if when else values[::-1]
            value = value_of(number)
            if value is None or (value != value.flat[0]).any():
                continue
            if steps.readers(x) != [one] or overlaps_any(x, steps.outputs.values()):
                continue
            if put_together(steps, x, one.out):
                out = steps.operations[i].out
                number = steps.number(value.flat[0], out)
                steps.operations[i] = Operation(
                    "replace", out, (choice, out, number), {"where": when}
                )


def in_place(steps: Rewriting) -> None:
    """What is only copied elsewhere is written there at once, or read where it was."""
    steps.at_each(_put_in_place)


def _put_in_place(steps: Rewriting, at: int) -> bool:
    one = steps.operations[at]
    if one.kind != "copy" or not put_together(steps, one.operands[0], one.out):
        return False
    del steps.operations[at]
    return True


def put_together(steps: Rewriting, x: View, out: View) -> bool:
    """Let one of two arrays stand where the other is; whether that can be.

    No input stands where an output is: what goes from step to step would be overwritten too soon.
    """
    if x.dtype != out.dtype or not (len(x.shape) == len(out.shape) == 1):
        return False
    for one, other in ((x, out), (out, x)):
        inputs = overlaps_any(one, steps.inputs.values())
        if inputs and overlaps_any(other, steps.outputs.values()):
            return False
    for one, place in ((x, out), (out, x)):
        if not is_row(one) or not steps.is_free(one) or not steps.is_inner(place):
            continue
        if not is_number(place) and _may_stand(steps, one, place):
            steps.put(one.buffer, place)
            return True
    return False


def overlaps_any(view: View, others: Iterable[View]) -> bool:
    """Whether it shows a number of one of them."""
    return any(overlap(view, one) for one in others)


def _may_stand(steps: Rewriting, x: View, out: View) -> bool:
    """Whether all that has to do with an array can do it with numbers that stand elsewhere."""
    if is_row(out) or x.size == 1:
        return True
    concerned = [*steps.writers(x), *steps.readers(x)]
    return all(one.kind in EACH and one.kind != "complex" for one in concerned)
