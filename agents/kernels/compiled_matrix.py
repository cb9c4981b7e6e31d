"""The compiled kernel of matrix memories: step by step, with each matrix in the nearest cache.

To write and to read costs three multiplications a number of the state, less than to make keys and
queries from the input: chunks save nothing here. `csrc/matrix_body.h` is part of the same optional
extension as the kernel in `compiled.py`.
"""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear

from recurrent_rl.agents.kernels.cell import Cell, LayerState, MatrixCell, MatrixWeights, clocks
from recurrent_rl.agents.kernels.library import (
    DOUBLE,
    FLOAT,
    Matrix,
    address,
    built,
    can_read,
    check_weight,
    dense,
    openmp_of_torch,
    threads_for,
)
from recurrent_rl.agents.kernels.safeguards import once_differentiable


def serves(cell: Cell, x: Tensor) -> bool:
    """Matrix memories, on a CPU; not a subclass, whose equations are its own."""
    return type(cell) is MatrixCell and can_read(x)


def unroll(
    cell: MatrixCell,
    weights: MatrixWeights,
    x: Tensor,
    state: LayerState,
    episode_start: Tensor | None,
) -> tuple[Tensor, LayerState]:
    """A kernel as `dispatch.Kernel` says. Differentiable once."""
    projected = _projected(cell, weights, x, state)
    s, clock = state
    clock = clocks(clock, len(x), episode_start)
    o, s = _Unroll.apply(cell, projected, weights.theta, episode_start, clock, s)  # type: ignore[no-untyped-call]
    return cell.output(weights, o, x), (s, clock[-1] + 1)


def step(
    cell: MatrixCell,
    weights: MatrixWeights,
    x: Tensor,
    state: LayerState,
    episode_start: Tensor | None,
) -> tuple[Tensor, LayerState]:
    """One step, `x` `[B, F]`, where no gradient is needed."""
    projected = _projected(cell, weights, x, state).unsqueeze(0)
    s, clock = state
    start = None
    if episode_start is not None:
        start, clock = episode_start.unsqueeze(0), clock.masked_fill(episode_start, 0)
    o, s = _forward(cell, _inputs(projected, weights.theta, start, clock.unsqueeze(0), s))
    return cell.output(weights, o.squeeze(0), x), (s, clock + 1)


def _projected(cell: MatrixCell, weights: MatrixWeights, x: Tensor, state: LayerState) -> Tensor:
    """What the kernel makes queries, keys, values and decays from, beside theta."""
    values, size = state[0].shape[-2:]
    check_weight("theta", weights.theta, (cell.turning, size // 2), x)
    projected = linear(x, weights.input, weights.bias)
    shape = (*x.shape[:-1], cell.heads * (2 * size + values + 1))
    check_weight("The product of the weights and x", projected, shape, x)
    return projected


class _Inputs(NamedTuple):
    """What a forward pass is given, as the kernel reads it: contiguous."""

    projected: Tensor  # [T, B, H * (2 D + V + 1)]
    theta: Tensor  # [P, D / 2]
    start: Tensor | None  # [T, B]
    clock: Tensor  # [T, B]
    s: Tensor  # [B, H, V, D]


def _inputs(
    projected: Tensor, theta: Tensor, start: Tensor | None, clock: Tensor, s: Tensor
) -> _Inputs:
    """The inputs as the kernel reads them."""
    start = None if start is None else start.contiguous()
    return _Inputs(dense(projected), dense(theta), start, clock.contiguous(), dense(s))


def _run(
    cell: MatrixCell, given: _Inputs, outputs: list[Tensor | None], back: list[Tensor]
) -> None:
    """A forward pass, which fills the outputs; with tensors for the way back, the pass back."""
    steps, batch, _ = given.projected.shape
    heads, values, size = given.s.shape[1:]
    precision = DOUBLE if given.s.dtype is torch.float64 else FLOAT
    work = 3 * steps * batch * heads * values * size
    shares = built().batch_shares(batch)
    scratch = given.s.new_empty(shares * built().matrix_scratch(size // 2, values))
    tensors = [*given, *outputs, scratch, *back]
    heads_of_kinds = (cell.relative, cell.mirrored, cell.content)
    sizes = (precision, threads_for(work), steps, batch, *heads_of_kinds, size // 2, values)
    matrix = Matrix(*sizes, *map(address, tensors))
    built().matrix_run(ctypes.addressof(matrix), openmp_of_torch())


def _forward(cell: MatrixCell, given: _Inputs) -> tuple[Tensor, Tensor]:
    """What is read `[T, B, H, V]`, and S after the last step."""
    steps, batch, _ = given.projected.shape
    o = given.s.new_empty(steps, batch, *given.s.shape[1:3])
    s = torch.empty_like(given.s)
    _run(cell, given, [o, s], [])
    return o, s


class _Unroll(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        cell: MatrixCell,
        projected: Tensor,
        theta: Tensor,
        start: Tensor | None,
        clock: Tensor,
        s: Tensor,
    ) -> tuple[Tensor, Tensor]:
        given = _inputs(projected, theta, start, clock, s)
        ctx.cell = cell
        ctx.save_for_backward(*given)
        return _forward(cell, given)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, do: Tensor, ds: Tensor) -> tuple[Tensor | None, ...]:
        given = _Inputs(*ctx.saved_tensors)
        dprojected, ds0 = torch.empty_like(given.projected), torch.empty_like(given.s)
        _run(ctx.cell, given, [None, None], [dense(do), dense(ds), dprojected, ds0])
        return None, dprojected, None, None, None, ds0
