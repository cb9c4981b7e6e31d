"""Proximal policy optimisation on sequences (Schulman et al. 2017): the loss and the update."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.files import NonFiniteError
from recurrent_rl.agents.memory.states import MemoryState, cat_states, differentiable
from recurrent_rl.agents.moments import Moments
from recurrent_rl.auxiliary import AuxiliaryLoss, aux_losses_of
from recurrent_rl.blocks import shuffled_chunks
from recurrent_rl.config import ResolvedConfig, TrainConfig
from recurrent_rl.group import ALONE, Group
from recurrent_rl.learner import Learner
from recurrent_rl.rollout import Rollout
from recurrent_rl.sequences import Sequences

Sums = dict[str, Tensor]
"""What is logged of a loss, by its name under train/, as sums over rows: scalars of float64, which
add up over minibatches, passes and workers."""


class Loss(NamedTuple):
    """PPO's loss on a minibatch, or one worker's part of it, and what to log of it."""

    total: Tensor
    """A mean over the rows of the whole minibatch: over all workers their shares add up."""
    sums: Sums
    """Over the rows of this part."""
    ratio_error: Tensor
    """The largest |ratio - 1|."""


def policy_gradient_loss(ratio: Tensor, advantages: Tensor, clip_coef: float) -> Tensor:
    """PPO's clipped surrogate, negated, per step (Schulman et al. 2017, eq. 7).

    -min(ratio_t A_t, clip(ratio_t, 1 - eps, 1 + eps) A_t); all arguments of one shape.
    """
    clipped = ratio.clamp(1 - clip_coef, 1 + clip_coef)
    return -torch.minimum(ratio * advantages, clipped * advantages)


def value_loss(
    values: Tensor, returns: Tensor, old_values: Tensor, scale: Tensor, clip: float | None
) -> Tensor:
    """Half the squared error per step in units of `scale`.

    That is the returns' standard deviation, or 1 without `normalize_returns`. With `clip`, the
    value may move by that many such units from `old_values`, and the larger of both errors counts
    (as in OpenAI's baselines).
    """
    error = ((values - returns) / scale).square()
    if clip is not None:
        moved = old_values + (values - old_values).clamp(-clip * scale, clip * scale)
        error = torch.maximum(error, ((moved - returns) / scale).square())
    return 0.5 * error


def ppo_loss(
    agent: ActorCritic,
    batch: Sequences,
    config: TrainConfig,
    rows: int | None = None,
    auxiliary: AuxiliaryLoss | None = None,
) -> tuple[Loss, MemoryState]:
    """PPO's loss on whole chunks, unrolled from their stored states.

    Rows that an autoreset inserted have no weight; where there are no others, all terms are zero.

    Args:
        agent: unrolled.
        batch: the chunks.
        config: the settings.
        rows: of the whole minibatch that this is a part of, inserted ones not counted; None: the
            chunks are all of it.
        auxiliary: what the memory is taught beside; None: nothing.

    Returns:
        The loss, and the memory's state after each chunk's last step.
    """
    output, end_state = agent.unroll(
        batch.components, batch.state, batch.episode_start, batch.action_mask
    )
    weight = batch.valid.to(output.value.dtype)
    counted = weight.sum() if rows is None else weight.new_tensor(float(rows))
    weight = weight / counted.clamp(min=1)

    def mean(x: Tensor) -> Tensor:
        return (x * weight).sum()

    log_ratio = output.distribution.log_prob(batch.actions) - batch.log_probs
    ratio = log_ratio.exp()

    policy = mean(policy_gradient_loss(ratio, batch.advantages, config.clip_coef))
    scale = agent.return_normaliser.std.to(output.value.dtype)
    clip = agent.return_normaliser.value_clip(config.clip_value)
    value = mean(value_loss(output.value, batch.returns, batch.values, scale, clip))
    entropy = mean(output.distribution.entropy())
    total = policy + config.vf_coef * value - config.ent_coef * entropy
    means = {"policy_gradient_loss": policy, "value_loss": value, "entropy_loss": -entropy}
    if auxiliary is not None:
        means["aux_loss"] = mean(aux_losses_of(auxiliary, agent, output.features, batch))
        total = total + config.aux_coef * means["aux_loss"]
    means["loss"] = total
    with torch.no_grad():
        # The KL estimator of low variance, http://joschu.net/blog/kl-approx.html: (r - 1) - log r.
        means["approx_kl"] = mean(ratio - 1 - log_ratio)
        means["clip_fraction"] = mean(((ratio - 1).abs() > config.clip_coef).to(weight.dtype))
        sums = {name: x.double() * counted for name, x in means.items()}
        ratio_error = (ratio - 1).abs().masked_fill(~batch.valid, 0.0).amax()
    return Loss(total, sums, ratio_error), end_state


def update(
    learner: Learner,
    rollout: Rollout,
    advantages: Tensor,
    returns: Tensor,
    config: ResolvedConfig,
    generator: torch.Generator,
) -> dict[str, float]:
    """One PPO update: `update_epochs` passes over the rollout in minibatches of whole chunks.

    A minibatch that holds nothing but rows inserted by an autoreset moves nothing. Of several
    workers each goes through its own part of every minibatch; their gradients add up.

    Args:
        learner: changed in place.
        rollout: the steps to learn from, of this worker.
        advantages: `[T, B]`, scaled.
        returns: `[T, B]`, what the critic is to predict.
        config: the settings.
        generator: shuffles the chunks.

    Returns:
        Scalars under their TensorBoard tags, over all workers.

    Raises:
        NonFiniteError: the loss or its gradient is not finite. The agent is spoilt then.
    """
    data = rollout.sequences(advantages, returns)
    rows = rows_of_chunks(learner, data.valid, config)
    num_rows = int(rows.sum())
    if not num_rows:
        return {}
    steps: list[MinibatchStep] = []
    epochs: list[Sums] = []
    for epoch in range(config.update_epochs):
        if config.refresh_state and epoch > 0:
            data = data._replace(state=refreshed_state(learner.agent, rollout))
        taken, sums = one_epoch(learner, data, rows, config, generator)
        steps += taken
        epochs.append(sums)
        if config.target_kl is not None and sums["approx_kl"] / num_rows > config.target_kl:
            break
    drift = steps[-1].drift
    learner.group.add_up([drift])
    valid = rollout.valid[:-1]
    explained = explained_variance(rollout.values[:-1][valid], returns[valid], learner.group)
    all_rows = len(epochs) * num_rows
    return {
        **{f"train/{name}": float(x) / all_rows for name, x in added(epochs).items()},
        # Of the last pass, as Stable-Baselines3 logs it.
        "train/approx_kl": float(epochs[-1]["approx_kl"]) / num_rows,
        "train/gradient_norm": float(torch.stack([x.gradient_norm for x in steps]).mean()),
        "train/epochs": float(len(epochs)),
        "train/explained_variance": explained,
        # Of the first minibatch: before the optimiser's first step it is 0, but for rounding.
        "memory/first_ratio_error": float(learner.group.largest(steps[0].ratio_error)),
        # Of the last minibatch, before the step that was taken on it: |new - old| / |old|.
        "memory/state_drift": float(torch.sqrt(drift[0] / (drift[1] + 1e-12))),
    }


class MinibatchStep(NamedTuple):
    """One step of the optimiser, on one minibatch, of which this worker had its part."""

    sums: Sums
    """As in `Loss`."""
    ratio_error: Tensor
    """As in `Loss`."""
    gradient_norm: Tensor
    """Before it is clipped."""
    drift: Tensor
    """How far the states at the ends of its chunks, as the weights before this step make them, are
    from those that the rollout stored there; as `state_drift`."""


def one_epoch(
    learner: Learner,
    data: Sequences,
    rows: Tensor,
    config: ResolvedConfig,
    generator: torch.Generator,
) -> tuple[list[MinibatchStep], Sums]:
    """A pass over all chunks in shuffled minibatches: its steps, and the sums of all workers.

    The arguments are those of `update`; `data` are this worker's chunks, and `rows` how many rows
    each chunk of all workers has, `[C]`.

    Raises:
        NonFiniteError: the loss or its gradient is not finite.
    """
    steps = []
    for chunks in shuffled_chunks(config, generator):
        if in_all := int(rows[chunks].sum()):
            batch = data.select(learner.block.own(chunks).to(learner.agent.device))
            steps.append(minibatch_step(learner, batch, config, in_all))
    sums = added([step.sums for step in steps])
    learner.group.add_up(sums.values())
    if "aux_loss" in sums:
        check_finite("auxiliary loss", sums["aux_loss"])
    check_finite("loss", sums["loss"])
    check_finite("gradient's norm", torch.stack([step.gradient_norm for step in steps]))
    return steps, sums


def minibatch_step(
    learner: Learner, batch: Sequences, config: TrainConfig, rows: int
) -> MinibatchStep:
    """Move the weights along the gradient of PPO's loss on one minibatch.

    Args:
        learner: changed in place.
        batch: this worker's part of the minibatch.
        config: the settings.
        rows: of the whole minibatch, as in `ppo_loss`.
    """
    loss, end_state = ppo_loss(learner.agent, batch, config, rows, learner.auxiliary)
    norm = descend(learner.optimizer, loss.total, config.max_grad_norm, learner.group)
    drift = state_drift(end_state, batch.end_state)
    return MinibatchStep(loss.sums, loss.ratio_error, norm, drift)


def descend(
    optimizer: Optimizer, loss: Tensor, max_grad_norm: float, group: Group = ALONE
) -> Tensor:
    """One step of the optimiser along the clipped gradient of a loss.

    Args:
        optimizer: of the parameters, which are spoilt where the gradient is not finite.
        loss: a scalar.
        max_grad_norm: a longer gradient is scaled down to it.
        group: the workers, whose gradients add up.

    Returns:
        The gradient's norm before it is clipped, for `check_finite`.
    """
    parameters = [p for part in optimizer.param_groups for p in part["params"]]
    parameters = [p for p in parameters if p.requires_grad]
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    for p in parameters:
        if p.grad is None:  # not used here, and perhaps by another worker
            p.grad = torch.zeros_like(p)
    group.add_up(p.grad for p in parameters)
    norm = torch.nn.utils.clip_grad_norm_(parameters, max_grad_norm)
    optimizer.step()
    return norm


def rows_of_chunks(learner: Learner, valid: Tensor, config: ResolvedConfig) -> Tensor:
    """How many rows each chunk of all workers has, those an autoreset inserted not counted, `[C]`.

    `valid` is bool `[L, C of this worker]`.
    """
    rows = torch.zeros(config.num_chunks, dtype=torch.int64)
    of_environments = rows.view(-1, config.num_envs)[:, learner.block.rows]
    of_environments.copy_(valid.sum(dim=0).view(of_environments.shape))
    learner.group.add_up([rows])
    return rows


def added(parts: Sequence[Sums]) -> Sums:
    """The sums over the rows of all these parts."""
    return {name: torch.stack([part[name] for part in parts]).sum() for name in parts[0]}


def check_finite(what: str, x: Tensor) -> None:
    """Refuse a quantity that is not finite everywhere.

    Raises:
        NonFiniteError: names it, and the settings to try.
    """
    if not (finite := torch.isfinite(x)).all():
        raise NonFiniteError(
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
    """How far two states of a memory are apart: |new - old|² and |old|², `[2]`."""
    pairs = list(zip(differentiable(new), differentiable(old), strict=True))
    if not pairs:
        return torch.zeros(2)
    difference = sum((a - b).abs().square().sum() for a, b in pairs)
    size = sum(b.abs().square().sum() for _, b in pairs)
    return torch.stack([torch.as_tensor(difference), torch.as_tensor(size)])


def explained_variance(values: Tensor, returns: Tensor, group: Group = ALONE) -> float:
    """1 - Var[returns - values] / Var[returns]: 1 is a perfect critic, 0 no better than a constant.

    Over the values and returns of all workers. NaN where the returns do not vary.
    """
    errors = returns.to(torch.float64).flatten() - values.to(torch.float64).flatten()
    of_returns, of_errors = group.total([Moments.of(returns.flatten()), Moments.of(errors)])
    variance = float(of_returns.var)
    return 1 - float(of_errors.var) / variance if variance > 0 else float("nan")
