"""Reset-step insertion: torch's own LSTM and GRU kernels over sequences with resets.

Before each reset one dummy step is put into that environment's column, and an input feature that is
1 there drives the gates so hard that the step leaves nothing of the state. So one dense call serves
the whole sequence, whatever the resets; the dummy steps are dropped from its output. Columns with
fewer resets than others are filled up at the end with steps that hold the state.

In the LSTM the features carry -SATURATED into i, f and o: c = h = 0. In the GRU they carry it into
r and z, and take the bias b_n back: n = tanh(0), h = 0. The logistic function is then exactly 0 or
1 and its gradient exactly 0, so that nothing finite flows past a reset. A NaN or an infinity would:
where an output or a gradient that comes back is not finite, the loop computes it again.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from recurrent_rl.agents.kernels import loop
from recurrent_rl.agents.kernels.cell import Cell, GatedCell, GatedWeights, LayerState, reset
from recurrent_rl.agents.kernels.safeguards import all_finite, once_differentiable

CELLS = ("lstm", "gru")
SATURATED = 1e30
"""Beside which all that a cell may sum is nothing, and which float32 still holds."""


class _Take(torch.autograd.Function):
    """Rows by distinct indices; the gradient of `index_select` would add them up one by one."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.shape = rows.shape
        return rows.index_select(0, index)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        return gradient.new_zeros(ctx.shape).index_copy_(0, index, gradient), None


def serves(cell: Cell, x: Tensor) -> bool:
    """LSTM and GRU, on any device."""
    return cell.name in CELLS


def unroll(
    cell: GatedCell,
    weights: GatedWeights,
    x: Tensor,
    state: LayerState,
    episode_start: Tensor | None,
) -> tuple[Tensor, LayerState]:
    """A kernel as `dispatch.Kernel` says."""
    if episode_start is None:
        return _dense(x, state, weights)
    state = reset(state, episode_start[0])
    resets = episode_start.clone()
    resets[0] = False  # done above
    longest = int(resets.sum(0).max())
    if not longest:
        return _dense(x, state, weights)
    y, *rest = _Unroll.apply(cell, longest, resets, x, *state, *weights.of_torch())  # type: ignore[no-untyped-call]
    return y, (y[-1], *rest)


class _Unroll(torch.autograd.Function):
    """Across resets; made again by the loop where something is not finite, there and back.

    The outputs are y and, of the LSTM, the last c. The graph between is its own.
    """

    @staticmethod
    def forward(
        ctx: Any,
        cell: GatedCell,
        longest: int,
        resets: Tensor,
        x: Tensor,
        *others: Tensor,
    ) -> tuple[Tensor, ...]:
        ctx.cell = cell
        fields, weights = others[:-4], GatedWeights(*others[-4:])
        needed = ctx.needs_input_grad[3:]
        with torch.set_grad_enabled(any(needed)):
            x, *given = (
                value.detach().requires_grad_(need)
                for value, need in zip((x, *fields), needed, strict=False)
            )
            fields = tuple(given)
            y, after = _inserted(x, fields, weights, resets, longest)
            if not all_finite(y):
                y, after = loop.unroll(cell, weights, x, fields, resets)
        ctx.save_for_backward(resets, x, *fields, *weights.of_torch(), y, *after[1:])
        return tuple(output.detach() for output in (y, *after[1:]))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        number = len(gradients)
        resets, *inputs = ctx.saved_tensors[:-number]
        outputs = ctx.saved_tensors[-number:]
        needed = ctx.needs_input_grad[3:]
        wanted = [value for value, need in zip(inputs, needed, strict=True) if need]
        if not all_finite(*gradients):
            with torch.enable_grad():
                x, *fields = inputs[:-4]
                weights = GatedWeights(*inputs[-4:])
                y, after = loop.unroll(ctx.cell, weights, x, tuple(fields), resets)
            outputs = (y, *after[1:])
        # The graph goes with what was saved, and so when torch lets go of that.
        found = iter(torch.autograd.grad(outputs, wanted, gradients, retain_graph=True))
        return (None, None, None, *(next(found) if need else None for need in needed))


def _inserted(
    x: Tensor,
    fields: LayerState,
    weights: GatedWeights,
    resets: Tensor,
    longest: int,
) -> tuple[Tensor, LayerState]:
    """One dense call for all episodes.

    `resets` `[T, B]` are the starts but for those of row 0, `longest` is their number in the column
    that has most.
    """
    # Step t of a column goes behind the dummy steps up to and including its own.
    dummies = resets.cumsum(0)
    steps, batch, features = x.shape
    columns = torch.arange(batch, device=x.device)
    times = torch.arange(steps, device=x.device).unsqueeze(1) + dummies
    index = (times * batch + columns).flatten()
    reset_index = ((times - 1) * batch + columns)[resets]

    rows = (steps + longest) * batch
    wide = x.new_zeros(rows, features + 2)  # and the features "reset" and "hold"
    wide[reset_index, features] = 1.0
    behind = torch.arange(steps + longest, device=x.device).unsqueeze(1) > times[-1]
    wide[:, features + 1] = behind.flatten().to(x.dtype)
    wide = wide.index_copy(
        0, index, torch.cat([x.flatten(0, 1), x.new_zeros(steps * batch, 2)], dim=1)
    )
    added = _columns(weights, lstm=len(fields) == 2)
    extended = weights._replace(input=torch.cat([weights.input, added], dim=1))
    y, after = _dense(wide.view(-1, batch, features + 2), fields, extended)
    y = _Take.apply(y.flatten(0, 1), index).view(steps, batch, -1)  # type: ignore[no-untyped-call]
    # A held LSTM shows no output, and a held GRU is the last output still.
    return y, (y[-1], *after[1:])


def _columns(weights: GatedWeights, lstm: bool) -> Tensor:
    """The weights of the features "reset" and "hold", `[blocks * hidden, 2]`."""
    b, units = weights.bias, weights.recurrent.shape[1]
    off = b.new_full((units,), -SATURATED)
    zero = torch.zeros_like(off)
    if lstm:  # blocks i, f, g, o
        at_reset, at_hold = torch.cat([off, off, zero, off]), torch.cat([off, -off, zero, off])
    else:  # blocks r, z, n
        at_reset, at_hold = torch.cat([off, off, -b[2 * units :]]), torch.cat([off, -off, zero])
    return torch.stack([at_reset, at_hold], dim=1)


def _in_one_piece(weights: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """These one after the other in memory, as cuDNN wants a layer's: else it warns, and copies."""
    flat = torch.cat([w.flatten() for w in weights])
    parts = flat.split([w.numel() for w in weights])
    return tuple(part.view_as(w) for part, w in zip(parts, weights, strict=True))


def _dense(x: Tensor, fields: LayerState, weights: GatedWeights) -> tuple[Tensor, LayerState]:
    """Torch's kernel for one layer without resets."""
    state = tuple(f.unsqueeze(0) for f in fields)
    needs_gradient = torch.is_grad_enabled()  # only then cuDNN keeps what the way back needs
    layer: tuple[Tensor, ...] = weights.of_torch()
    if x.is_cuda:
        layer = _in_one_piece(layer)
    if len(state) == 2:
        y, h, c = torch.lstm(x, state, layer, True, 1, 0.0, needs_gradient, False, False)
        return y, (h.squeeze(0), c.squeeze(0))
    y, h = torch.gru(x, state[0], layer, True, 1, 0.0, needs_gradient, False, False)
    return y, (h.squeeze(0),)
