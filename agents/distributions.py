"""Distributions over actions.

They hold no checks and no more operations than acting needs; the tests compare them with
`torch.distributions`.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, softplus


class Distribution(Protocol):
    """A distribution over actions, for any leading dimensions `[...]`."""

    def sample(self, noise: Tensor) -> Tensor:
        """The actions that this noise draws, `[..., k]`, as `ActionHead.noise` makes it."""
        ...

    def mode(self) -> Tensor:
        """The deterministic actions."""
        ...

    def log_prob(self, action: Tensor) -> Tensor:
        """Log-probability or log-density, `[...]`."""
        ...

    def entropy(self) -> Tensor:
        """Entropy in nats, `[...]`."""
        ...


class Categorical:
    """One of n actions, by logits `[..., n]`; actions int64 `[...]`.

    An action that is false in `mask` has probability 0 and no part in the entropy. A row that
    allows nothing is uniform, not an error: with next-step autoreset an environment may mask all
    actions of an ended episode, and whatever is drawn there is ignored.
    """

    def __init__(self, logits: Tensor, mask: Tensor | None = None) -> None:
        if mask is not None:
            # Finite, so that 0 * log 0 stays 0 in value and gradient.
            logits = logits.masked_fill(~mask, torch.finfo(logits.dtype).min)
        self.log_probs = torch.log_softmax(logits, dim=-1)

    def sample(self, noise: Tensor) -> Tensor:
        """An exponential race: of clocks Exp(1) / p_i, i rings first with chance p_i."""
        return (self.log_probs.exp() / noise).argmax(dim=-1)

    def mode(self) -> Tensor:
        """The most probable action."""
        return self.log_probs.argmax(dim=-1)

    def log_prob(self, action: Tensor) -> Tensor:
        """Log p(action)."""
        return self.log_probs.gather(-1, action.unsqueeze(-1)).squeeze(-1)

    def entropy(self) -> Tensor:
        """-sum p log p."""
        return -(self.log_probs.exp() * self.log_probs).sum(dim=-1)


class MultiCategorical:
    """Independent categoricals, by logits `[..., sum(sizes)]`; actions int64 `[..., k]`."""

    def __init__(self, logits: Tensor, sizes: list[int], mask: Tensor | None = None) -> None:
        masks = [None] * len(sizes) if mask is None else mask.split(sizes, dim=-1)
        parts = logits.split(sizes, dim=-1)
        self.sizes = sizes
        self.parts = [Categorical(x, m) for x, m in zip(parts, masks, strict=True)]

    def sample(self, noise: Tensor) -> Tensor:
        """Draw each component."""
        each = zip(self.parts, noise.split(self.sizes, dim=-1), strict=True)
        return torch.stack([part.sample(own) for part, own in each], dim=-1)

    def mode(self) -> Tensor:
        """The most probable of each component."""
        return torch.stack([part.mode() for part in self.parts], dim=-1)

    def log_prob(self, action: Tensor) -> Tensor:
        """Sum over the components."""
        each = zip(self.parts, action.unbind(-1), strict=True)
        return torch.stack([part.log_prob(a) for part, a in each]).sum(dim=0)

    def entropy(self) -> Tensor:
        """Sum over the components."""
        return torch.stack([part.entropy() for part in self.parts]).sum(dim=0)


class Bernoulli:
    """Independent bits, by logits `[..., n]`; actions float32 0 or 1, `[..., n]`."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    def sample(self, noise: Tensor) -> Tensor:
        """Draw each bit, by noise that is uniform in [0, 1)."""
        return (noise < torch.sigmoid(self.logits)).to(self.logits.dtype)

    def mode(self) -> Tensor:
        """The more probable value of each bit."""
        return (self.logits > 0).to(self.logits.dtype)

    def log_prob(self, action: Tensor) -> Tensor:
        """Sum over the bits."""
        return -binary_cross_entropy_with_logits(self.logits, action, reduction="none").sum(dim=-1)

    def entropy(self) -> Tensor:
        """Sum over the bits: softplus(l) - l sigmoid(l) each."""
        return (softplus(self.logits) - self.logits * torch.sigmoid(self.logits)).sum(dim=-1)


class DiagonalGaussian:
    """Independent normals, `[..., n]`."""

    def __init__(self, mean: Tensor, log_std: Tensor) -> None:
        self.mean = mean
        self.log_std = log_std

    def sample(self, noise: Tensor) -> Tensor:
        """Draw by standard normal noise; not clipped."""
        return self.mean + self.log_std.exp() * noise

    def mode(self) -> Tensor:
        """The mean."""
        return self.mean

    def log_prob(self, action: Tensor) -> Tensor:
        """Sum of the log-densities."""
        z = (action - self.mean) * (-self.log_std).exp()
        return (-0.5 * z.square() - self.log_std - 0.5 * math.log(2 * math.pi)).sum(dim=-1)

    def entropy(self) -> Tensor:
        """Sum of log(std sqrt(2 pi e))."""
        each = self.log_std + 0.5 * math.log(2 * math.pi * math.e)
        return each.expand_as(self.mean).sum(dim=-1)
