"""From an observation component to its features: scaled numbers, embedded values, images."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from recurrent_rl.agents.layers import ACTIVATIONS, GAINS, orthogonal
from recurrent_rl.agents.preprocessing import affine
from recurrent_rl.agents.spaces import channel_axis, is_image

EMBEDDING = 32
"""Entries of a learnt vector."""


class ScaledFeatures(nn.Module):
    """What the features of a Box share: numbers scaled as their space says, to float32."""

    factor: Tensor | None
    summand: Tensor | None

    def __init__(self, space: gym.Space[Any], scaling: str) -> None:
        super().__init__()
        factor, summand = affine(space, scaling) or (None, None)
        # They follow from the space, and so have no place in a file.
        self.register_buffer("factor", factor, persistent=False)
        self.register_buffer("summand", summand, persistent=False)

    def scaled(self, x: Tensor) -> Tensor:
        """Scale `[..., *shape]` by the space: x * factor + summand, in float32."""
        x = x.float()
        if self.factor is None or self.summand is None:
            return x
        return torch.addcmul(self.summand, x, self.factor)


class VectorFeatures(ScaledFeatures):
    """Numbers of a Box or MultiBinary, scaled and flattened."""

    def __init__(self, space: gym.Space[Any], scaling: str) -> None:
        super().__init__(space, scaling)
        self.dims = len(space.shape or ())
        self.output_size = int(np.prod(space.shape or (1,)))

    def forward(self, x: Tensor) -> Tensor:
        """`[..., *shape]` to `[..., features]`."""
        x = self.scaled(x)
        if self.dims == 1:
            return x
        return x.unsqueeze(-1) if self.dims == 0 else x.flatten(-self.dims)


class ValueFeatures(nn.Module):
    """What the features of a Discrete and a MultiDiscrete share: all values in one row."""

    offsets: Tensor

    def __init__(self, space: spaces.Discrete | spaces.MultiDiscrete) -> None:
        super().__init__()
        if isinstance(space, spaces.Discrete):
            sizes = [int(space.n)]
        else:
            sizes = [int(n) for n in space.nvec.reshape(-1)]
        self.sizes = sizes
        self.dims = len(space.shape or ())
        self.num_entries, self.num_values = len(sizes), sum(sizes)
        # Entry i starts where the entries before it end.
        offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
        self.register_buffer("offsets", torch.as_tensor(offsets), persistent=False)

    def values(self, x: Tensor) -> Tensor:
        """`[...]` or `[..., *shape]` to the value of each entry, `[..., entries]`."""
        return x.unsqueeze(-1) if self.dims == 0 else x.flatten(-self.dims)

    def places(self, x: Tensor) -> Tensor:
        """`[...]` or `[..., *shape]` to where the values stand, `[..., entries]`."""
        return self.values(x) if self.dims == 0 else self.values(x) + self.offsets


class EmbeddingFeatures(ValueFeatures):
    """A learnt vector for each value of a Discrete, or of each entry of a MultiDiscrete."""

    def __init__(self, space: spaces.Discrete | spaces.MultiDiscrete) -> None:
        super().__init__(space)
        self.table = nn.Embedding(self.num_values, EMBEDDING)
        self.output_size = EMBEDDING * self.num_entries

    def forward(self, x: Tensor) -> Tensor:
        """`[...]` or `[..., *shape]` to `[..., features]`."""
        if self.dims == 0:
            return self.table(x)  # type: ignore[no-any-return]
        return self.table(self.places(x)).flatten(-2)  # type: ignore[no-any-return]


class OneHotFeatures(ValueFeatures):
    """A 1 where the value of a Discrete or of an entry stands, 0 elsewhere."""

    def __init__(self, space: spaces.Discrete | spaces.MultiDiscrete) -> None:
        super().__init__(space)
        self.output_size = self.num_values

    def forward(self, x: Tensor) -> Tensor:
        """`[...]` or `[..., *shape]` to `[..., values of all entries]`."""
        places = self.places(x)
        zeros = places.new_zeros((*places.shape[:-1], self.num_values), dtype=torch.float32)
        return zeros.scatter(-1, places, 1.0)


class ImageFeatures(ScaledFeatures):
    """A small convolutional network.

    Images are `[H, W]`, `[H, W, C]` or `[C, H, W]`, as `channel_axis` tells. Images of 36 pixels
    and more on both sides take the layers of Mnih et al. (2015); smaller ones two layers of 3 x 3,
    the second with stride 2, to any size from 1.
    """

    def __init__(self, space: spaces.Box, scaling: str, activation: str, size: int) -> None:
        super().__init__(space, scaling)
        shape = space.shape
        self.has_channels = len(shape) == 3
        self.channels_last = self.has_channels and channel_axis(shape) == 2
        if not self.has_channels:
            channels, height, width = 1, *shape
        elif self.channels_last:
            height, width, channels = shape
        else:
            channels, height, width = shape
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
            orthogonal(layer, GAINS[activation])
            layers += [layer, ACTIVATIONS[activation]()]
            channels = out
            height = (height + 2 * padding - kernel) // stride + 1
            width = (width + 2 * padding - kernel) // stride + 1
        linear = nn.Linear(channels * height * width, size)
        orthogonal(linear, GAINS[activation])
        self.layers = nn.Sequential(*layers, nn.Flatten(), linear, ACTIVATIONS[activation]())
        self.output_size = size

    def forward(self, x: Tensor) -> Tensor:
        """`[..., *shape]` to `[..., features]`."""
        x = self.scaled(x)
        if not self.has_channels:
            x = x.unsqueeze(-3)
        elif self.channels_last:
            x = x.movedim(-1, -3)
        lead = x.shape[:-3]
        return self.layers(x.reshape(-1, *x.shape[-3:])).unflatten(0, lead)  # type: ignore[no-any-return]


def make_features(
    space: gym.Space[Any], scaling: str, activation: str, one_hot: bool, image_features: int
) -> VectorFeatures | EmbeddingFeatures | OneHotFeatures | ImageFeatures:
    """The module for a component that is not encoded by a class of one's own.

    Args:
        space: of the component.
        scaling: of its numbers, as `preprocessing.affine` takes it.
        activation: of images' layers, one of `ACTIVATIONS`.
        one_hot: show what is discrete as one-hot vectors, not as learnt ones.
        image_features: of an image.
    """
    if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)):
        return OneHotFeatures(space) if one_hot else EmbeddingFeatures(space)
    if isinstance(space, spaces.Box) and is_image(space):
        return ImageFeatures(space, scaling, activation, image_features)
    return VectorFeatures(space, scaling)
