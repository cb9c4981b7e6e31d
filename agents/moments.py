"""Sums of which all statistics are made."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor


class Moments(NamedTuple):
    """How many, their sum and the sum of their squares, in float64, of some data.

    All statistics are made of these. They add up, so that it does not matter in which groups the
    data came.
    """

    number: Tensor
    total: Tensor
    squares: Tensor

    @classmethod
    def of(cls, x: Tensor) -> Moments:
        """Of data `[n, *shape]`; the sums are `[*shape]`."""
        x = x.to(torch.float64)
        number = torch.tensor(len(x), dtype=torch.float64, device=x.device)
        return cls(number, x.sum(dim=0), x.square().sum(dim=0))

    def __add__(self, other: Moments) -> Moments:  # type: ignore[override]
        """Of the data of both."""
        return Moments(*(a + b for a, b in zip(self, other, strict=True)))

    @property
    def mean(self) -> Tensor:
        """Mean, `[*shape]`; NaN of no data."""
        return self.total / self.number

    @property
    def var(self) -> Tensor:
        """Variance (of the population, not its estimate), `[*shape]`; NaN of no data."""
        return (self.squares / self.number - self.mean.square()).clamp(min=0)


Total: TypeAlias = Callable[[list[Moments]], list[Moments]]
"""From the moments of one worker's data to those of all workers'."""
