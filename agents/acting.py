"""How an agent acts: one step for a batch of streams, what it takes, and what is carried on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.devices import spare_threads_of_a_fork
from recurrent_rl.agents.kernels.safeguards import MemoryInputError
from recurrent_rl.agents.policy_state import PolicyState
from recurrent_rl.agents.preprocessing import read_rewards
from recurrent_rl.agents.settings import refusal
from recurrent_rl.agents.spaces import TOO_LARGE, ObservationError, as_array


@torch.no_grad()
def choose(
    agent: ActorCritic,
    arrays: Mapping[str, NDArray[Any]],
    state: PolicyState,
    start: Tensor | None,
    mask: NDArray[np.bool_] | None,
    reward: Any,
    generator: torch.Generator | None,
) -> tuple[NDArray[Any], PolicyState]:
    """Actions for a batch whose observations were read, and the state after them.

    The arguments are those of `Policy.choose`, which says what is raised.
    """
    if torch.is_autocast_enabled(agent.device.type):  # the caller's, of another model
        with torch.autocast(agent.device.type, enabled=False):
            return choose(agent, arrays, state, start, mask, reward, generator)
    spare_threads_of_a_fork()
    batch = len(state.previous_action)
    components = agent.as_tensors(arrays)
    rewards = None
    if agent.config.previous_reward:
        starts = np.zeros(batch, dtype=bool) if start is None else as_array(start)
        rewards = torch.as_tensor(read_rewards(reward, starts), device=agent.device)
    components = agent.with_previous(components, state.previous_action, rewards)
    masks = None if mask is None else torch.as_tensor(mask, device=agent.device)
    (distribution, value, _), memory = agent.step(components, state.memory, start, masks)
    if not agent.has_critic:
        value = distribution.log_prob(distribution.mode())  # as telling, where there is none
    if not value.isfinite().all():
        raise ObservationError(TOO_LARGE)
    if generator is None:
        action = distribution.mode()
    else:
        action = distribution.sample(agent.head.noise((batch,), generator))
    return agent.head.to_env(action), PolicyState(memory, action)


def is_batched(first_component: tuple[str, gym.Space[Any]], observation: Any) -> bool:
    """Whether an observation has a batch axis: judged by its first component's dimensions.

    Args:
        first_component: path and space, as in `component_spaces`.
        observation: one, or a batch of them.
    """
    path, component = first_component
    value = observation
    for key in path.split("/") if path else ():
        try:
            value = value[key] if isinstance(value, Mapping) else value[int(key)]
        except (LookupError, TypeError, ValueError):
            return True  # not of this space: reading the components says what is missing
    return np.ndim(value) > len(component.shape or ())


def read_starts(episode_start: Any, batch: int) -> Tensor:
    """Where episodes start, bool `[B]`, from one answer for all or one for each.

    Raises:
        MemoryInputError: it is neither.
    """
    try:
        start = as_array(episode_start)
        is_allowed = start.shape in ((), (batch,)) and np.isin(start, (0, 1)).all()
    except (TypeError, ValueError):
        is_allowed = False
    if not is_allowed:
        expected = f"true or false, or one of them for each of {batch} streams"
        raise MemoryInputError(refusal("episode_start", episode_start, expected))
    return torch.as_tensor(start.astype(bool), device="cpu").expand(batch)
