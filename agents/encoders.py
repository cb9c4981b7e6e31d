"""Encoders: from observation leaves to one feature vector, for any supported space."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from recurrent_rl.agents.spaces import Leaves, is_image

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "elu": nn.ELU,
}
_GAINS = {"tanh": 1.0, "relu": math.sqrt(2), "silu": math.sqrt(2), "elu": 1.0}
EMBEDDING = 32


def orthogonal(layer: nn.Linear | nn.Conv2d, gain: float) -> None:
    """Orthogonal weights and zero biases (Saxe et al. 2014).

    Inputs of unit variance give outputs of variance gain^2, also where there are more outputs than
    inputs: a plain orthogonal matrix would keep the norm, and so thin out a short input.
    """
    outputs, inputs = len(layer.weight), layer.weight[0].numel()
    nn.init.orthogonal_(layer.weight, gain * math.sqrt(max(1.0, outputs / inputs)))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _scale(space: gym.Space[Any]) -> float:
    """What a leaf's values are multiplied by: a Box of bytes goes to 0..1."""
    return 1 / 255 if isinstance(space, spaces.Box) and space.dtype == np.uint8 else 1.0


class VectorFeatures(nn.Module):
    """Numbers as they are: a Box or MultiBinary, flattened; bytes scaled by 1/255."""

    def __init__(self, space: gym.Space[Any]) -> None:
        super().__init__()
        self.scale = _scale(space)
        self.dims = len(space.shape or ())
        self.output_size = int(np.prod(space.shape or (1,)))

    def forward(self, x: Tensor) -> Tensor:
        """`[..., *shape]` to `[..., features]`."""
        x = x.float()
        if self.scale != 1:
            x = x * self.scale
        if self.dims == 1:
            return x
        return x.unsqueeze(-1) if self.dims == 0 else x.flatten(-self.dims)


class EmbeddingFeatures(nn.Module):
    """A learnt vector for each value of a Discrete, or of each component of a MultiDiscrete."""

    offsets: Tensor

    def __init__(self, space: spaces.Discrete | spaces.MultiDiscrete) -> None:
        super().__init__()
        if isinstance(space, spaces.Discrete):
            sizes = [int(space.n)]
        else:
            sizes = [int(n) for n in space.nvec.reshape(-1)]
        self.dims = len(space.shape or ())
        # One table: component i starts where the components before it end.
        offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
        self.register_buffer("offsets", torch.as_tensor(offsets), persistent=False)
        self.table = nn.Embedding(int(np.sum(sizes)), EMBEDDING)
        self.output_size = EMBEDDING * len(sizes)

    def forward(self, x: Tensor) -> Tensor:
        """`[...]` or `[..., *shape]` to `[..., features]`."""
        if self.dims == 0:
            return self.table(x)  # type: ignore[no-any-return]
        x = x.flatten(-self.dims) + self.offsets
        return self.table(x).flatten(-2)  # type: ignore[no-any-return]


class ImageFeatures(nn.Module):
    """A small convolutional network.

    Images are `[H, W]`, `[H, W, C]` or `[C, H, W]`: the channels are the smaller one of the first
    and last axes, the last where they are alike. Bytes are scaled by 1/255. Images of 36 pixels
    and more on both sides take the layers of Mnih et al. (2015); smaller ones two layers of 3 x 3,
    the second with stride 2, to any size from 1.
    """

    def __init__(self, space: spaces.Box, activation: str, size: int = 128) -> None:
        super().__init__()
        shape = space.shape
        self.has_channels = len(shape) == 3
        self.channels_last = self.has_channels and shape[2] <= shape[0]
        if not self.has_channels:
            channels, height, width = 1, *shape
        elif self.channels_last:
            height, width, channels = shape
        else:
            channels, height, width = shape
        self.scale = _scale(space)
        # Output channels, kernel, stride, padding.
        large = min(height, width) >= 36
        plan = (
            [(32, 8, 4, 0), (64, 4, 2, 0), (64, 3, 1, 0)]
            if large
            else [(16, 3, 1, 1), (32, 3, 2, 1)]
        )
        layers: list[nn.Module] = []
        for out, kernel, stride, padding in plan:
            layer = nn.Conv2d(channels, out, kernel, stride, padding)
            orthogonal(layer, _GAINS[activation])
            layers += [layer, ACTIVATIONS[activation]()]
            channels = out
            height = (height + 2 * padding - kernel) // stride + 1
            width = (width + 2 * padding - kernel) // stride + 1
        linear = nn.Linear(channels * height * width, size)
        orthogonal(linear, _GAINS[activation])
        self.layers = nn.Sequential(*layers, nn.Flatten(), linear, ACTIVATIONS[activation]())
        self.output_size = size

    def forward(self, x: Tensor) -> Tensor:
        """`[..., *shape]` to `[..., features]`."""
        if not self.has_channels:
            x = x.unsqueeze(-3)
        elif self.channels_last:
            x = x.movedim(-1, -3)
        lead = x.shape[:-3]
        flat = x.reshape(-1, *x.shape[-3:]).float() * self.scale
        return self.layers(flat).unflatten(0, lead)  # type: ignore[no-any-return]


def _features(
    space: gym.Space[Any], activation: str
) -> VectorFeatures | EmbeddingFeatures | ImageFeatures:
    if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)):
        return EmbeddingFeatures(space)
    if isinstance(space, spaces.Box) and is_image(space):
        return ImageFeatures(space, activation)
    return VectorFeatures(space)


class Encoder(nn.Module):
    """Features of all leaves side by side, then a multilayer perceptron.

    The last feature says where episodes start: 1 at the first step, else 0.

    Args:
        leaf_spaces: from `spaces.leaf_spaces`.
        size: units of each layer; of the last, with that last feature.
        num_layers: layers; with 0 the features go on as they are.
        activation: one of `ACTIVATIONS`.
        silenced: leaves whose features are zero at an episode's first step.
    """

    def __init__(
        self,
        leaf_spaces: dict[str, gym.Space[Any]],
        size: int,
        num_layers: int,
        activation: str,
        silenced: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__()
        self.paths = list(leaf_spaces)
        self.silenced = silenced
        features = [_features(space, activation) for space in leaf_spaces.values()]
        self.features = nn.ModuleList(features)
        width = sum(module.output_size for module in features)
        layers: list[nn.Module] = []
        for units in [size] * (num_layers - 1) + [size - 1] * (num_layers > 0):
            linear = nn.Linear(width, units)
            orthogonal(linear, _GAINS[activation])
            layers += [linear, ACTIVATIONS[activation]()]
            width = units
        self.layers = nn.Sequential(*layers)
        # The same as plain lists: a call through nn.Module costs as much as a small layer.
        self._features = list(zip(self.paths, features, strict=True))
        self._layers = layers
        self.output_size = width + 1

    def forward(self, leaves: Leaves, episode_start: Tensor | None = None) -> Tensor:
        """Encode leaves `[..., *shape]` to `[..., output_size]`; any leading dimensions.

        Args:
            leaves: by path.
            episode_start: bool `[...]`; None: all false.
        """
        parts = []
        for path, module in self._features:
            part = module.forward(leaves[path])
            if episode_start is not None and path in self.silenced:
                part = part.masked_fill(episode_start.unsqueeze(-1), 0.0)
            parts.append(part)
        x = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
        for layer in self._layers:
            x = layer.forward(x)
        start = x.new_zeros(x.shape[:-1]) if episode_start is None else episode_start.to(x.dtype)
        return torch.cat([x, start.unsqueeze(-1)], dim=-1)
