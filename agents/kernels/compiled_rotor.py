"""The compiled kernel of the rotor: factors and recurrence in one pass, and back in another.

The scan needs some thirty operations on whole sequences for this, most of which only move numbers
about. `rotor_body.h` is part of the same optional extension as the kernel in `compiled.py`.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from recurrent_rl.agents.kernels import compiled
from recurrent_rl.agents.kernels.safeguards import once_differentiable
from recurrent_rl.agents.memory.states import LayerState

if TYPE_CHECKING:
    from recurrent_rl.agents.memory.linear_cells import Rotor

FACTORS_WORK = 100
"""Multiplications that the factors of one unit at one step are worth, about."""


class _Rotor(ctypes.Structure):
    """`Rotor` in sequence.c, which says what each field is."""

    _fields_ = (
        *((name, ctypes.c_long) for name in ("precision", "threads", "steps", "batch", "units")),
        *((name, ctypes.c_void_p) for name in ("input", "theta", "start", "h0", "h")),
        *((name, ctypes.c_void_p) for name in ("dh", "dinput", "dtheta", "dh0")),
    )


def unroll(
    memory: Rotor, x: Tensor, fields: LayerState, episode_start: Tensor | None, layer: int
) -> tuple[Tensor, LayerState]:
    """A kernel as `kernels.Kernel` says. Differentiable once."""
    projected, theta = _weighted(memory, x, layer)
    h = _Unroll.apply(projected, theta, episode_start, fields[0])  # type: ignore[no-untyped-call]
    return memory.output(h, x, layer), (h[-1],)


def step(
    memory: Rotor, x: Tensor, fields: LayerState, episode_start: Tensor | None, layer: int
) -> tuple[Tensor, LayerState]:
    """One step of one layer, `x` `[B, F]`, where no gradient is asked for."""
    projected, theta = _weighted(memory, x, layer)
    start = None if episode_start is None else episode_start.unsqueeze(0)
    given = _inputs(projected.unsqueeze(0), theta, start, fields[0])
    h = _forward(given).squeeze(0)
    return memory.output(h, x, layer), (h,)


def _weighted(memory: Rotor, x: Tensor, layer: int) -> tuple[Tensor, Tensor]:
    """What the kernel makes its factors from: the projected input, and theta."""
    theta = memory.angles(layer)
    compiled.check_weight("theta", theta, (memory.hidden_size // 2,), x)
    projected = memory.projected(x, layer)
    shape = (*x.shape[:-1], 2 * memory.hidden_size)
    compiled.check_weight("The product of the weights and x", projected, shape, x)
    return projected, theta


class _Inputs(NamedTuple):
    """What a forward pass is given, as the kernel reads it: contiguous."""

    projected: Tensor  # [T, B, 2 * hidden]
    theta: Tensor  # [hidden / 2]
    start: Tensor | None  # [T, B]
    h0: Tensor  # [B, hidden]


def _inputs(projected: Tensor, theta: Tensor, start: Tensor | None, h0: Tensor) -> _Inputs:
    """The inputs as the kernel reads them."""
    start = None if start is None else start.contiguous()
    dense = compiled.dense
    return _Inputs(dense(projected), dense(theta), start, dense(h0))


def _run(given: _Inputs, h: Tensor, *gradients: Tensor) -> None:
    """A forward pass, which fills `h`; with gradients, the pass back, which fills all but dh."""
    steps, batch, hidden = h.shape
    precision = compiled.DOUBLE if h.dtype is torch.float64 else compiled.FLOAT
    threads = compiled.threads_for(steps * batch * hidden * FACTORS_WORK)
    rotor = _Rotor(
        *(precision, threads, steps, batch, hidden // 2),
        *[None if tensor is None else tensor.data_ptr() for tensor in (*given, h, *gradients)],
    )
    compiled.built().rotor_run(ctypes.addressof(rotor), compiled.openmp_of_torch())


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
        shares = compiled.built().rotor_shares(h.shape[1])
        dtheta = given.theta.new_empty(shares, len(given.theta))
        _run(given, h, compiled.dense(dh), dprojected, dtheta, dh0)
        return dprojected, dtheta.sum(0), None, dh0
