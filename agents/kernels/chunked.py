"""Matrix memories, a chunk of steps at once: products of matrices, and resets as a mask.

Within a chunk each step reads all that was written since its episode began, as attention without a
softmax does, and what the state held before, faded (Katharopoulos et al. 2020; Yang et al. 2024,
gated linear attention, section 4). The state passes from chunk to chunk, so that time and memory
grow with the length of the sequence times that of a chunk.

A value that is not finite stays in its episode, as everywhere. A gradient that is not finite does
not: it reaches the other episodes of its environment in the chunk.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from recurrent_rl.agents.kernels import loop
from recurrent_rl.agents.kernels.cell import Cell, LayerState, MatrixCell, MatrixWeights, clocks
from recurrent_rl.agents.kernels.safeguards import all_finite

CHUNK = 64
"""Steps."""


def serves(cell: Cell, x: Tensor) -> bool:
    """Matrix memories that step as this kernel has it, on any device."""
    return isinstance(cell, MatrixCell) and type(cell).step is MatrixCell.step


def unroll(
    cell: MatrixCell,
    weights: MatrixWeights,
    x: Tensor,
    state: LayerState,
    episode_start: Tensor | None,
) -> tuple[Tensor, LayerState]:
    """A kernel as `dispatch.Kernel` says."""
    reads, after = [], state
    starts = episode_start.split(CHUNK) if episode_start is not None else None
    for i, rows in enumerate(x.split(CHUNK)):
        o, after = _chunk(cell, weights, rows, after, None if starts is None else starts[i])
        reads.append(o)
    o = torch.cat(reads)
    if episode_start is not None and not all_finite(o, *after):
        # The mask is a product with zero, which leaves a NaN what it is.
        return loop.unroll(cell, weights, x, state, episode_start)
    return cell.output(weights, o, x), after


class Attention(NamedTuple):
    """What a chunk of steps reads of what it writes, and of the state before it."""

    weights: Tensor  # of the value of step s at step t, [B, H, T, T]; 0 where s is not seen
    values: Tensor  # [B, H, T, V]
    of_state: Tensor  # queries, faded as the state before the chunk has, [B, H, T, D]
    last: Tensor  # what is left of each step after the last, [B, H, T]
    keys: Tensor  # [B, H, T, D]
    state_left: Tensor  # what is left of the state after the last step, [B, H]
    clock: Tensor  # after the last step, [B]

    def reads(self, s: Tensor) -> Tensor:
        """What is read at each step with the state `[B, H, V, D]` before: `[B, H, T, V]`."""
        return self.weights @ self.values + self.of_state @ s.mT

    def after(self, s: Tensor) -> Tensor:
        """The state `[B, H, V, D]` after the last step, of that before."""
        written = (self.last.unsqueeze(-1) * self.values).mT @ self.keys
        return written + self.state_left[..., None, None] * s


def attention(
    cell: MatrixCell,
    weights: MatrixWeights,
    x: Tensor,
    clock: Tensor,
    start: Tensor | None,
) -> Attention:
    """How the steps of `x` `[T, B, F]` address each other; `clock` is the state's before them.

    Time and memory grow with the square of T.
    """
    steps = torch.arange(len(x), device=x.device)
    none = steps.new_zeros(x.shape[:2])
    episode = none if start is None else start.cumsum(0)  # [T, B]; 0 began before the chunk
    continues = (episode == 0).to(x.dtype)
    clock = clocks(clock, len(x), start)

    # Which steps see which: those before them in the same episode, [B, T, T].
    same = episode.t().unsqueeze(-1) == episode.t().unsqueeze(-2)
    seen = same & (steps.unsqueeze(-1) >= steps)

    q, k, v, log_decay = cell.read_write(weights, x, clock)
    q, k, v = (part.permute(1, 2, 0, 3) for part in (q, k, v))  # [B, H, T, ...]
    # Sums by the mask, not running sums: those let the rounding of other episodes' gradients in.
    faded = (seen.to(x.dtype) @ log_decay.transpose(0, 1)).mT  # [B, H, T]
    # What of step s is left at step t: the product of the decays after s.
    seen = seen.unsqueeze(1)
    left = (faded.unsqueeze(-1) - faded.unsqueeze(-2)).masked_fill(~seen, -math.inf).exp()
    left_of_state = faded.exp() * continues.t().unsqueeze(1)  # [B, H, T]
    return Attention(
        weights=q @ k.mT * left,
        values=v,
        of_state=left_of_state.unsqueeze(-1) * q,
        last=left[..., -1, :],
        keys=k,
        state_left=left_of_state[..., -1],
        clock=clock[-1] + 1,
    )


def _chunk(
    cell: MatrixCell, weights: MatrixWeights, x: Tensor, state: LayerState, start: Tensor | None
) -> tuple[Tensor, LayerState]:
    """What is read at each step, `[T, B, H, V]`, and the state after them."""
    s, clock = state
    found = attention(cell, weights, x, clock, start)
    return found.reads(s).permute(2, 0, 1, 3), (found.after(s), found.clock)
