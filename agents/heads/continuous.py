"""The head of continuous actions: a Gaussian that spans the bounds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor, nn

from recurrent_rl.agents.distributions import DiagonalGaussian, Distribution
from recurrent_rl.agents.heads.contract import ActionHead, in_a_row
from recurrent_rl.agents.spaces import FLOAT32_MAX

LOG_STD_RANGE = (-5.0, 2.0)  # standard deviations 0.007 to 7.4; -1..1 spans a bounded action


class _Within(torch.autograd.Function):
    """Clamped; a gradient whose descent leads away from the range is zero, any other passes.

    Plain clamping has no gradient outside its range at all: what once got there stays there.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: float, high: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.range = low, high
        return x.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        low, high = ctx.range
        away = ((x < low) & (gradient > 0)) | ((x > high) & (gradient < 0))
        return gradient.masked_fill(away, 0.0), None, None


class BoxHead(ActionHead):
    """For Box: a Gaussian whose standard deviations are learnt, the same in every state.

    Where an entry is bounded on both sides, -1..1 of the Gaussian spans the bounds and what lies
    outside is clipped, so that the first policy covers the range whatever its scale. Elsewhere
    the Gaussian is around zero or, where zero is no action, around the bound that is nearest to it,
    and is clipped to the bound where there is one. The largest number of the space's type is no
    bound: many write it where they mean infinity. The logarithm of the
    standard deviation is clamped to `LOG_STD_RANGE`. Once it is outside, a gradient passes where
    descent along it leads back inside, and is zero where it leads further away.

    With persistence p the Gaussian's mean is p times the previous action beside what the features
    say, and its first standard deviation is sqrt(1 - p^2): before training a first-order
    autoregressive process of unit variance (Korenkevych et al. 2019, eq. 5 with one lag). Noise of
    one step averages out in an inert body; noise that lasts moves it.
    """

    space: spaces.Box

    def __init__(self, space: spaces.Box, input_size: int, persistence: float = 0.0) -> None:
        size = int(np.prod(space.shape))
        super().__init__(space, input_size, size)
        self.action_shape = (size,)
        self.persistence = persistence
        self.log_std = nn.Parameter(torch.full((size,), 0.5 * math.log(1 - persistence**2)))
        low = space.low.reshape(-1).astype(np.float64)
        high = space.high.reshape(-1).astype(np.float64)
        most = min(float(np.finfo(str(space.dtype)).max), float(FLOAT32_MAX))
        bounded = (low > -most) & (high < most)
        self._low, self._high = low, high
        inner_low, inner_high = (np.where(bounded, x, np.clip(0.0, low, high)) for x in (low, high))
        self.range_centre = (inner_low + inner_high) / 2
        self.range_half = np.where(bounded, (inner_high - inner_low) / 2, 1.0)

    def forward(
        self, features: Tensor, mask: Tensor | None = None, previous: Tensor | None = None
    ) -> Distribution:
        """The distribution of the unclipped action."""
        mean = self.linear.forward(features)
        if previous is not None:
            mean = mean + self.persistence * previous
        log_std = _Within.apply(self.log_std, *LOG_STD_RANGE)  # type: ignore[no-untyped-call]
        return DiagonalGaussian(mean, log_std)

    def fill_noise(self, drawn: Tensor, generator: torch.Generator) -> Tensor:
        """Standard normal."""
        return drawn.normal_(generator=generator)

    def to_env(self, action: Tensor) -> NDArray[Any]:
        """The action in the environment's units, within its bounds."""
        raw = action.cpu().numpy().astype(np.float64)
        scaled = np.clip(self.range_centre + self.range_half * raw, self._low, self._high)
        shaped = scaled.reshape(*action.shape[:-1], *self.space.shape)
        # Bounds are numbers of the space's type, and rounding to it steps over none of them.
        return shaped.astype(self.space.dtype)

    def to_env_tensor(self, action: Tensor) -> Tensor:
        """The action in the environment's units, within its bounds as far as float32 tells."""
        ends = (self.range_centre, self.range_half, self._low, self._high)
        with np.errstate(over="ignore"):  # of float64: infinite, and so no bound
            centre, half, low, high = (torch.as_tensor(x.astype(np.float32)) for x in ends)
        scaled = torch.minimum(torch.maximum(centre + half * action, low), high)
        return scaled.reshape(-1, *self.space.shape)

    def from_env(self, actions: NDArray[Any]) -> Tensor:
        """The action in the Gaussian's units."""
        half = np.where(self.range_half > 0, self.range_half, 1.0)  # bounds that leave one value
        scaled = (in_a_row(actions, self.space).astype(np.float64) - self.range_centre) / half
        return torch.as_tensor(scaled.astype(np.float32))
