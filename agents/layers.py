"""Dense layers and how they start: activations, their gains, orthogonal weights."""

from __future__ import annotations

import math
from collections.abc import Iterable

from torch import nn

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "elu": nn.ELU,
}
GAINS = {"tanh": 1.0, "relu": math.sqrt(2), "silu": math.sqrt(2), "elu": 1.0}
"""Of the weights before each activation."""


def orthogonal(layer: nn.Linear | nn.Conv2d, gain: float) -> None:
    """Orthogonal weights and zero biases (Saxe et al. 2014).

    Inputs of unit variance give outputs of variance gain^2, also where there are more outputs than
    inputs: a plain orthogonal matrix would keep the norm, and so thin out a short input.
    """
    outputs, inputs = len(layer.weight), layer.weight[0].numel()
    nn.init.orthogonal_(layer.weight, gain * math.sqrt(max(1.0, outputs / inputs)))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def dense_layers(inputs: int, sizes: Iterable[int], activation: str) -> list[nn.Module]:
    """Linear layers of so many units, each with an activation of `ACTIVATIONS` behind it."""
    layers: list[nn.Module] = []
    for units in sizes:
        linear = nn.Linear(inputs, units)
        orthogonal(linear, GAINS[activation])
        layers += [linear, ACTIVATIONS[activation]()]
        inputs = units
    return layers
