"""Proximal policy optimisation on sequences (Schulman et al. 2017): the loss and the update."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.memory.states import MemoryState, cat_states, differentiable
from recurrent_rl.agents.normalisers import Moments
from recurrent_rl.config import ResolvedConfig, TrainConfig
from recurrent_rl.errors import UserError
from recurrent_rl.rollout import Rollout, Sequences


class Loss(NamedTuple):
    """The terms of PPO's loss, each a scalar, and what to log beside them."""

    total: Tensor
    policy_gradient: Tensor
    value: Tensor
    entropy: Tensor
    approx_kl: Tensor
    clip_fraction: Tensor
    ratio_error: Tensor  # the largest |ratio - 1|
    rows: Tensor  # how many steps the means are over


def policy_gradient_loss(ratio: Tensor, advantages: Tensor, clip_coef: float) -> Tensor:
    """PPO's clipped surrogate, negated, per step (Schulman et al. 2017, eq. 7).

    -min(ratio_t A_t, clip(ratio_t, 1 - eps, 1 + eps) A_t); all arguments of one shape.
    """
    clipped = ratio.clamp(1 - clip_coef, 1 + clip_coef)
    return -torch.minimum(ratio * advantages, clipped * advantages)


def value_loss(
    values: Tensor, returns: Tensor, old_values: Tensor, scale: Tensor, clip: float | None
) -> Tensor:
    """Half the squared error per step in units of `scale`, the returns' standard deviation.

    With `clip`, the value may move by that many standard deviations from `old_values`, and the
    larger of both errors counts (as in OpenAI's baselines).
    """
    error = ((values - returns) / scale).square()
    if clip is not None:
        moved = old_values + (values - old_values).clamp(-clip * scale, clip * scale)
        error = torch.maximum(error, ((moved - returns) / scale).square())
    return 0.5 * error


def ppo_loss(agent: ActorCritic, batch: Sequences, config: TrainConfig) -> tuple[Loss, MemoryState]:
    """PPO's loss on whole chunks, unrolled from their stored states.

    Rows that an autoreset inserted have no weight; where there are no others, all terms are zero.

    Returns:
        The loss, and the memory's state after each chunk's last step.
    """
    output, end_state = agent.unroll(
        batch.components, batch.state, batch.episode_start, batch.action_mask
    )
    weight = batch.valid.to(output.value.dtype)
    rows = weight.sum()
    weight = weight / rows.clamp(min=1)

    def mean(x: Tensor) -> Tensor:
        return (x * weight).sum()

    log_ratio = output.distribution.log_prob(batch.actions) - batch.log_probs
    ratio = log_ratio.exp()

    policy = mean(policy_gradient_loss(ratio, batch.advantages, config.clip_coef))
    scale = agent.return_normaliser.std.to(output.value.dtype)
    value = mean(value_loss(output.value, batch.returns, batch.values, scale, config.clip_value))
    entropy = mean(output.distribution.entropy())
    total = policy + config.vf_coef * value - config.ent_coef * entropy
    with torch.no_grad():
        # The KL estimator of low variance, http://joschu.net/blog/kl-approx.html: (r - 1) - log r.
        approx_kl = mean(ratio - 1 - log_ratio)
        clip_fraction = mean(((ratio - 1).abs() > config.clip_coef).to(weight.dtype))
        ratio_error = (ratio - 1).abs().masked_fill(~batch.valid, 0.0).amax()
    terms = (total, policy, value, entropy, approx_kl, clip_fraction, ratio_error)
    return Loss(*terms, rows), end_state


def update(
    agent: ActorCritic,
    optimizer: Optimizer,
    rollout: Rollout,
    advantages: Tensor,
    returns: Tensor,
    config: ResolvedConfig,
    generator: torch.Generator,
) -> dict[str, float]:
    """One PPO update: `update_epochs` passes over the rollout in minibatches of whole chunks.

    A minibatch that holds nothing but rows inserted by an autoreset moves nothing.

    Args:
        agent: changed in place.
        optimizer: of the agent's parameters.
        rollout: the steps to learn from.
        advantages: `[T, B]`, scaled.
        returns: `[T, B]`, what the critic is to predict.
        config: the settings.
        generator: shuffles the chunks.

    Returns:
        Scalars under their TensorBoard tags.

    Raises:
        UserError: the loss or its gradient is not finite. The agent is spoilt then.
    """
    data = rollout.sequences(advantages, returns)
    all_valid = bool(data.valid.all())
    losses: list[Loss] = []
    gradient_norms: list[Tensor] = []
    drift = torch.zeros(())
    epoch = 0
    for epoch in range(1, config.update_epochs + 1):
        if config.refresh_state and epoch > 1:
            data = data._replace(state=refreshed_state(agent, rollout))
        before = len(losses)
        for chunks in shuffled_chunks(config, generator).to(agent.device):
            batch = data.select(chunks)
            if not (all_valid or batch.valid.any()):
                continue
            loss, end_state = ppo_loss(agent, batch, config)
            optimizer.zero_grad(set_to_none=True)
            loss.total.backward()
            gradient_norms.append(
                torch.nn.utils.clip_grad_norm_(agent.parameters(), config.max_grad_norm)
            )
            optimizer.step()
            losses.append(Loss(*(x.detach() for x in loss)))
            drift = state_drift(end_state, batch.end_state)
        if len(losses) == before:
            return {}
        check_finite("loss", torch.stack([x.total for x in losses[before:]]))
        check_finite("gradient's norm", torch.stack(gradient_norms[before:]))
        if config.target_kl is not None and merged(losses[before:]).approx_kl > config.target_kl:
            break

    means = merged(losses)
    return {
        "train/loss": float(means.total),
        "train/policy_gradient_loss": float(means.policy_gradient),
        "train/value_loss": float(means.value),
        "train/entropy_loss": -float(means.entropy),
        "train/approx_kl": float(means.approx_kl),
        "train/clip_fraction": float(means.clip_fraction),
        "train/explained_variance": explained_variance(
            rollout.values[:-1][rollout.valid[:-1]], returns[rollout.valid[:-1]]
        ),
        "train/gradient_norm": float(torch.stack(gradient_norms).mean()),
        "train/epochs": float(epoch),
        # Before the first step of the optimiser the ratio is 1, but for rounding.
        "memory/first_ratio_error": float(losses[0].ratio_error),
        "memory/state_drift": float(drift),
    }


