"""Behaviour cloning: a policy learns to act as recorded episodes do, with its memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recurrent_rl.agents.action_masks import ActionMaskError, flat_mask
from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.arguments import argument, check_is
from recurrent_rl.agents.moments import Moments
from recurrent_rl.agents.policy import Policy
from recurrent_rl.agents.settings import above, at_least, between
from recurrent_rl.agents.spaces import Components, ObservationError, stack_observations
from recurrent_rl.errors import UserError
from recurrent_rl.ppo import check_finite, value_loss
from recurrent_rl.process import computing, keeping_freed_memory
from recurrent_rl.runs.progress import ProgressBar

MAX_GRAD_NORM = 0.5


@dataclass(frozen=True)
class RecordedEpisode:
    """What was seen and done in one episode of `T` steps, from its first observation on."""

    observations: Any
    """`T` observations of the space, or one more: a list, or stacked arrays `[T, ...]` in the
    space's nesting."""
    actions: Any
    """`T` actions of the space, each the answer to the observation of its place."""
    rewards: Any = None
    """`T` rewards, each of the action of its place; None where they are not known."""
    action_masks: Any = None
    """`T` action masks; None where there were none."""


class Imitation(NamedTuple):
    """What came of it, by epoch."""

    log_likelihood: list[float]
    """Mean logarithm of the probability (of the density, for continuous actions) of the recorded
    actions."""
    agreement: list[float]
    """Share of the steps at which the deterministic action is the recorded one."""


class _Batch(NamedTuple):
    """Episodes side by side and one after the other, `[T, C, ...]`; no episode is cut."""

    components: Components
    actions: Tensor
    returns: Tensor | None
    episode_start: Tensor
    valid: Tensor
    action_mask: Tensor | None

    def select(self, columns: Tensor) -> _Batch:
        """These columns."""
        rest = (None if x is None else x[:, columns] for x in self[1:])
        return _Batch({path: x[:, columns] for path, x in self.components.items()}, *rest)  # type: ignore[arg-type]


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
    what it must keep. Maximised is the mean log-likelihood of the actions. Where all episodes tell
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
        batch = _side_by_side(agent, [*_recorded(episodes)], gamma)
        policy.summary.pop("command", None)  # which would not make this policy
        _normalise(agent, batch)
        optimizer = torch.optim.Adam(agent.parameters(), lr=learning_rate, eps=1e-5)
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
    agent: ActorCritic, optimizer: torch.optim.Optimizer, batch: _Batch, vf_coef: float
) -> Tensor:
    """One step of the optimiser; summed over the steps log-likelihood, agreement and one, `[3]`."""
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
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(agent.parameters(), MAX_GRAD_NORM)
    optimizer.step()
    with torch.no_grad():
        same = torch.isclose(
            output.distribution.mode().to(torch.float64), batch.actions.to(torch.float64), atol=1e-3
        )
        same = same.flatten(2).all(-1) if same.ndim > 2 else same
        sums = [(log_prob * weight).sum(), (same * weight).sum(), count]
        return torch.stack(sums).to("cpu", torch.float64)


@torch.no_grad()
def _normalise(agent: ActorCritic, batch: _Batch) -> None:
    """Take in the statistics of what was seen and of the returns, as after a rollout."""
    if agent.config.normalize_observations:
        agent.observation_normaliser.update(batch.components, batch.valid)
    if agent.config.normalize_returns and batch.returns is not None:
        moments = Moments.of(batch.returns[batch.valid])
        agent.return_normaliser.update(moments, agent.critic)


class _Episode(NamedTuple):
    """An episode as the agent reads it, `[T, ...]`."""

    components: Components
    actions: Tensor
    returns: Tensor | None
    action_mask: Tensor | None


def _recorded(episodes: Any) -> Iterable[RecordedEpisode]:
    """The episodes of a list or of a Minari dataset.

    Raises:
        UserError: it is neither.
    """
    if hasattr(episodes, "iterate_episodes"):
        for one in episodes.iterate_episodes():
            yield RecordedEpisode(one.observations, one.actions, one.rewards)
        return
    if isinstance(episodes, (str, bytes, RecordedEpisode)) or not isinstance(episodes, Iterable):
        raise UserError(
            f"episodes is {episodes!r}; give a list of RecordedEpisode, or a Minari dataset."
        )
    for i, one in enumerate(episodes):
        if not isinstance(one, RecordedEpisode):
            raise UserError(f"Episode {i} is a {type(one).__name__}; give a RecordedEpisode.")
        yield one


