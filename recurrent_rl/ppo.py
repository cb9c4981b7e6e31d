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


class Loss(NamedTuple):
    """The terms of PPO's loss, each a scalar, and what to log beside them.

    All but the last two are means over the rows of a minibatch or, of one worker's part of it, that
    part's share in them: over all workers they add up.
    """

    total: Tensor
    policy_gradient: Tensor
    value: Tensor
    entropy: Tensor
    auxiliary: Tensor
    approx_kl: Tensor
    clip_fraction: Tensor
    rows: Tensor  # how many steps the means are over
    ratio_error: Tensor  # the largest |ratio - 1|


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
    value = mean(value_loss(output.value, batch.returns, batch.values, scale, config.clip_value))
    entropy = mean(output.distribution.entropy())
    total = policy + config.vf_coef * value - config.ent_coef * entropy
    aux = torch.zeros_like(total)
    if auxiliary is not None:
        aux = mean(aux_losses_of(auxiliary, agent, output.features, batch))
        total = total + config.aux_coef * aux
    with torch.no_grad():
        # The KL estimator of low variance, http://joschu.net/blog/kl-approx.html: (r - 1) - log r.
        approx_kl = mean(ratio - 1 - log_ratio)
        clip_fraction = mean(((ratio - 1).abs() > config.clip_coef).to(weight.dtype))
        ratio_error = (ratio - 1).abs().masked_fill(~batch.valid, 0.0).amax()
    terms = (total, policy, value, entropy, aux.detach(), approx_kl, clip_fraction)
    return Loss(*terms, counted, ratio_error), end_state


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
    steps: list[Step] = []
    epoch = 0
    for epoch in range(1, config.update_epochs + 1):
        if config.refresh_state and epoch > 1:
            data = data._replace(state=refreshed_state(learner.agent, rollout))
        latest = one_epoch(learner, data, rows, config, generator)
        if not latest:
            return {}
        steps += latest
        approx_kl = merged([step.loss for step in latest]).approx_kl
        if config.target_kl is not None and approx_kl > config.target_kl:
            break
    valid = rollout.valid[:-1]
    explained = explained_variance(rollout.values[:-1][valid], returns[valid], learner.group)
    return scalars_of(learner, steps, epoch) | {
        "train/approx_kl": float(approx_kl),  # of the last pass, as Stable-Baselines3 logs it
        "train/explained_variance": explained,
    }


class Step(NamedTuple):
    """One step of the optimiser, on one minibatch."""

    loss: Loss
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
) -> list[Step]:
    """A pass over all chunks in shuffled minibatches; the losses are those of all workers.

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
    if not steps:
        return []
    losses = of_all_workers([step.loss for step in steps], learner.group)
    check_finite("auxiliary loss", torch.stack([x.auxiliary for x in losses]))
    check_finite("loss", torch.stack([x.total for x in losses]))
    check_finite("gradient's norm", torch.stack([step.gradient_norm for step in steps]))
    return [step._replace(loss=of_all) for step, of_all in zip(steps, losses, strict=True)]


def minibatch_step(learner: Learner, batch: Sequences, config: TrainConfig, rows: int) -> Step:
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
    return Step(Loss(*(x.detach() for x in loss)), norm, drift)


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


def scalars_of(learner: Learner, steps: Sequence[Step], epochs: int) -> dict[str, float]:
    """What to log of an update's steps, under TensorBoard tags."""
    means, group = merged([step.loss for step in steps]), learner.group
    drift = steps[-1].drift
    group.add_up([drift])
    scalars = {
        "train/loss": float(means.total),
        "train/policy_gradient_loss": float(means.policy_gradient),
        "train/value_loss": float(means.value),
        "train/entropy_loss": -float(means.entropy),
        "train/clip_fraction": float(means.clip_fraction),
        "train/gradient_norm": float(torch.stack([x.gradient_norm for x in steps]).mean()),
        "train/epochs": float(epochs),
        # Of the first minibatch: before the optimiser's first step it is 0, but for rounding.
        "memory/first_ratio_error": float(group.largest(steps[0].loss.ratio_error)),
        # Of the last minibatch, before the step that was taken on it: |new - old| / |old|.
        "memory/state_drift": float(torch.sqrt(drift[0] / (drift[1] + 1e-12))),
    }
    if learner.auxiliary is not None:
        scalars["train/aux_loss"] = float(means.auxiliary)
    return scalars


def rows_of_chunks(learner: Learner, valid: Tensor, config: ResolvedConfig) -> Tensor:
    """How many rows each chunk of all workers has, those an autoreset inserted not counted, `[C]`.

    `valid` is bool `[L, C of this worker]`.
    """
    rows = torch.zeros(config.num_chunks, dtype=torch.int64)
    of_environments = rows.view(-1, config.num_envs)[:, learner.block.rows]
    of_environments.copy_(valid.sum(dim=0).view(of_environments.shape))
    learner.group.add_up([rows])
    return rows


def of_all_workers(losses: Sequence[Loss], group: Group) -> list[Loss]:
    """The losses of these minibatches from those of each worker's part of them."""
    if group.alone:
        return list(losses)
    shares = len(Loss._fields) - 2
    parts = torch.stack([torch.stack(loss[:shares]) for loss in losses])
    group.add_up([parts])
    return [
        Loss._make([*of_all.unbind(), own.rows, own.ratio_error])
        for of_all, own in zip(parts.unbind(), losses, strict=True)
    ]


def merged(losses: Sequence[Loss]) -> Loss:
    """The mean of each term over all rows of these minibatches, in float64."""
    columns = [torch.stack(column).to(torch.float64) for column in zip(*losses, strict=True)]
    rows = columns[Loss._fields.index("rows")]
    means = [(column * rows).sum() / rows.sum() for column in columns]
    return Loss(*means)._replace(rows=rows.sum())


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
