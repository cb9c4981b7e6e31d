"""What an action head gives: a distribution, its noise, and the way to the environment and back."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recurrent_rl.agents.distributions import Distribution
from recurrent_rl.agents.errors import UserError
from recurrent_rl.agents.layers import orthogonal

INITIAL_GAIN = 0.01  # a first policy near uniform (Andrychowicz et al. 2021, 3.2)


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
        size = (*shape, self.linear.out_features)
        drawn = torch.empty(size, dtype=torch.float32, device="cpu")
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


def in_a_row(actions: NDArray[Any], space: gym.Space[Any]) -> NDArray[Any]:
    """Actions `[..., *space.shape]` as `[..., n]`."""
    shape = space.shape or ()
    return actions.reshape(*actions.shape[: actions.ndim - len(shape)], -1)
