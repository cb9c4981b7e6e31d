"""A list of array operations while it is being shortened: where numbers stand, and who reads them.

For a step of one stream, whose buffers are rows of numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from recurrent_rl.agents.export.listing import (
    EACH,
    Buffer,
    Listing,
    Operation,
    View,
    merged,
    numbers,
    whole,
)


class Rewriting:
    """Operations that change, and what must stay where it is.

    Args:
        listing: of a step of one stream.

    Attributes:
        operations: in their order.
        inputs: by name.
        outputs: by name.
        pinned: buffers that must stay as they are: those of inputs and outputs, until `unpin`.
    """

    def __init__(self, listing: Listing) -> None:
        self._listing = listing
        self.operations = [with_few_axes(one) for one in listing.operations]
        self.inputs, self.outputs = dict(listing.inputs), dict(listing.outputs)
        self.pinned = {view.buffer for view in self._seen}
        self._made = 0

    @property
    def _seen(self) -> list[View]:
        return [*self.inputs.values(), *self.outputs.values()]

    def listing(self) -> Listing:
        """The operations as they are now."""
        return replace(
            self._listing,
            inputs=self.inputs,
            outputs=self.outputs,
            operations=tuple(self.operations),
        )

    def clear(self) -> None:
        """Without the operations that nothing reads."""
        kept: list[Operation] = []
        for one in reversed(self.operations):
            if self.is_seen(one.out) or any(_reads(later, one.out) for later in kept):
                kept.append(one)
        self.operations = kept[::-1]

    def unpin(self) -> None:
        """From here on inputs and outputs may stand within other arrays, but for truth values."""
        self.pinned = {view.buffer for view in self.inputs.values() if view.dtype == "bool"}

    def is_seen(self, view: View) -> bool:
        """Whether a number that it shows is an input or an output."""
        return any(overlap(view, one) for one in self._seen)

    def array(self, shape: tuple[int, ...], dtype: str) -> View:
        """A new array to be computed."""
        self._made += 1
        return whole(Buffer(f"row_{self._made}", dtype, math.prod(shape)), shape)

    def constant(self, value: NDArray[np.generic]) -> View:
        """A new array that is not computed."""
        self._made += 1
        buffer = Buffer(f"fixed_{self._made}", str(value.dtype), value.size, value)
        return whole(buffer, value.shape)

    def number(self, value: float | np.generic, like: View) -> View:
        """A constant number, for all places of a view and in its type."""
        view = self.constant(np.asarray(value, like.dtype))
        return View(view.buffer, like.shape, (0,) * len(like.shape))

    def source(self, view: View) -> Operation | None:
        """The one operation that gives just what a view shows."""
        writers = self.writers(view)
        return writers[0] if len(writers) == 1 and writers[0].out == view else None

    def operands(self, view: View | None, kind: str, count: int) -> tuple[View | None, ...]:
        """Those of the operation of this kind that gives what a view shows; None: another does."""
        source = None if view is None else self.source(view)
        if source is None or source.kind != kind:
            return (None,) * count
        return source.operands

    def is_free(self, view: View) -> bool:
        """Whether it is all of an array that may stand elsewhere."""
        return self.is_inner(view) and view.size == view.buffer.size and view.is_dense

    def is_inner(self, view: View) -> bool:
        """Whether it is of an array that is computed, and not pinned."""
        return view.buffer not in self.pinned and view.buffer.constant is None

    def move(self, buffer: Buffer, change: Callable[[View], View]) -> None:
        """Let all that reads or writes a buffer read or write elsewhere."""

        def changed(view: View) -> View:
            return change(view) if view.buffer is buffer else view

        self.operations = [
            replace(one, out=changed(one.out), operands=tuple(map(changed, one.operands)))
            for one in self.operations
        ]
        self.inputs = {name: changed(view) for name, view in self.inputs.items()}
        self.outputs = {name: changed(view) for name, view in self.outputs.items()}

    def put(self, buffer: Buffer, into: View) -> None:
        """Let the numbers of a buffer stand in a row `[buffer.size]` of another array."""
        (step,) = into.strides

        def changed(view: View) -> View:
            strides = tuple(step * stride for stride in view.strides)
            return View(into.buffer, view.shape, strides, into.offset + step * view.offset)

        self.move(buffer, changed)

    def line_up(self, arrays: Sequence[View], row: View) -> None:
        """Let whole arrays stand one after the other in a row that is as long as all of them."""
        begin = 0
        for array in arrays:
            self.put(array.buffer, View(row.buffer, (array.size,), (1,), begin))
            begin += array.size

    def remove(self, gone: Iterable[Operation]) -> None:
        """Without these operations."""
        names = {id(one) for one in gone}
        self.operations = [one for one in self.operations if id(one) not in names]

    def at_each(self, change: Callable[[Rewriting, int], bool]) -> None:
        """Try a change at each place, and where it was made once more there."""
        at = 0
        while at < len(self.operations):
            at += not change(self, at)

    def writers(self, view: View) -> list[Operation]:
        """Operations that write to what a view shows."""
        return [one for one in self.operations if overlap(one.out, view)]

    def readers(self, view: View) -> list[Operation]:
        """Operations that read of what a view shows."""
        return [one for one in self.operations if _reads(one, view)]

    def bring_together(self, first: int, second: int) -> int | None:
        """Let two operations follow one another: the place of the first; None: they cannot.

        The first goes back to the second, or the second forward with all that it needs.
        """
        first, second = sorted((first, second))
        one, *between, other = self.operations[first : second + 1]
        if not any(_depend(one, later) for later in between):
            self.operations[first : second + 1] = [*between, one, other]
            return second - 1
        needed = [other]
        for earlier in between[::-1]:
            if any(_depend(earlier, later) for later in needed):
                needed.insert(0, earlier)
        if any(_depend(one, later) for later in needed):
            return None
        rest = [x for x in between if not any(x is later for later in needed)]
        self.operations[first : second + 1] = [*needed[:-1], one, other, *rest]
        return first + len(needed) - 1


def overlap(a: View, b: View) -> bool:
    """Whether two views may show the same number."""
    if a.buffer is not b.buffer:
        return False
    rows = len(a.shape) == len(b.shape) == 1 and a.strides == b.strides > (1,)
    if rows and (a.offset - b.offset) % a.strides[0]:
        return False  # they stand in turn
    (low, high), (other_low, other_high) = span(a), span(b)
    return low < other_high and other_low < high


def span(view: View) -> tuple[int, int]:
    """The first place of a buffer that a view shows, and the one after the last."""
    steps = [(n - 1) * stride for n, stride in zip(view.shape, view.strides, strict=True)]
    low = view.offset + sum(min(step, 0) for step in steps)
    return low, view.offset + sum(max(step, 0) for step in steps) + 1


def is_number(view: View) -> bool:
    """Whether it is one number for all places."""
    return not any(view.strides)


def is_row(view: View) -> bool:
    """Whether its numbers stand one after the other along a single axis."""
    return len(view.shape) == 1 and view.is_dense


def as_row(view: View) -> View:
    """Numbers that stand one after the other along a single axis; others as they are."""
    return View(view.buffer, (view.size,), (1,), view.offset) if view.is_dense else view


def value_of(view: View) -> NDArray[np.generic] | None:
    """The numbers of a constant."""
    constant = view.buffer.constant
    return None if constant is None else numbers(view, np.ascontiguousarray(constant).reshape(-1))


def is_constant(view: View, value: float) -> bool:
    """Whether it is this number everywhere."""
    found = value_of(view)
    return found is not None and bool((found == value).all())


def _reads(one: Operation, view: View) -> bool:
    return any(overlap(operand, view) for operand in one.operands)


def _depend(one: Operation, other: Operation) -> bool:
    """Whether it matters which of two operations is carried out first."""
    return _reads(one, other.out) or _reads(other, one.out) or overlap(one.out, other.out)


def with_few_axes(one: Operation) -> Operation:
    """An operation number by number with as few axes as there can be."""
    if one.kind not in EACH:
        return one
    views: Iterable[View] = (one.out, *one.operands)
    sizes, strides = merged(one.out.shape, [view.strides for view in views])
    if not sizes:
        sizes, strides = [1], [(1,), *[(0,)] * len(one.operands)]
    out, *operands = (
        View(view.buffer, tuple(sizes), steps, view.offset)
        for view, steps in zip((one.out, *one.operands), strides, strict=True)
    )
    return replace(one, out=out, operands=tuple(operands))
