"""How memories start: their weights, and for how long their untrained gates hold."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

OPEN = 2.0
"""The sum in a writing gate that is opened at an episode's start: sigmoid(2) = 0.88."""
SLOWEST = 0.75
"""Such gates are those of units that hold for more than this power of the horizon."""


class GateRows(NamedTuple):
    """Rows of a layer's parameters that read its input, such as those that make a gate."""

    weight: Tensor
    """Of the input, `[units, F]`."""
    bias: Tensor
    """`[units]`."""


def initialise(parameters: dict[str, Tensor], num_blocks: int) -> None:
    """Orthogonal recurrent weights and Xavier input weights, block by block; zero biases."""
    for name, parameter in parameters.items():
        with torch.no_grad():
            if name.startswith("bias") or name.startswith("peephole"):
                nn.init.zeros_(parameter)
                continue
            fill = nn.init.orthogonal_ if name.startswith("weight_hh") else nn.init.xavier_uniform_
            for block in parameter.chunk(num_blocks):
                fill(block)


def chrono_steps(like: Tensor, horizon: int) -> Tensor:
    """U in 1..horizon - 1 for each unit, log u even: a gate u / (1 + u) forgets within 1 + u steps.

    Below a horizon of 3 all are 1, which is the gate at a bias of zero.
    """
    return torch.empty_like(like).uniform_(0, math.log(max(horizon - 1, 1))).exp()


def set_time_scales(
    horizon: int,
    start_feature: int | None,
    keep: GateRows | None = None,
    write: GateRows | None = None,
) -> None:
    """The initialisation of `Memory.initialise_time_scales`, for some units of a layer.

    Args:
        horizon: steps; below 3 nothing is changed.
        start_feature: the column of the weights that reads it, or None.
        keep: makes the share that is kept, where a gate does that; detached.
        write: makes the share that is written, where a gate does that; detached.
    """
    if horizon < 3:
        return
    gates = [(sign, gate) for sign, gate in ((1.0, keep), (-1.0, write)) if gate is not None]
    log_steps = chrono_steps(gates[0][1].bias, horizon).log()
    for sign, gate in gates:
        gate.bias.copy_(sign * log_steps)
        if start_feature is not None:
            opening = -sign * (log_steps + OPEN)
            slowest = log_steps > SLOWEST * math.log(horizon)
            gate.weight[slowest, start_feature] = opening[slowest]


def spread_angles(units: int) -> Tensor:
    """Angles of complex units, in a random order: a quarter near 0, the others even over 0..pi."""
    still = units // 4
    moving = math.pi * (torch.arange(units - still) + 0.5) / (units - still)
    angles = torch.cat([torch.full((still,), 1e-4), moving])
    return angles[torch.randperm(units)]
