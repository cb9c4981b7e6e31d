"""Running statistics that live in the policy: of observations, and of returns."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from recurrent_rl.agents.spaces import Leaves, is_image

CLIP = 10.0


class RunningMoments(nn.Module):
    """Mean and variance of all data seen, merged batch by batch (Chan et al. 1979).

    The identity before the first update.
    """

    mean: Tensor
    var: Tensor
    count: Tensor
    scale: Tensor
    shift: Tensor

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("var", torch.ones(shape, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        # What `forward` multiplies by and adds: single precision, computed once per update.
        self.register_buffer("scale", torch.ones(shape))
        self.register_buffer("shift", torch.zeros(shape))

    @torch.no_grad()
    def update(self, x: Tensor) -> None:
        """Take in data `[n, *shape]`."""
        if len(x) == 0:
            return
        x = x.to(torch.float64)
        added, total = len(x), self.count + len(x)
        delta = x.mean(dim=0) - self.mean
        squares = self.var * self.count + x.var(dim=0, correction=0) * added
        self.var.copy_((squares + delta.square() * self.count * added / total) / total)
        self.mean.add_(delta * added / total)
        self.count.copy_(total)
        scale = (self.var + 1e-8).rsqrt()
        self.scale.copy_(scale)
        self.shift.copy_(-self.mean * scale)

    def forward(self, x: Tensor) -> Tensor:
        """(x - mean) / std, clipped to ±10; float32 `[..., *shape]`."""
        return torch.addcmul(self.shift, x.float(), self.scale).clamp(-CLIP, CLIP)


class ObservationNormaliser(nn.Module):
    """Scales float leaves that are no images to zero mean and unit variance.

    Args:
        leaf_spaces: from `spaces.leaf_spaces`.
    """

    def __init__(self, leaf_spaces: dict[str, gym.Space[Any]]) -> None:
        super().__init__()
        self.paths = [
            path
            for path, space in leaf_spaces.items()
            if isinstance(space, spaces.Box) and space.dtype != np.uint8 and not is_image(space)
        ]
        # By position, since a path may hold what a module's name may not.
        moments = [RunningMoments(leaf_spaces[path].shape or ()) for path in self.paths]
        self.moments = nn.ModuleList(moments)
        self._moments = list(zip(self.paths, moments, strict=True))

    def update(self, leaves: Leaves, valid: Tensor) -> None:
        """Take in leaves `[T, B, ...]` where `valid` (bool `[T, B]`) is true."""
        for path, moments in zip(self.paths, self.moments, strict=True):
            moments.update(leaves[path][valid])  # type: ignore[operator]

    def forward(self, leaves: Leaves) -> Leaves:
        """The leaves, those with statistics scaled."""
        if not self.paths:
            return leaves
        return leaves | {path: moments.forward(leaves[path]) for path, moments in self._moments}


class ReturnNormaliser(nn.Module):
    """Lets the critic's last layer predict returns of zero mean and unit variance.

    Mean and standard deviation are exponential moving averages over updates, of rate 0.05 with
    bias correction, so that the first update takes over wholly. Each update rescales the layer so
    that its outputs in units of return stay as they were: PopArt (van Hasselt et al. 2016, eq. 9).
    The standard deviation never falls below 1e-2 of the mean's size or 1e-4: returns that do not
    vary would make any error infinite.
    """

    RATE = 0.05
    mean: Tensor
    std: Tensor
    first: Tensor
    second: Tensor
    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("std", torch.ones(()))
        for name in ("first", "second", "weight"):  # moments, and the weight gathered so far
            self.register_buffer(name, torch.zeros((), dtype=torch.float64))

    @torch.no_grad()
    def update(self, returns: Tensor, value_head: nn.Linear) -> None:
        """Take in returns of any shape and rescale the layer that predicts them."""
        returns = returns.to(torch.float64)
        self.first.lerp_(returns.mean(), self.RATE)
        self.second.lerp_(returns.square().mean(), self.RATE)
        self.weight.lerp_(torch.ones_like(self.weight), self.RATE)
        mean = self.first / self.weight
        var = (self.second / self.weight - mean.square()).clamp(min=0)
        floor = torch.clamp(1e-2 * mean.abs(), min=1e-4)
        std = torch.maximum(var.sqrt(), floor)
        new_mean, new_std = mean.to(self.mean.dtype), std.to(self.std.dtype)
        # W <- s W / s',  b <- (s b + m - m') / s'
        value_head.weight.mul_(self.std / new_std)
        value_head.bias.mul_(self.std).add_(self.mean - new_mean).div_(new_std)
        self.mean.copy_(new_mean)
        self.std.copy_(new_std)

    def denormalise(self, value: Tensor) -> Tensor:
        """From the layer's units to units of return."""
        return torch.addcmul(self.mean, value, self.std)


class AdvantageNormaliser(nn.Module):
    """Scales the advantages of a rollout to zero mean and to a variance of at most one.

    They are divided by their own standard deviation or by a running one, whichever is larger; the
    running variance is an exponential moving average over rollouts, of rate 0.05 with bias
    correction. Where rewards are rare most rollouts hold none. Their advantages are the critic's
    errors and nothing else, and blown up to unit variance would move the policy as far as a reward
    does, until it is sure of what it never learnt.
    """

    RATE = 0.05
    var: Tensor
    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("var", "weight"):  # and the weight gathered so far
            self.register_buffer(name, torch.zeros((), dtype=torch.float64))

    @torch.no_grad()
    def forward(self, advantages: Tensor, valid: Tensor) -> Tensor:
        """Take in a rollout and scale it.

        Args:
            advantages: `[T, B]`.
            valid: bool `[T, B]`; the others do not count, and are scaled alike.
        """
        counted = advantages[valid].to(torch.float64)
        own = counted.var(correction=0)
        self.var.lerp_(own, self.RATE)
        self.weight.lerp_(torch.ones_like(self.weight), self.RATE)
        std = torch.maximum(own, self.var / self.weight).sqrt()
        return ((advantages - counted.mean()) / (std + 1e-8)).to(advantages.dtype)
