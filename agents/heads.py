"""Action heads: from features to a distribution over actions, and from there to the environment."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor, nn

from recurrent_rl.agents.distributions import (
    Bernoulli,
    Categorical,
    DiagonalGaussian,
    Distribution,
    MultiCategorical,
)
from recurrent_rl.agents.encoders import orthogonal
from recurrent_rl.agents.errors import UserError
from recurrent_rl.agents.parts import Own, Parts, takes
from recurrent_rl.agents.settings import SettingError
from recurrent_rl.agents.spaces import UnsupportedSpaceError, check_action_space

INITIAL_GAIN = 0.01  # a first policy near uniform (Andrychowicz et al. 2021, 3.2)
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


class ActionHead(nn.Module):
    """A linear layer from features to the parameters of a distribution.

    A head of your own is a subclass made as `MyHead(space, input_size)`, and defines `forward`,
    `fill_noise` and `to_env`; its `__init__` sets `action_shape` where that is not the space's.

    Args:
        space: of one action.
        input_size: features.
        num_parameters: outputs of the layer.

    Attributes:
        action_shape: of an action tensor, without leading dimensions.
        action_dtype: of an action tensor.
        mask_size: entries of an action mask, or None where there are no masks.
    """

    action_dtype: torch.dtype = torch.float32
    mask_size: int | None = None

    def __init__(self, space: gym.Space[Any], input_size: int, num_parameters: int) -> None:
        super().__init__()
        self.space = space
        self.action_shape: tuple[int, ...] = tuple(space.shape or ())
        self.linear = nn.Linear(input_size, num_parameters)
        orthogonal(self.linear, INITIAL_GAIN)

    def noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """What is random in actions of this shape, `[*shape, k]`, drawn on the CPU.

        It depends on the generator alone. A rollout's is drawn at once, `[T, B, k]`; a process that
        steps some of the environments takes their part.
        """
        drawn = torch.empty(*shape, self.linear.out_features)
        return self.fill_noise(drawn, generator).to(self.linear.weight.device)

    def fill_noise(self, drawn: Tensor, generator: torch.Generator) -> Tensor:
        """Fill a tensor `[*shape, num_parameters]` with the noise that `Distribution.sample` takes.

        All that is random in an action comes from here: `sample` draws nothing itself.
        """
        raise NotImplementedError

    def forward(
        self, features: Tensor, mask: Tensor | None = None, previous: Tensor | None = None
    ) -> Distribution:
        """The distribution for features `[..., F]`.

        Args:
            features: `[..., F]`.
            mask: `[..., n]`, where there are masks.
            previous: the action before, `[..., *action_shape]`, for a head in which it persists.
        """
        raise NotImplementedError

    def to_env(self, action: Tensor) -> NDArray[Any]:
        """Action tensors as the environment takes them, in the space's type."""
        raise NotImplementedError

    def to_env_tensor(self, action: Tensor) -> Tensor:
        """`to_env` by tensors alone, for an export: action tensors `[B, *action_shape]`.

        Returns:
            `[B, *space.shape]`, int64 of whole numbers, int8 of bits, float32 of others.

        Raises:
            UserError: the head has none; only exports need it.
        """
        raise UserError(f"{type(self).__name__} has no to_env_tensor(action), which exports need.")

    def from_env(self, actions: NDArray[Any]) -> Tensor:
        """The inverse of `to_env`: actions of the space `[..., *space.shape]` as tensors.

        Raises:
            UserError: the head has none; only imitation needs it.
        """
        raise UserError(f"{type(self).__name__} has no from_env(actions), which imitation needs.")


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
        return torch.as_tensor(_in_a_row(counted, self.space))


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
        return torch.as_tensor(_in_a_row(actions, self.space).astype(np.float32))


