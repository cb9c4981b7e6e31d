"""Core ATen operations that sum, or look for what is largest, as plain array operations."""

from __future__ import annotations

import math
from typing import Any

from torch import fx

from recurrent_rl.agents.export.listing import View, whole
from recurrent_rl.agents.export.lowering.draft import Draft, kind_of
from recurrent_rl.agents.export.lowering.views import with_axis
from recurrent_rl.agents.export.step import ExportError


def argmax(
    draft: Draft, node: fx.Node, x: View, axis: int | None = None, keepdim: bool = False
) -> View:
    """Where the largest stands, along one axis."""
    if keepdim or axis is None:
        raise ExportError("This format has argmax along one axis alone.")
    shape, dtype = kind_of(node)
    return draft.do("argmax", shape, dtype, draft.last(x, [axis]))


def mean(
    draft: Draft, node: fx.Node, x: View, axes: list[int], keepdim: bool = False, **_: Any
) -> View:
    """Over these axes."""
    shape, dtype = kind_of(node)
    added = total(draft, node, x, axes, keepdim)
    number = math.prod(x.shape[axis] for axis in axes)
    return draft.do("mul", shape, dtype, added, draft.number(1 / number, dtype))


def total(
    draft: Draft, node: fx.Node, x: View, axes: list[int], keepdim: bool = False, **_: Any
) -> View:
    """The sum over these axes."""
    shape, dtype = kind_of(node)
    last = draft.last(x, axes)
    return whole(draft.do("sum", last.shape[:-1], dtype, last).buffer, shape)


def norm(
    draft: Draft, node: fx.Node, x: View, order: float, axes: list[int], keepdim: bool = False
) -> View:
    """The Euclidean norm over these axes."""
    if order != 2:
        raise ExportError("This format has the Euclidean norm alone.")
    shape, dtype = kind_of(node)
    squares = draft.do("mul", x.shape, dtype, x, x)
    return draft.do("sqrt", shape, dtype, total(draft, node, squares, axes, keepdim))


def _shifted(draft: Draft, node: fx.Node, x: View, axis: int) -> tuple[View, View, View]:
    """X less its largest, the exponentials of that, and the sum of these; along the last axis."""
    shape, dtype = kind_of(node)
    if axis % len(shape) != len(shape) - 1:
        raise ExportError("This format has softmax along the last axis alone.")
    largest = draft.do("max", shape[:-1], dtype, draft.dense(x))
    shifted = draft.do("sub", shape, dtype, x, with_axis(largest))
    exponentials = draft.do("exp", shape, dtype, shifted)
    return shifted, exponentials, draft.do("sum", shape[:-1], dtype, exponentials)


def log_softmax(draft: Draft, node: fx.Node, x: View, axis: int, _: bool) -> View:
    """Along the last axis."""
    shape, dtype = kind_of(node)
    shifted, _exponentials, summed = _shifted(draft, node, x, axis)
    logarithm = draft.do("log", shape[:-1], dtype, summed)
    return draft.do("sub", shape, dtype, shifted, with_axis(logarithm))


def softmax(draft: Draft, node: fx.Node, x: View, axis: int, _: bool) -> View:
    """Along the last axis."""
    shape, dtype = kind_of(node)
    _shifted_x, exponentials, summed = _shifted(draft, node, x, axis)
    return draft.do("div", shape, dtype, exponentials, with_axis(summed))
