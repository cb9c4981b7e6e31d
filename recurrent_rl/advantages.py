"""Generalised advantage estimation that keeps terminations and truncations apart."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from recurrent_rl.agents.moments import Moments, Total

LEVELS = 5
"""Lambdas that are tried before 1 itself; each is half as far from 1 as the one before."""
TOLERANCE = 0.25
"""By what share of their variance advantages may vary more for the sake of a larger lambda."""


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
    gae_lambda: float,
    total: Total = list,
) -> float:
    """The largest lambda that adds no more than `TOLERANCE` to the variance of the advantages.

    An advantage counts the critic's values of the states that follow, errors included, as effects
    of the action. A larger lambda gives them less weight; in return more chance comes in, and so it
    mostly has more variance (White and White 2016 trade the two state by state). Where the critic's
    own errors are most of the TD errors, those of neighbouring steps cancel in the sum, and a
    larger lambda is had for nothing: once a pole stands, say, where all steps are worth the same.

    Args:
        estimate: from lambdas `[L]` to advantages `[T, L, B]`, as `gae`.
        valid: bool `[T, B]`, which steps count.
        gae_lambda: the least.
        total: adds up the moments of all workers; by default there is one.

    Returns:
        From `gae_lambda` to 1, interpolated between the levels that are tried.
    """
    levels = [1 - (1 - gae_lambda) * 0.5**i for i in range(LEVELS)] + [1.0]
    tried = torch.tensor(levels, dtype=torch.float64, device=valid.device)
    (moments,) = total([Moments.of(estimate(tried).transpose(1, 2)[valid])])
    variances = [float(x) for x in moments.var]
    most = (1 + TOLERANCE) * variances[0]
    if not most > 0:  # nothing to tell them apart, or no number
        return gae_lambda
    for i, variance in enumerate(variances):
        if variance > most:
            share = (most - variances[i - 1]) / (variance - variances[i - 1])
            return levels[i - 1] + share * (levels[i] - levels[i - 1])
    return 1.0