class BoxHead(ActionHead):
    """For Box: a Gaussian whose standard deviations are learnt, the same in every state.

    Where an entry is bounded on both sides, -1..1 of the Gaussian spans the bounds and what lies
    outside is clipped, so that the first policy covers the range whatever its scale. Elsewhere
    the Gaussian is the action, clipped to the bound where there is one. The logarithm of the
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
        bounded = np.isfinite(low) & np.isfinite(high)
        self._low, self._high = low, high
        inner_low, inner_high = (np.where(bounded, x, y) for x, y in ((low, -1.0), (high, 1.0)))
        self.range_centre = (inner_low + inner_high) / 2
        self.range_half = (inner_high - inner_low) / 2

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
        # Rounding to the space's type must not step over a bound.
        return np.clip(shaped.astype(self.space.dtype), self.space.low, self.space.high)

    def to_env_tensor(self, action: Tensor) -> Tensor:
        """The action in the environment's units, within its bounds as far as float32 tells."""
        centre, half, low, high = (
            torch.as_tensor(x.astype(np.float32))
            for x in (self.range_centre, self.range_half, self._low, self._high)
        )
        scaled = torch.minimum(torch.maximum(centre + half * action, low), high)
        return scaled.reshape(-1, *self.space.shape)

    def from_env(self, actions: NDArray[Any]) -> Tensor:
        """The action in the Gaussian's units."""
        half = np.where(self.range_half > 0, self.range_half, 1.0)  # bounds that leave one value
        scaled = (_in_a_row(actions, self.space).astype(np.float64) - self.range_centre) / half
        return torch.as_tensor(scaled.astype(np.float32))


def _in_a_row(actions: NDArray[Any], space: gym.Space[Any]) -> NDArray[Any]:
    """Actions `[..., *space.shape]` as `[..., n]`."""
    shape = space.shape or ()
    return actions.reshape(*actions.shape[: actions.ndim - len(shape)], -1)


def _fault(part: type) -> str | None:
    """What a class lacks to be a head."""
    if not issubclass(part, ActionHead):
        return "it is no subclass of recurrent_rl.ActionHead"
    for name in ("forward", "fill_noise", "to_env"):
        if getattr(part, name) is getattr(ActionHead, name):
            return f"it defines no {name}"
    return takes(part, ("space", "input_size"))


HEADS: Parts[ActionHead] = Parts("head", {}, _fault)
"""Action heads that were registered, each made from a space and the number of features. The
library's own go by the action space."""


def register_head(name: str) -> Callable[[Own], Own]:
    """Give an action head of your own a name, by which settings and files know it.

    A decorator of a subclass of `ActionHead`. A class that is not registered can be named as
    `module:Class`.

    Args:
        name: a letter, then letters, digits, dots, dashes and underscores.

    Raises:
        SettingError: the name is none or another class's, or the class lacks the contract.
    """
    return HEADS.register(name)


def make_head(
    space: gym.Space[Any],
    input_size: int,
    persistence: float = 0.0,
    own: Callable[..., ActionHead] | None = None,
) -> ActionHead:
    """The head for an action space.

    Args:
        space: of one action.
        input_size: features.
        persistence: of a continuous action, as in `BoxHead`.
        own: a class of one's own to make it of.

    Raises:
        UnsupportedSpaceError: there is none, or actions are to persist that are not continuous.
        SettingError: actions are to persist of a head of one's own.
    """
    check_action_space(space)
    if own is not None:
        if persistence:
            raise SettingError(
                "action_persistence is of the library's own head for continuous actions; leave it "
                "at 0 with a head of your own."
            )
        return own(space, input_size)
    if persistence and not isinstance(space, spaces.Box):
        raise UnsupportedSpaceError(
            f"action_persistence is for continuous actions, and the action space is {space}."
        )
    if isinstance(space, spaces.Discrete):
        return DiscreteHead(space, input_size)
    if isinstance(space, spaces.MultiDiscrete):
        return MultiDiscreteHead(space, input_size)
    if isinstance(space, spaces.MultiBinary):
        return MultiBinaryHead(space, input_size)
    assert isinstance(space, spaces.Box)
    return BoxHead(space, input_size, persistence)