def _side_by_side(agent: ActorCritic, episodes: list[RecordedEpisode], gamma: float) -> _Batch:
    """All episodes in columns as long as the longest, each in the first that has room for it.

    Raises:
        UserError: there is none, or one does not fit.
    """
    if not episodes:
        raise UserError("There is no episode to imitate.")
    read = []
    for i, episode in enumerate(episodes):
        try:
            read.append(_read(agent, episode, gamma))
        except (ObservationError, ActionMaskError, TypeError, ValueError, LookupError) as error:
            raise UserError(f"Episode {i} cannot be imitated: {error}") from error
    read.sort(key=lambda one: -len(one.actions))
    length = len(read[0].actions)
    columns: list[list[_Episode]] = []
    room: list[int] = []
    for one in read:
        steps = len(one.actions)
        place = next((i for i, left in enumerate(room) if left >= steps), None)
        if place is None:
            columns.append([])
            room.append(length)
            place = len(columns) - 1
        columns[place].append(one)
        room[place] -= steps

    def laid(part: str) -> Tensor | None:
        if any(getattr(one, part) is None for one in read):
            return None
        return _laid([[getattr(one, part) for one in column] for column in columns], length)

    paths = read[0].components
    starts = [[_first(len(one.actions)) for one in column] for column in columns]
    valid = [[torch.ones(len(one.actions), dtype=torch.bool) for one in c] for c in columns]
    masks = laid("action_mask")
    if masks is not None:
        masks |= ~masks.any(-1, keepdim=True)  # where nothing was recorded
    batch = _Batch(
        {
            path: _laid([[one.components[path] for one in column] for column in columns], length)
            for path in paths
        },
        _laid([[one.actions for one in column] for column in columns], length),
        laid("returns"),
        _laid(starts, length),
        _laid(valid, length),
        masks,
    )
    to = agent.device
    rest = (None if x is None else x.to(to) for x in batch[1:])
    return _Batch({path: x.to(to) for path, x in batch.components.items()}, *rest)  # type: ignore[arg-type]


def _first(steps: int) -> Tensor:
    """True at the first of so many steps."""
    return torch.arange(steps) == 0


def _laid(columns: list[list[Tensor]], length: int) -> Tensor:
    """Each column's tensors one after the other, and zeros up to this length: `[T, C, ...]`."""
    like = columns[0][0]
    whole = like.new_zeros(length, len(columns), *like.shape[1:])
    for i, column in enumerate(columns):
        x = torch.cat(column)
        whole[: len(x), i] = x
    return whole


def _read(agent: ActorCritic, episode: RecordedEpisode, gamma: float) -> _Episode:
    """An episode as the agent reads it.

    Raises:
        ValueError: lengths, actions or rewards do not fit.
        ObservationError: an observation does not.
    """
    actions = np.asarray(episode.actions)
    steps = len(actions)
    if not steps:
        raise ValueError("it has no action")
    if actions.shape != (steps, *(agent.action_space.shape or ())):
        raise ValueError(f"its actions have the shape {actions.shape}")
    for t in range(steps):
        action = actions[t].astype(agent.action_space.dtype)
        if not agent.action_space.contains(action):
            raise ValueError(f"action {t} is {actions[t]!r}, which is not in {agent.action_space}")
    observations = list(_each(agent.observation_space, episode.observations))
    if len(observations) not in (steps, steps + 1):
        raise ValueError(f"it has {len(observations)} observations and {steps} actions")
    seen = agent.reader.read(stack_observations(agent.observation_space, observations[:steps]))
    components = {path: torch.as_tensor(x) for path, x in seen.items()}
    taken = agent.head.from_env(actions)
    rewards = None if episode.rewards is None else _numbers(episode.rewards, steps)
    if agent.config.previous_reward and rewards is None:
        raise ValueError("the agent reads the previous reward: give its rewards")
    earlier = None if rewards is None else _later(torch.as_tensor(rewards, dtype=torch.float32))
    components = agent.with_previous(components, _later(taken), earlier)
    mask = None
    if episode.action_masks is not None:
        mask = torch.as_tensor(
            np.stack([flat_mask(agent.action_space, one) for one in episode.action_masks])
        )
        if len(mask) != steps:
            raise ValueError(f"it has {len(mask)} action masks and {steps} actions")
    returns = None
    if rewards is not None and agent.has_critic:
        returns = torch.as_tensor(_discounted(rewards, gamma))
    return _Episode(components, taken, returns, mask)


def _each(space: gym.Space[Any], observations: Any) -> Iterable[Any]:
    """The observations one by one, also of stacked arrays in the space's nesting."""
    if isinstance(space, gym.spaces.Dict) and isinstance(observations, dict):
        parts = {key: list(_each(space[key], observations[key])) for key in space.spaces}
        return [dict(zip(parts, one, strict=True)) for one in zip(*parts.values(), strict=True)]
    if isinstance(space, gym.spaces.Tuple) and isinstance(observations, tuple):
        inner = [_each(one, x) for one, x in zip(space.spaces, observations, strict=True)]
        return list(zip(*inner, strict=True))
    return list(observations)


def _numbers(rewards: Any, steps: int) -> NDArray[np.float64]:
    array = np.asarray(rewards, dtype=np.float64)
    if array.shape != (steps,) or not np.isfinite(array).all():
        raise ValueError(f"its rewards must be {steps} finite numbers")
    return array


def _later(x: Tensor) -> Tensor:
    """Each at the step after its own; zero at the first."""
    return torch.cat([torch.zeros_like(x[:1]), x[:-1]])


def _discounted(rewards: NDArray[np.float64], gamma: float) -> NDArray[np.float32]:
    """G_t = r_t + gamma G_tp1."""
    returns = np.zeros(len(rewards), dtype=np.float32)
    following = 0.0
    for t in range(len(rewards) - 1, -1, -1):
        following = rewards[t] + gamma * following
        returns[t] = following
    return returns
