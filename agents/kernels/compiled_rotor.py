"""The compiled kernel of the rotor: factors and recurrence in one pass, and back in another.

The scan needs some thirty operations on whole sequences for this, most of which only move numbers
about. `csrc/rotor_body.h` is part of the same optional extension as the kernel in `compiled.py`.
"""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear

from recurrent_rl.agents.kernels.cell import Cell, LayerState, LinearCell, RotorWeights
from recurrent_rl.agents.kernels.library import (
    DOUBLE,
    FLOAT,
    Rotor,
    address,
    built,
    can_read,
    check_weight,
    dense,
    openmp_of_torch,
    threads_for,
)
from recurrent_rl.agents.kernels.safeguards import once_differentiable

CELLS = ("rotor",)
FACTORS_WORK = 100
"""Multiplications that the factors of one unit at one step are worth, about."""


def serves(cell: Cell, x: Tensor) -> bool:
    """The rotor, on a CPU."""
    return cell.name in CELLS and can_read(x)


def unroll(
    cell: LinearCell,
    weights: RotorWeights,
    x: Tensor,
    state: LayerState,
    episode_start: Tensor | None,
) -> tuple[Tensor, LayerState]:
    """A kernel as `dispatch.Kernel` says. Differentiable once."""
    projected = _projected(weights, x, state)
    h = _Unroll.apply(projected, weights.theta, episode_start, state[0])  # type: ignore[no-untyped-call]
    return cell.output(weights, h, x), (h[-1],)


def step(
    cell: LinearCell,
    weights: RotorWeights,
    x: Tensor,
    state: LayerState,
    episode_start: Tensor | None,
) -> tuple[Tensor, LayerState]:
    """One step, `x` `[B, F]`, where no gradient is needed."""
    projected = _projected(weights, x, state)
    start = None if episode_start is None else episode_start.unsqueeze(0)
    given = _inputs(projected.unsqueeze(0), weights.theta, start, state[0])
    h = _forward(given).squeeze(0)
    return cell.output(weights, h, x), (h,)


def _projected(weights: RotorWeights, x: Tensor, state: LayerState) -> Tensor:
    """What the kernel makes its factors from, beside theta."""
    hidden = state[0].shape[1]
    check_weight("theta", weights.theta, (hidden // 2,), x)
    projected = linear(x, weights.input, weights.bias)
    shape = (*x.shape[:-1], 2 * hidden)
    check_weight("The product of the weights and x", projected, shape, x)
    return projected


class _Inputs(NamedTuple):
    """What a forward pass is given, as the kernel reads it: contiguous."""

    projected: Tensor  # [T, B, 2 * hidden]
    theta: Tensor  # [hidden / 2]
    start: Tensor | None  # [T, B]
    h0: Tensor  # [B, hidden]


def _inputs(projected: Tensor, theta: Tensor, start: Tensor | None, h0: Tensor) -> _Inputs:
    """The inputs as the kernel reads them."""
    start = None if start is None else start.contiguous()
    return _Inputs(dense(projected), dense(theta), start, dense(h0))


def _run(given: _Inputs, h: Tensor, *gradients: Tensor) -> None:
    """A forward pass, which fills `h`; with gradients, the pass back, which fills all but dh."""
    steps, batch, hidden = h.shape
    precision = DOUBLE if h.dtype is torch.float64 else FLOAT
    threads = threads_for(steps * batch * hidden * FACTORS_WORK)
    sizes = (precision, threads, steps, batch, hidden // 2)
    rotor = Rotor(*sizes, *map(address, (*given, h, *gradients)))
    built().rotor_run(ctypes.addressof(rotor), openmp_of_torch())


def _forward(given: _Inputs) -> Tensor:
    """The states `[T, B, hidden]`."""
    h = given.projected.new_empty(*given.projected.shape[:2], given.h0.shape[1])
    _run(given, h)
    return h


class _Unroll(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, projected: Tensor, theta: Tensor, start: Tensor | None, h0: Tensor
    ) -> Tensor:
        given = _inputs(projected, theta, start, h0)
        h = _forward(given)
        ctx.save_for_backward(*given, h)
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dh: Tensor) -> tuple[Tensor | None, ...]:
        *inputs, h = ctx.saved_tensors
        given = _Inputs(*inputs)
        dprojected, dh0 = torch.empty_like(given.projected), torch.empty_like(given.h0)
        shares = built().batch_shares(h.shape[1])
        dtheta = given.theta.new_empty(shares, len(given.theta))
        _run(given, h, dense(dh), dprojected, dtheta, dh0)
        return dprojected, dtheta.sum(0), None, dh0
