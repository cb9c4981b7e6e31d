"""Heads of actions that are counted: categoricals and bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from recurrent_rl.agents.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    MultiCategorical,
)
from recurrent_rl.agents.heads.contract import ActionHead, in_a_row


class CategoricalHead(ActionHead):
    """What the heads of one and of several categoricals share: clocks of an exponential race."""

    action_dtype = torch.int64

    def fill_noise(self, drawn: Tensor, generator: torch.Generator) -> Tensor:
        """Clocks that ring after Exp(1)."""
        tiny = torch.finfo(drawn.dtype).tiny  # a clock at zero would ring for a forbidden action
        return drawn.exponential_(generator=generator).clamp_(min=tiny)


class DiscreteHead(CategoricalHead):
    """For Discrete: a categorical; action tensors count from 0."""

    space: spaces.Discrete

    def __init__(self, space: spaces.Discrete, input_size: int) -> None:
        super().__init__(space, input_size, int(space.n))
        self.mask_size = int(space.n)

    def forward(
        self, features: Tensor, mask: Tensor | None = None, previous: Tensor | None = None
    ) -> Distribution:
        """The distribution; false in `mask` forbids an action."""
        return Categorical(self.linear.forward(features), mask)

    def to_env(self, action: Tensor) -> NDArray[Any]:
        """The action, counted from the space's start."""
        return (action.cpu().numpy() + self.space.start).astype(self.space.dtype, copy=False)

    def to_env_tensor(self, action: Tensor) -> Tensor:
        """The action, counted from the space's start."""
        return action + int(self.space.start)

    def from_env(self, actions: NDArray[Any]) -> Tensor:
        """Counted from 0."""
        return torch.as_tensor(actions.astype(np.int64) - int(self.space.start))


class MultiDiscreteHead(CategoricalHead):
    """For MultiDiscrete: independent categoricals; action tensors count from 0."""

    space: spaces.MultiDiscrete

    def __init__(self, space: spaces.MultiDiscrete, input_size: int) -> None:
        self_sizes = [int(n) for n in space.nvec.reshape(-1)]
        super().__init__(space, input_size, sum(self_sizes))
        self.sizes = self_sizes
        self.mask_size = sum(self_sizes)
        self.action_shape = (len(self_sizes),)

    def forward(
        self, features: Tensor, mask: Tensor | None = None, previous: Tensor | None = None
    ) -> Distribution:
        """The distribution; `mask` holds the components' masks one behind the other."""
        return MultiCategorical(self.linear.forward(features), self.sizes, mask)

    def to_env(self, action: Tensor) -> NDArray[Any]:
        """The action, counted from the space's start."""
        shaped = action.cpu().numpy().reshape(*action.shape[:-1], *self.space.shape)
        return (shaped + self.space.start).astype(self.space.dtype, copy=False)

    def to_env_tensor(self, action: Tensor) -> Tensor:
        """The action, counted from the space's start."""
        shaped = action.reshape(-1, *self.space.shape)
        return shaped + torch.as_tensor(self.space.start.astype(np.int64))

    def from_env(self, actions: NDArray[Any]) -> Tensor:
        """Counted from 0, one after the other."""
        counted = actions.astype(np.int64) - self.space.start.astype(np.int64)
        return torch.as_tensor(in_a_row(counted, self.space))


class MultiBinaryHead(ActionHead):
    """For MultiBinary: independent bits."""

    space: spaces.MultiBinary

    def __init__(self, space: spaces.MultiBinary, input_size: int) -> None:
        size = int(np.prod(space.shape))
        super().__init__(space, input_size, size)
        self.action_shape = (size,)

    def forward(
        self, features: Tensor, mask: Tensor | None = None, previous: Tensor | None = None
    ) -> Distribution:
        """The distribution."""
        return Bernoulli(self.linear.forward(features))

    def fill_noise(self, drawn: Tensor, generator: torch.Generator) -> Tensor:
        """Uniform in [0, 1)."""
        return drawn.uniform_(generator=generator)

    def to_env(self, action: Tensor) -> NDArray[Any]:
        """The bits."""
        shaped = action.cpu().numpy().reshape(*action.shape[:-1], *self.space.shape)
        return shaped.astype(self.space.dtype)

    def to_env_tensor(self, action: Tensor) -> Tensor:
        """The bits."""
        return action.reshape(-1, *self.space.shape).to(torch.int8)

    def from_env(self, actions: NDArray[Any]) -> Tensor:
        """The bits, one after the other."""
        return torch.as_tensor(in_a_row(actions, self.space).astype(np.float32))
