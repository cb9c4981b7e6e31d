"""The loop: what `Memory.unroll` means, and what the other kernels are compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from recurrent_rl.agents.memory.states import LayerState

if TYPE_CHECKING:
    from recurrent_rl.agents.memory.contract import Memory


def unroll(
    memory: Memory, x: Tensor, fields: LayerState, episode_start: Tensor | None, layer: int
) -> tuple[Tensor, LayerState]:
    """A kernel as `kernels.Kernel` says: repeated steps."""
    outputs = []
    for t, x_t in enumerate(x):
        if episode_start is not None:
            start = episode_start[t].unsqueeze(-1)
            fields = tuple([field.masked_fill(start, 0.0) for field in fields])
        y, fields = memory.step_layer(x_t, fields, layer)
        outputs.append(y)
    return torch.stack(outputs), fields