def shuffled_chunks(config: ResolvedConfig, generator: torch.Generator) -> Tensor:
    """The chunks of each minibatch for one epoch, `[num_minibatches, C / num_minibatches]`.

    Each minibatch takes its share from each block of neighbouring environments, at random within
    the block. Blocks are the smallest that have such a share; a process that steps some whole
    blocks has its part of every minibatch.
    """
    minibatches, environments = config.num_minibatches, config.num_envs
    times = config.num_chunks // environments  # chunks of one environment
    size = next(
        n
        for n in range(1, environments + 1)
        if environments % n == 0 and n * times % minibatches == 0
    )
    # Chunk k of environment b is column k * B + b: [blocks, times * size].
    columns = torch.arange(config.num_chunks).view(times, environments // size, size)
    blocks = columns.transpose(0, 1).flatten(1)
    order = torch.rand(blocks.shape, generator=generator).argsort(dim=1)
    shares: Tensor = blocks.gather(1, order).unflatten(1, (minibatches, -1))
    return shares.transpose(0, 1).flatten(1)


def merged(losses: Sequence[Loss]) -> Loss:
    """The mean of each term over all rows of these minibatches, in float64."""
    columns = [torch.stack(column).to(torch.float64) for column in zip(*losses, strict=True)]
    rows = columns[-1]
    means = [(column * rows).sum() / rows.sum() for column in columns]
    return Loss(*means)._replace(rows=rows.sum())


def check_finite(what: str, x: Tensor) -> None:
    """Refuse a quantity that is not finite everywhere.

    Raises:
        UserError: names it, and the settings to try.
    """
    if not (finite := torch.isfinite(x)).all():
        raise UserError(
            f"The {what} became {float(x[~finite].flatten()[0].detach())}. Try a lower "
            "learning_rate, fewer update_epochs or a smaller max_grad_norm; keep "
            "normalize_observations and normalize_returns on; with precision bfloat16 try float32."
        )


@torch.no_grad()
def refreshed_state(agent: ActorCritic, rollout: Rollout) -> MemoryState:
    """The state before each chunk as the agent's weights of now make it, `[layers, C, hidden]`.

    The rollout is unrolled once more from the state before its first row, which stays as it was
    stored: what led to it is no longer there.
    """
    states = [rollout.chunk_states[0]]
    length = rollout.chunk_length
    for start in range(0, rollout.num_steps - length, length):
        rows = slice(start, start + length)
        _, state = agent.unroll(
            {path: x[rows] for path, x in rollout.components.items()},
            states[-1],
            rollout.episode_start[rows],
        )
        states.append(state)
    return cat_states(states)


@torch.no_grad()
def state_drift(new: MemoryState, old: MemoryState) -> Tensor:
    """How far an update moved the states that the memory reaches: |new - old| / |old|, a scalar."""
    pairs = list(zip(differentiable(new), differentiable(old), strict=True))
    if not pairs:
        return torch.zeros(())
    difference = sum((a - b).abs().square().sum() for a, b in pairs)
    size = sum(b.abs().square().sum() for _, b in pairs)
    return torch.sqrt(torch.as_tensor(difference / (size + 1e-12)))


def explained_variance(values: Tensor, returns: Tensor) -> float:
    """1 - Var[returns - values] / Var[returns]: 1 is a perfect critic, 0 no better than a constant.

    NaN where the returns do not vary.
    """
    variance = float(Moments.of(returns.flatten()).var)
    if not variance > 0:
        return float("nan")
    error = Moments.of(returns.to(torch.float64).flatten() - values.to(torch.float64).flatten())
    return 1 - float(error.var) / variance
