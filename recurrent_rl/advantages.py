"""Generalised advantage estimation that keeps terminations and truncations apart."""

from __future__ import annotations

import torch
from torch import Tensor


def gae(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    gamma: float,
    gae_lambda: float,
) -> Tensor:
    """Advantages by exponentially weighted TD errors (Schulman et al. 2016, eq. 16).

        delta_t = r_t + gamma * (1 - terminated_t) * v_t - v_tm1
        A_t     = delta_t + gamma * lambda * (1 - terminated_t) * (1 - truncated_t) * A_{t+1}

    with v_tm1 = `values` and v_t = `next_values`. A termination is worth nothing afterwards; a
    truncation only stops the sum: its last TD error still bootstraps.

    Args:
        rewards: `[T, B]`.
        values: `[T, B]`, V(o_t).
        next_values: `[T, B]`, the value of what followed step t: V(o_{t+1}), and V(final_obs) at a
            truncation. At a termination it is not read.
        terminated: bool `[T, B]`.
        truncated: bool `[T, B]`.
        gamma: discount factor.
        gae_lambda: lambda; 0 is one-step TD, 1 is Monte Carlo.

    Returns:
        Advantages `[T, B]`. The value target is `advantages + values`.

    Raises:
        ValueError: the shapes differ.
    """
    shapes = {tuple(t.shape) for t in (rewards, values, next_values, terminated, truncated)}
    if len(shapes) != 1 or rewards.dim() != 2:
        raise ValueError(f"gae takes five tensors of one shape [T, B]; got shapes {shapes}.")
    deltas = rewards + gamma * next_values.masked_fill(terminated, 0.0) - values
    decay = gamma * gae_lambda * (~(terminated | truncated)).to(deltas.dtype)
    advantages = torch.empty_like(deltas)
    following = torch.zeros_like(deltas[0])
    for t in reversed(range(len(deltas))):
        following = torch.addcmul(deltas[t], decay[t], following)
        advantages[t] = following
    return advantages
