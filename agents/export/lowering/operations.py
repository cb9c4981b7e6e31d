"""Core ATen operations as plain array operations: what `lower` looks each of a graph's up in."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import fx

from recurrent_rl.agents.export.listing import View, filled, whole
from recurrent_rl.agents.export.lowering import images, reductions
from recurrent_rl.agents.export.lowering.draft import Draft, kind_of
from recurrent_rl.agents.export.lowering.views import (
    expanded,
    permuted,
    reshaped,
    selected,
    sliced,
    split,
    squeezed,
    with_axis,
)
from recurrent_rl.agents.export.step import ExportError

aten = torch.ops.aten
Value: TypeAlias = Any
"""A view, several of them, or a number."""


def _view(draft: Draft, node: fx.Node, x: View, shape: Any) -> View:
    shape = kind_of(node)[0]
    strides = reshaped(x, shape)
    if strides is None:
        return whole(draft.do("copy", x.shape, x.dtype, x).buffer, shape)
    return View(x.buffer, shape, strides, x.offset)


def _to_copy(draft: Draft, node: fx.Node, x: View, **_: Any) -> View:
    shape, dtype = kind_of(node)
    return x if dtype == x.dtype else draft.do("copy", shape, dtype, x)


def _cat(draft: Draft, node: fx.Node, parts: list[View], axis: int = 0) -> View:
    shape, dtype = kind_of(node)
    out, axis, begin = draft.new(shape, dtype), axis % len(shape), 0
    for part in parts:
        if not part.size:
            continue
        end = begin + part.shape[axis]
        draft.do("copy", part.shape, dtype, part, into=sliced(out, axis, begin, end))
        begin = end
    return out


def _addmm(draft: Draft, node: fx.Node, bias: View, x: View, w: View) -> View:
    shape, dtype = kind_of(node)
    if bias.shape != shape[1:]:
        product = draft.do("product", shape, dtype, x, w)
        return draft.do("add", shape, dtype, product, bias)
    return draft.do("product", shape, dtype, x, w, draft.dense(bias))


def _product(draft: Draft, node: fx.Node, x: View, w: View) -> View:
    return draft.do("product", *kind_of(node), x, w)


def _clamp(
    draft: Draft, node: fx.Node, x: View, low: float | None = None, high: float | None = None
) -> View:
    shape, dtype = kind_of(node)
    for kind, bound in (("max2", low), ("min", high)):
        if bound is not None:
            x = draft.do(kind, shape, dtype, x, draft.number(bound, dtype))
    return x


def _relu(draft: Draft, node: fx.Node, x: View) -> View:
    return _clamp(draft, node, x, 0.0)


def _power(draft: Draft, node: fx.Node, x: View, exponent: float) -> View:
    shape, dtype = kind_of(node)
    if exponent == 2:
        return draft.do("mul", shape, dtype, x, x)
    return draft.do("pow", shape, dtype, x, draft.number(exponent, dtype))


def _gelu(draft: Draft, node: fx.Node, x: View, approximate: str = "none") -> View:
    """The product x / 2 * (1 + erf(x / sqrt 2))."""
    if approximate != "none":
        raise ExportError(f"This format has no gelu of the kind {approximate!r}.")
    shape, dtype = kind_of(node)
    half = draft.do("mul", shape, dtype, x, draft.number(0.5, dtype))
    scaled = draft.do("mul", shape, dtype, half, draft.number(math.sqrt(2), dtype))
    y = draft.do("erf", shape, dtype, scaled)
    y = draft.do("add", shape, dtype, y, draft.number(1, dtype))
    return draft.do("mul", shape, dtype, half, y)


def _elu(
    draft: Draft, node: fx.Node, x: View, alpha: float = 1, scale: float = 1, input_scale: float = 1
) -> View:
    """X where it is positive, else exp(x) - 1."""
    if (alpha, scale, input_scale) != (1, 1, 1):
        raise ExportError("This format has no scaled elu.")
    shape, dtype = kind_of(node)
    zero = draft.number(0, dtype)
    below = draft.do("exp", shape, dtype, draft.do("min", shape, dtype, x, zero))
    below = draft.do("sub", shape, dtype, below, draft.number(1, dtype))
    above = draft.do("gt", shape, "bool", x, zero)
    return draft.do("where", shape, dtype, above, x, below)


def _embedding(draft: Draft, node: fx.Node, table: View, index: View, *_: Any) -> View:
    return draft.do("rows", *kind_of(node), table, draft.dense(index))


def _index_select(draft: Draft, node: fx.Node, x: View, axis: int, index: View) -> View:
    shape, dtype = kind_of(node)
    if axis % len(shape) != len(shape) - 1 or len(shape) != 2 or index.buffer.constant is None:
        raise ExportError("This format takes entries of vectors alone, by fixed indices.")
    out = draft.new(shape, dtype)
    for i, entry in enumerate(index.buffer.constant.reshape(-1).tolist()):
        part = sliced(x, 1, entry, entry + 1)
        draft.do("copy", part.shape, dtype, part, into=sliced(out, 1, i, i + 1))
    return out


def _scatter(draft: Draft, node: fx.Node, x: View, axis: int, index: View, value: float) -> View:
    """X `[..., V]` with a value at the places `[..., E]` of its last axis."""
    shape, dtype = kind_of(node)
    if axis % len(shape) != len(shape) - 1:
        raise ExportError("This format has scatter along the last axis alone.")
    width = shape[-1]
    every = filled(draft.unique(), np.arange(width))
    hits = draft.do("eq", (*index.shape, width), "bool", with_axis(index), every)  # [..., E, V]
    last = len(index.shape)
    order = (*range(last - 1), last, last - 1)
    counted = permuted(draft.do("copy", hits.shape, "float32", hits), order)
    hit = draft.do("sum", shape, "float32", draft.dense(counted))
    hit = draft.do("gt", shape, "bool", hit, draft.number(0, "float32"))
    return draft.do("where", shape, dtype, hit, draft.number(value, dtype), x)


def _full(draft: Draft, node: fx.Node, *arguments: Value, **_: Any) -> View:
    """One number everywhere, the last argument."""
    shape, dtype = kind_of(node)
    return expanded(draft.number(arguments[-1], dtype), shape)


VIEWS: dict[Any, Callable[..., Value]] = {
    aten.expand.default: expanded,
    aten.permute.default: permuted,
    aten.unsqueeze.default: with_axis,
    aten.squeeze.dims: squeezed,
    aten.slice.Tensor: sliced,
    aten.select.int: selected,
    aten.split_with_sizes.default: split,
    aten.clone.default: lambda x, **_: x,
    aten.alias.default: lambda x: x,
}
"""What computes nothing: all arrays are written once."""
SAME_SHAPE = {
    aten.add.Tensor: "add",
    aten.sub.Tensor: "sub",
    aten.mul.Tensor: "mul",
    aten.div.Tensor: "div",
    aten.minimum.default: "min",
    aten.maximum.default: "max2",
    aten.remainder.Scalar: "mod",
    aten.remainder.Tensor: "mod",
    aten.neg.default: "neg",
    aten.abs.default: "abs",
    aten.exp.default: "exp",
    aten.log.default: "log",
    aten.log1p.default: "log1p",
    aten.sqrt.default: "sqrt",
    aten.rsqrt.default: "rsqrt",
    aten.sin.default: "sin",
    aten.cos.default: "cos",
    aten.tanh.default: "tanh",
    aten.sigmoid.default: "sigmoid",
    aten.erf.default: "erf",
    aten.floor.default: "floor",
    aten.where.self: "where",
    aten.gt.Scalar: "gt",
    aten.ge.Scalar: "ge",
    aten.lt.Scalar: "lt",
    aten.le.Scalar: "le",
    aten.eq.Scalar: "eq",
    aten.ne.Scalar: "ne",
    aten.gt.Tensor: "gt",
    aten.ge.Tensor: "ge",
    aten.lt.Tensor: "lt",
    aten.le.Tensor: "le",
    aten.eq.Tensor: "eq",
    aten.ne.Tensor: "ne",
    aten.bitwise_not.default: "not",
    aten.logical_not.default: "not",
    aten.bitwise_and.Tensor: "and",
    aten.bitwise_or.Tensor: "or",
    aten.logical_and.default: "and",
    aten.logical_or.default: "or",
}
"""What goes number by number, by the kind of operation."""
COMPARISONS = ("gt", "ge", "lt", "le", "eq", "ne")


OPERATIONS: dict[Any, Callable[..., Value]] = {
    aten.view.default: _view,
    aten._to_copy.default: _to_copy,
    aten.cat.default: _cat,
    aten.addmm.default: _addmm,
    aten.mm.default: _product,
    aten.bmm.default: _product,
    aten.clamp.default: _clamp,
    aten.relu.default: _relu,
    aten.pow.Tensor_Scalar: _power,
    aten.gelu.default: _gelu,
    aten.elu.default: _elu,
    aten.embedding.default: _embedding,
    aten.index_select.default: _index_select,
    aten.scatter.value: _scatter,
    aten.argmax.default: reductions.argmax,
    aten.mean.dim: reductions.mean,
    aten.sum.dim_IntList: reductions.total,
    aten.linalg_vector_norm.default: reductions.norm,
    aten._log_softmax.default: reductions.log_softmax,
    aten._softmax.default: reductions.softmax,
    aten.full_like.default: _full,
    aten.max_pool2d_with_indices.default: images.max_pool,
    aten.avg_pool2d.default: images.average_pool,
    aten.convolution.default: images.convolution,
}
