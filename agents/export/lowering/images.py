"""Core ATen operations on images as plain array operations: convolutions and pooling."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from torch import fx

from recurrent_rl.agents.export.listing import View, filled, whole
from recurrent_rl.agents.export.lowering.draft import Draft, kind_of
from recurrent_rl.agents.export.lowering.views import permuted, sliced
from recurrent_rl.agents.export.step import ExportError


def convolution(
    draft: Draft,
    node: fx.Node,
    x: View,
    weight: View,
    bias: View | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
) -> View:
    """A plain convolution: its factors laid out as a product has them."""
    if transposed or groups != 1 or any(one != 1 for one in dilation) or len(stride) != 2:
        raise ExportError("This format has plain convolutions of images alone.")
    shape, dtype = kind_of(node)
    outs, *kernel = weight.shape
    flat = (outs, math.prod(kernel))
    factors = draft.dense(permuted(whole(draft.dense(weight).buffer, flat), (1, 0)))
    options: dict[str, Any] = {"kernel": kernel[1:], "stride": stride, "padding": padding}
    if bias is None:
        bias = filled(draft.unique(), np.zeros(outs, dtype))
    x, bias = draft.dense(x), draft.dense(bias)
    return draft.do("convolution", shape, dtype, x, factors, bias, **options)


def _at_places(
    draft: Draft, x: View, kernel: list[int], stride: list[int], padding: list[int], around: float
) -> list[View]:
    """Images `[B, C, H, W]` as each place of a kernel sees them, `[B, C, H', W']` each."""
    *lead, height, width = x.shape
    if any(padding):
        above, left = padding
        padded = draft.new((*lead, height + 2 * above, width + 2 * left), x.dtype)
        draft.do("copy", padded.shape, x.dtype, draft.number(around, x.dtype), into=padded)
        inside = sliced(sliced(padded, -2, above, above + height), -1, left, left + width)
        draft.do("copy", x.shape, x.dtype, x, into=inside)
        x = padded
    (rows, columns), (down, across) = kernel, stride or kernel
    high, wide = x.shape[-2] - rows + 1, x.shape[-1] - columns + 1
    return [
        sliced(sliced(x, -2, r, r + high, down), -1, c, c + wide, across)
        for r in range(rows)
        for c in range(columns)
    ]


def _folded(draft: Draft, operation: str, places: list[View]) -> View:
    """All places in one, two by two, from the first."""
    y, *others = places
    for other in others:
        y = draft.do(operation, y.shape, y.dtype, y, other)
    return y


def max_pool(
    draft: Draft,
    node: fx.Node,
    x: View,
    kernel: list[int],
    stride: list[int] | None = None,
    padding: list[int] | None = None,
    dilation: list[int] | None = None,
    ceil_mode: bool = False,
) -> list[View]:
    """The largest under the kernel, place by place."""
    if ceil_mode or any(one != 1 for one in dilation or ()):
        raise ExportError("This format has plain max pooling alone.")
    places = _at_places(draft, x, kernel, stride or [], padding or [0, 0], -math.inf)
    return [_folded(draft, "max2", places)]


def average_pool(
    draft: Draft,
    node: fx.Node,
    x: View,
    kernel: list[int],
    stride: list[int] | None = None,
    padding: list[int] | None = None,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor: int | None = None,
) -> View:
    """The mean under the kernel, place by place."""
    if ceil_mode or divisor is not None or (any(padding or ()) and not count_include_pad):
        raise ExportError("This format has plain average pooling alone.")
    places = _at_places(draft, x, kernel, stride or [], padding or [0, 0], 0.0)
    y = _folded(draft, "add", places)
    return draft.do("mul", y.shape, y.dtype, y, draft.number(1 / math.prod(kernel), y.dtype))
