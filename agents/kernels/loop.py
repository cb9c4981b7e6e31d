"""The loop: what unrolling means, and what the other kernels are compared with."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from recurrent_rl.agents.kernels.cell import Cell, LayerState, reset


def serves(cell: Cell, x: Tensor) -> bool:
    """All cells, on any device."""
    return True


def unroll(
    cell: Cell, weights: Any, x: Tensor, state: LayerState, episode_start: Tensor | None
) -> tuple[Tensor, LayerState]:
    """A kernel as `dispatch.Kernel` says: repeated steps."""
    outputs = []
    for t, x_t in enumerate(x):
        if episode_start is not None:
            state = reset(state, episode_start[t])
        y, state = cell.step(weights, x_t, state)
        outputs.append(y)
    return torch.stack(outputs), state
