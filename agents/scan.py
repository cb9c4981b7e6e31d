"""Linear recurrences h_t = a_t * h_tm1 + b_t for all steps at once, with resets inside.

A reset makes a_t zero: nothing of the state gets past it, in value or in gradient. The recurrence
is associative, (a, b) then (a', b') being (a a', a' b + b'), so that a device with many cores can
double its reach with each pass (Hillis & Steele 1986); a CPU goes through the steps in order, all
copies and units at a time, which is less work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recurrent_rl.agents.states import LayerState

if TYPE_CHECKING:
    from recurrent_rl.agents.linear_cells import LinearCell


def in_order(a: Tensor, b: Tensor) -> Tensor:
    """h_t = a_t * h_tm1 + b_t with h_-1 = 0, step by step; `[T, ...]`. Writes over b."""
    rows = b.unbind(0)
    for a_t, h_tm1, h_t in zip(a.unbind(0)[1:], rows, rows[1:], strict=False):
        h_t.addcmul_(a_t, h_tm1)
    return b


def by_doubling(a: Tensor, b: Tensor) -> Tensor:
    """The same in log2(T) passes: after the k-th, each row reaches 2^k rows back."""
    reach, steps = 1, len(b)
    while reach < steps:
        b = torch.cat([b[:reach], torch.addcmul(b[reach:], a[reach:], b[:-reach])])
        a = torch.cat([a[:reach], a[reach:] * a[:-reach]])
        reach *= 2
    return b


def in_order_backwards(a: Tensor, b: Tensor) -> Tensor:
    """g_t = a_tp1 * g_tp1 + b_t, from the last step to the first; `[T, ...]`. Writes over b."""
    rows = b.unbind(0)[::-1]
    for a_tp1, g_tp1, g_t in zip(a.unbind(0)[::-1], rows, rows[1:], strict=False):
        g_t.addcmul_(a_tp1, g_tp1)
    return b


def by_doubling_backwards(a: Tensor, b: Tensor) -> Tensor:
    """The same in log2(T) passes."""
    later = torch.cat([a[1:], torch.zeros_like(a[:1])]).flip(0)
    return by_doubling(later, b.flip(0)).flip(0)


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, before: Tensor) -> Tensor:
        b = b.clone()
        b[0].addcmul_(a[0], before)
        h = (in_order if a.device.type == "cpu" else by_doubling)(a, b)
        ctx.save_for_backward(a, h, before)
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dh: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        a, h, before = ctx.saved_tensors
        scan = in_order_backwards if a.device.type == "cpu" else by_doubling_backwards
        conjugate = a.conj().resolve_conj()
        db = scan(conjugate, dh.clone())
        da = torch.empty_like(db)
        torch.mul(db[1:], h[:-1].conj(), out=da[1:])
        torch.mul(db[0], before.conj(), out=da[0])
        return da, db, db[0] * conjugate[0]


def linear_scan(a: Tensor, b: Tensor, h: Tensor) -> Tensor:
    """h_t = a_t * h_tm1 + b_t, real or complex, differentiable once.

    Args:
        a: `[T, ...]`.
        b: `[T, ...]`.
        h: before the first step, `[...]`.

    Returns:
        h after each step, `[T, ...]`.
    """
    return _Scan.apply(a, b, h)  # type: ignore[no-any-return, no-untyped-call]


def unroll(
    memory: LinearCell, x: Tensor, fields: LayerState, episode_start: Tensor | None, layer: int
) -> tuple[Tensor, LayerState]:
    """A kernel as `kernels.Kernel` says, for the cells that are linear in their state."""
    a, b = memory.coefficients(x, layer)
    if episode_start is not None:
        a = a.masked_fill(episode_start.unsqueeze(-1), 0.0)
    h = memory.to_state(linear_scan(a, b, memory.from_state(fields[0])))
    return memory.output(h, x, layer), (h[-1],)
