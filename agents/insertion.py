"""Reset-step insertion: torch's own LSTM and GRU kernels over sequences with resets.

Before each reset one dummy step is put into that copy's column, and an input feature that is 1
there drives the gates so hard that the step leaves nothing of the state. So one dense call serves
the whole sequence, whatever the resets; the dummy steps are dropped from its output. Columns with
fewer resets than others are filled up at the end with steps that hold the state.

In the LSTM the features carry -SATURATED into i, f and o: c = h = 0. In the GRU they carry it into
r and z, and take the bias b_n back: n = tanh(0), h = 0. The logistic function is then exactly 0 or
1 and its gradient exactly 0, so that nothing flows past a reset.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recurrent_rl.agents.states import LayerState

if TYPE_CHECKING:
    from recurrent_rl.agents.cells import TorchCell

SATURATED = 1e4


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


def unroll(
    memory: TorchCell, x: Tensor, fields: LayerState, episode_start: Tensor | None, layer: int
) -> tuple[Tensor, LayerState]:
    """A kernel as `kernels.Kernel` says, for the cells `lstm` and `gru`."""
    weights = memory.torch_weights(layer)
    if episode_start is None:
        return _dense(memory, x, fields, weights)
    fields = tuple(f.masked_fill(episode_start[0].unsqueeze(-1), 0.0) for f in fields)
    resets = episode_start.clone()
    resets[0] = False  # done above
    # Step t of a column goes behind the dummy steps up to and including its own.
    dummies = resets.cumsum(0)
    longest = int(dummies[-1].max())
    if longest == 0:
        return _dense(memory, x, fields, weights)

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
    w, u, b, d = weights
    extended = (torch.cat([w, _columns(memory, b)], dim=1), u, b, d)
    y, after = _dense(memory, wide.view(-1, batch, features + 2), fields, extended)
    y = _Take.apply(y.flatten(0, 1), index).view(steps, batch, -1)  # type: ignore[no-untyped-call]
    # A held LSTM shows no output, and a held GRU is the last output still.
    return y, (y[-1], *after[1:])


def _columns(memory: TorchCell, b: Tensor) -> Tensor:
    """The weights of the features "reset" and "hold", `[blocks * hidden, 2]`."""
    off = b.new_full((memory.hidden_size,), -SATURATED)
    zero = torch.zeros_like(off)
    if len(memory.state_type._fields) == 2:  # blocks i, f, g, o
        reset, hold = torch.cat([off, off, zero, off]), torch.cat([off, -off, zero, off])
    else:  # blocks r, z, n
        size = 2 * memory.hidden_size
        reset, hold = torch.cat([off, off, -b[size:]]), torch.cat([off, -off, zero])
    return torch.stack([reset, hold], dim=1)


def _dense(
    memory: TorchCell, x: Tensor, fields: LayerState, weights: tuple[Tensor, ...]
) -> tuple[Tensor, LayerState]:
    """Torch's kernel for one layer without resets."""
    state = tuple(f.unsqueeze(0) for f in fields)
    if len(state) == 2:
        y, h, c = torch.lstm(x, state, weights, True, 1, 0.0, memory.training, False, False)
        return y, (h.squeeze(0), c.squeeze(0))
    y, h = torch.gru(x, state[0], weights, True, 1, 0.0, memory.training, False, False)
    return y, (h.squeeze(0),)
