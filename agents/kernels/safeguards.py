"""What the kernels refuse, and how they see that a slower way is needed."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from recurrent_rl.agents.errors import UserError


class MemoryInputError(UserError):
    """Something that a memory cannot compute with: a wrong shape, type or device."""


class SecondDerivativeError(UserError):
    """A kernel with first derivatives only was asked for a second one."""


def once_differentiable(backward: Callable[..., Any]) -> Callable[..., Any]:
    """For the backward pass of a kernel that has no second derivative: it raises.

    Torch's decorator of this name raises only where an incoming gradient needs a gradient itself.
    That of a plain sum does not, and the second derivative was silently taken for zero.

    Raises:
        SecondDerivativeError: in a backward pass with `create_graph=True`.
    """

    @wraps(backward)
    def checked(ctx: Any, *gradients: Any) -> Any:
        if torch.is_grad_enabled():
            raise SecondDerivativeError(
                "This kernel computes first derivatives only, and create_graph=True asks for more. "
                "Set RECURRENT_RL_KERNEL=loop in the environment: the loop has all derivatives."
            )
        return backward(ctx, *gradients)

    return checked


def all_finite(*tensors: Tensor | None) -> bool:
    """Whether there is no NaN and no infinity; false also where a sum overflows."""
    return all(bool(x.sum().isfinite()) for x in tensors if x is not None)
