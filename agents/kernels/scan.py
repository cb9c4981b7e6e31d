"""Linear recurrences h_t = a_t * h_tm1 + b_t for all steps at once, with resets inside.

A reset makes a_t zero: nothing of a finite state gets past it, in value or in gradient. Zero times
a NaN or an infinity is a NaN: where a result is not finite it is computed again, with the states
themselves put to zero.

The recurrence is associative, (a, b) then (a', b') being (a a', a' b + b'), so that a device with
many cores can double its reach with each pass (Hillis & Steele 1986); a CPU goes through the steps
in order, all environments and units at a time, which is less work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from recurrent_rl.agents.kernels.cell import Cell, LayerState, LinearCell
from recurrent_rl.agents.kernels.safeguards import all_finite, once_differentiable


def in_order(a: Tensor, b: Tensor, start: Tensor | None = None) -> Tensor:
    """h_t = a_t * h_tm1 + b_t with h_-1 = 0, step by step; `[T, ...]`. Writes over b.

    Where `start` `[T, ...]` is true, h_tm1 is zero.
    """
    rows, factors = b.unbind(0), a.unbind(0)
    for t in range(1, len(rows)):
        h_tm1 = rows[t - 1] if start is None else rows[t - 1].masked_fill(start[t], 0.0)
        rows[t].addcmul_(factors[t], h_tm1)
    return b


def by_doubling(a: Tensor, b: Tensor) -> Tensor:
    """The same in log2(T) passes: after the k-th, each row reaches 2^k rows back."""
    reach, steps = 1, len(b)
    while reach < steps:
        b = torch.cat([b[:reach], torch.addcmul(b[reach:], a[reach:], b[:-reach])])
        a = torch.cat([a[:reach], a[reach:] * a[:-reach]])
        reach *= 2
    return b


def in_order_backwards(a: Tensor, b: Tensor, start: Tensor | None = None) -> Tensor:
    """g_t = a_tp1 * g_tp1 + b_t, from the last step to the first; `[T, ...]`. Writes over b.

    Where `start` `[T, ...]` is true at tp1, g_tp1 is taken for zero.
    """
    rows, factors = b.unbind(0), a.unbind(0)
    for t in range(len(rows) - 2, -1, -1):
        g_tp1 = rows[t + 1] if start is None else rows[t + 1].masked_fill(start[t + 1], 0.0)
        rows[t].addcmul_(factors[t + 1], g_tp1)
    return b


def by_doubling_backwards(a: Tensor, b: Tensor) -> Tensor:
    """The same in log2(T) passes."""
    later = torch.cat([a[1:], torch.zeros_like(a[:1])]).flip(0)
    return by_doubling(later, b.flip(0)).flip(0)


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, before: Tensor, start: Tensor | None) -> Tensor:
        if start is not None:
            a = a.masked_fill(start, 0.0)
            before = before.masked_fill(start[0], 0.0)
        first = torch.addcmul(b[0], a[0], before)

        def scan(function: Callable[..., Tensor], *masks: Tensor) -> Tensor:
            h = b.clone()
            h[0] = first
            return function(a, h, *masks)

        h = scan(in_order if a.device.type == "cpu" else by_doubling)
        if start is not None and not all_finite(h):
            h = scan(in_order, start)
        ctx.save_for_backward(a, h, before, start)
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dh: Tensor) -> tuple[Tensor | None, ...]:
        a, h, before, start = ctx.saved_tensors
        scan = in_order_backwards if a.device.type == "cpu" else by_doubling_backwards
        conjugate = a.conj().resolve_conj()
        db = scan(conjugate, dh.clone())
        if start is not None and not all_finite(db):
            db = in_order_backwards(conjugate, dh.clone(), start)
        da = torch.empty_like(db)
        torch.mul(db[1:], h[:-1].conj(), out=da[1:])
        torch.mul(db[0], before.conj(), out=da[0])
        dbefore = db[0] * conjugate[0]
        if start is not None:
            da.masked_fill_(start, 0.0)
            dbefore.masked_fill_(start[0], 0.0)
        return da, db, dbefore, None


def linear_scan(a: Tensor, b: Tensor, h: Tensor, start: Tensor | None = None) -> Tensor:
    """h_t = a_t * h_tm1 + b_t, real or complex, differentiable once.

    Args:
        a: `[T, ...]`.
        b: `[T, ...]`.
        h: before the first step, `[...]`.
        start: bool, `[T, ...]` or of a shape that is broadcast to it; where it is true, h_tm1 is
            zero. None: nowhere.

    Returns:
        h after each step, `[T, ...]`.
    """
    return _Scan.apply(a, b, h, start)  # type: ignore[no-any-return, no-untyped-call]


def serves(cell: Cell, x: Tensor) -> bool:
    """The cells that are linear in their state, on any device."""
    return isinstance(cell, LinearCell)


def unroll(
    cell: LinearCell, weights: Any, x: Tensor, state: LayerState, episode_start: Tensor | None
) -> tuple[Tensor, LayerState]:
    """A kernel as `dispatch.Kernel` says."""
    a, b = cell.coefficients(weights, x)
    start = None if episode_start is None else episode_start.unsqueeze(-1)
    h = cell.to_state(linear_scan(a, b, cell.from_state(state[0]), start))
    return cell.output(weights, h, x), (h[-1],)
