"""Generalised advantage estimation that keeps terminations and truncations apart."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from recurrent_rl.agents.moments import Moments, Total

LEVELS = 5
"""How often the distance of lambda from 1 is halved, before 1 itself is tried."""


def gae(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    gamma: float,
    gae_lambda: float | Tensor,
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
        gae_lambda: lambda; 0 is one-step TD, 1 is Monte Carlo. Or several, `[L]`.

    Returns:
        Advantages `[T, B]`; with several lambdas `[T, L, B]`. The value target is `advantages +
        values`.

    Raises:
        ValueError: the shapes differ.
    """
    shapes = {tuple(t.shape) for t in (rewards, values, next_values, terminated, truncated)}
    if len(shapes) != 1 or rewards.dim() != 2:
        raise ValueError(f"gae takes five tensors of one shape [T, B]; got shapes {shapes}.")
    deltas = rewards + gamma * next_values.masked_fill(terminated, 0.0) - values
    decay = gamma * (~(terminated | truncated)).to(deltas.dtype)
    if isinstance(gae_lambda, Tensor):
        decay = decay.unsqueeze(1) * gae_lambda.to(decay).unsqueeze(1)
    else:
        decay *= gae_lambda
    advantages = torch.empty_like(decay)
    following = torch.zeros_like(decay[0])
    for t in reversed(range(len(deltas))):
        following = torch.addcmul(deltas[t], decay[t], following)
        advantages[t] = following
    return advantages


def affordable_lambda(
    estimate: Callable[[Tensor], Tensor],
    valid: Tensor,
    gamma: float,
    gae_lambda: float,
    total: Total = list,
) -> float:
    """The largest lambda whose advantages vary no more than `gae_lambda` is meant to allow.

    An advantage counts the critic's values of the states that follow, errors included, as effects
    of the action; a larger lambda gives them less weight, and mostly has more variance (White and
    White 2016 trade the two state by state). TD errors of an exact critic are uncorrelated, so that
    its advantages would have

        Var(A) = Var(delta) / (1 - (gamma * lambda)^2).

    With `gae_lambda` that is what may be spent. Where the critic's own errors are most of delta,
    those of neighbouring steps cancel in the sum, and a larger lambda is had for the same: once a
    pole stands, say, where every step is worth as much as any other.

    Args:
        estimate: from lambdas `[L]` to advantages `[T, L, B]`, as `gae`.
        valid: bool `[T, B]`, which steps count.
        gamma: discount factor.
        gae_lambda: the least.
        total: adds up the moments of all workers; by default there is one.

    Returns:
        From `gae_lambda` to 1, interpolated between the levels that were tried.
    """
    if gae_lambda == 1:
        return 1.0
    levels = levels_above(gae_lambda)
    tried = torch.tensor([0.0, *levels], dtype=torch.float64, device=valid.device)
    (moments,) = total([Moments.of(estimate(tried).transpose(1, 2)[valid])])
    of_errors, *variances = (float(x) for x in moments.var)
    budget = of_errors / (1 - (gamma * gae_lambda) ** 2)
    if not variances[0] < budget:
        return gae_lambda
    for i, variance in enumerate(variances):
        if variance > budget:
            share = (budget - variances[i - 1]) / (variance - variances[i - 1])
            return levels[i - 1] + share * (levels[i] - levels[i - 1])
    return 1.0


def levels_above(gae_lambda: float) -> list[float]:
    """The lambdas that are tried: this one, then ever nearer to 1, and 1."""
    return [1 - (1 - gae_lambda) * 0.5**i for i in range(LEVELS)] + [1.0]
