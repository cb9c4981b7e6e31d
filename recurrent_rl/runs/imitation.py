"""Behaviour cloning: a policy learns to act as recorded episodes do, with its memory."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import torch
from torch import Tensor

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.arguments import argument, check_is
from recurrent_rl.agents.moments import Moments
from recurrent_rl.agents.policy import Policy
from recurrent_rl.agents.settings import above, at_least, between
from recurrent_rl.optimizer import Adam
from recurrent_rl.ppo import check_finite, descend, value_loss
from recurrent_rl.process import computing, keeping_freed_memory
from recurrent_rl.runs.progress import ProgressBar
from recurrent_rl.runs.recorded import Batch, recorded_episodes, side_by_side

MAX_GRAD_NORM = 0.5


class Imitation(NamedTuple):
    """What came of it, by epoch."""

    log_likelihood: list[float]
    """Mean logarithm of the probability (of the density, for continuous actions) of the recorded
    actions."""
    agreement: list[float]
    """Share of the steps at which the deterministic action is the recorded one."""


def imitate(
    policy: Policy,
    episodes: Any,
    *,
    epochs: int = 50,
    learning_rate: float = 1e-3,
    num_minibatches: int = 4,
    gamma: float = 0.99,
    vf_coef: float = 0.5,
    seed: int = 0,
    progress: bool = True,
) -> Imitation:
    """Have a policy learn to act as recorded episodes do (behaviour cloning, Pomerleau 1991).

    Each minibatch holds whole episodes, which are unrolled from their first step: the memory learns
    what it must keep. Maximised is the mean log-likelihood of the actions. Where all episodes hold
    their rewards the critic learns their discounted returns, as it would in PPO; a recorded episode
    counts as ended where it ends.

    Args:
        policy: changed in place. `recurrent_rl.Trainer(config).policy()` is an untrained one.
        episodes: a list of `RecordedEpisode`, or a Minari dataset.
        epochs: passes over the episodes.
        learning_rate: of Adam; it falls to zero.
        num_minibatches: steps of the optimiser in an epoch, at most as many as there are columns of
            episodes.
        gamma: discount of the critic's returns.
        vf_coef: weight of the critic's loss.
        seed: of the order of the minibatches.
        progress: show a progress bar.

    Returns:
        How likely the recorded actions are, and how often it would do the same, by epoch.

    Raises:
        UserError: an argument is of another type, or an episode does not fit the policy's spaces;
            says which episode.
        NonFiniteError: the loss or its gradient is not finite. The policy is spoilt then.
    """
    check_is("policy", policy, Policy, "a Policy, as load_policy(path) gives")
    epochs = argument("epochs", epochs, Annotated[int, at_least(1)])
    learning_rate = argument("learning_rate", learning_rate, Annotated[float, above(0)])
    number = argument("num_minibatches", num_minibatches, Annotated[int, at_least(1)])
    gamma = argument("gamma", gamma, Annotated[float, between(0, 1)])
    vf_coef = argument("vf_coef", vf_coef, Annotated[float, at_least(0)])
    generator = torch.Generator().manual_seed(argument("seed", seed, Annotated[int, at_least(0)]))
    progress = argument("progress", progress, bool)
    agent = policy.agent
    found = Imitation([], [])
    with computing(), keeping_freed_memory():
        batch = side_by_side(agent, [*recorded_episodes(episodes)], gamma)
        policy.summary.pop("command", None)  # which would not make this policy
        _normalise(agent, batch)
        optimizer = Adam(agent.parameters(), lr=learning_rate, eps=1e-5)
        columns = batch.valid.shape[1]
        with ProgressBar("Imitating", epochs, "epochs", visible=progress) as bar:
            for epoch in range(epochs):
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate * (1 - epoch / epochs)
                order = torch.randperm(columns, generator=generator)
                sums = torch.zeros(3, dtype=torch.float64)
                for chosen in order.tensor_split(min(number, columns)):
                    part = batch.select(chosen.to(agent.device))
                    sums += _learn(agent, optimizer, part, vf_coef)
                likelihood, agreement = (sums[:2] / sums[2]).tolist()
                found.log_likelihood.append(likelihood)
                found.agreement.append(agreement)
                bar.update(epoch + 1, {"agreement": f"{agreement:.3f}"})
    return found


def _learn(
    agent: ActorCritic, optimizer: torch.optim.Optimizer, batch: Batch, vf_coef: float
) -> Tensor:
    """One step of the optimiser; summed over the steps log-likelihood, agreement and one, `[3]`.

    Raises:
        NonFiniteError: the loss or its gradient is not finite.
    """
    state = agent.initial_state(batch.valid.shape[1])
    output, _ = agent.unroll(batch.components, state, batch.episode_start, batch.action_mask)
    weight = batch.valid.to(output.value.dtype)
    count = weight.sum()
    log_prob = output.distribution.log_prob(batch.actions)
    loss = -(log_prob * weight).sum() / count
    if batch.returns is not None:
        scale = agent.return_normaliser.std.to(output.value.dtype)
        error = value_loss(output.value, batch.returns, output.value.detach(), scale, None)
        loss = loss + vf_coef * (error * weight).sum() / count
    check_finite("loss of imitation", loss)
    norm = descend(optimizer, loss, MAX_GRAD_NORM)
    check_finite("gradient's norm", norm)
    with torch.no_grad():
        same = torch.isclose(
            output.distribution.mode().to(torch.float64), batch.actions.to(torch.float64), atol=1e-3
        )
        same = same.flatten(2).all(-1) if same.ndim > 2 else same
        sums = [(log_prob * weight).sum(), (same * weight).sum(), count]
        return torch.stack(sums).to("cpu", torch.float64)


@torch.no_grad()
def _normalise(agent: ActorCritic, batch: Batch) -> None:
    """Take in the statistics of what was seen and of the returns, as after a rollout."""
    if agent.config.normalize_observations:
        agent.take_in(batch.components, batch.valid, batch.episode_start)
    if agent.config.normalize_returns and batch.returns is not None:
        moments = Moments.of(batch.returns[batch.valid])
        agent.return_normaliser.update(moments, agent.critic)
