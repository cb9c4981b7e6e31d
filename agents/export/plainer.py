"""Operations that some runtime lacks, by those that all have: of parts of one's own above all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten


def _where(choice: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Of truth values by logic: ONNX Runtime has no choice between them."""
    if a.dtype is torch.bool:
        return (choice & a) | (~choice & b)
    return torch.where(choice, a, b)


def _cummax(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Along an axis of one entry, as a sequence of one step has it, the entry itself."""
    if x.shape[axis] == 1:
        return x, torch.zeros_like(x, dtype=torch.int64)
    values, indices = torch.cummax(x, axis)
    return values, indices


def _layer_norm(
    x: Tensor, shape: list[int], weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """(x - mean) / sqrt(var + eps) * weight + bias over the last axes (Ba et al. 2016, eq. 4)."""
    axes = list(range(-len(shape), 0))
    mean = x.mean(axes, keepdim=True)
    centred = x - mean
    scale = torch.rsqrt((centred * centred).mean(axes, keepdim=True) + eps)
    y = centred * scale
    y = y if weight is None else y * weight
    return (y if bias is None else y + bias), mean, scale


def _adaptive_average(x: Tensor, sizes: list[int]) -> Tensor:
    """Of images `[..., H, W]`: each axis by a product with shares, which depend on sizes alone."""
    down, across = (_shares(x.shape[i - 2], size) for i, size in enumerate(sizes))
    rows = torch.tensor(down, dtype=x.dtype)
    return rows @ x @ torch.tensor(list(zip(*across, strict=True)), dtype=x.dtype)


def _shares(inputs: int, outputs: int) -> list[list[float]]:
    """`[outputs, inputs]`: output i is the mean of the inputs from i I / O up to (i + 1) I / O."""
    rows = []
    for i in range(outputs):
        begin, end = i * inputs // outputs, -((i + 1) * inputs // -outputs)
        rows.append([(begin <= k < end) / (end - begin) for k in range(inputs)])
    return rows


def _as_strided(x: Tensor, size: list[int], stride: list[int], offset: int | None = None) -> Tensor:
    """The tensor itself where it is as asked for, as after a mean over images."""
    axes = zip(x.shape, size, x.stride(), stride, strict=False)
    same = len(size) == x.dim() and all(n == m and (n == 1 or s == t) for n, m, s, t in axes)
    return x if same and not offset else torch.as_strided(x, size, stride, offset)


def _batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    var: Tensor,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """(x - mean) / sqrt(var + eps) * weight + bias for each channel, `[B, C, ...]`."""

    def of_channels(x: Tensor) -> Tensor:
        return x.view(-1, *[1] * dims)

    dims = x.dim() - 2
    scale = torch.rsqrt(var + eps)
    scale = scale if weight is None else scale * weight
    y = (x - of_channels(mean)) * of_channels(scale)
    nothing = torch.zeros(0)
    return (y if bias is None else y + of_channels(bias)), nothing, nothing


PLAINER: dict[Any, Callable[..., Any]] = {
    aten.where.self: _where,
    aten.cummax.default: _cummax,
    aten.native_layer_norm.default: _layer_norm,
    aten._native_batch_norm_legit_no_training.default: _batch_norm,
    aten._adaptive_avg_pool2d.default: _adaptive_average,
    aten.as_strided.default: _as_strided,
    aten.leaky_relu.default: lambda x, slope=0.01: torch.where(x > 0, x, slope * x),
    aten.hardtanh.default: torch.clamp,
}
"""By the core ATen operation."""
