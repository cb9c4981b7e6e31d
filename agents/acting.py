"""How an agent acts: one step for a batch of streams, and what is carried from step to step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.memory.states import MemoryState
from recurrent_rl.agents.preprocessing import read_rewards
from recurrent_rl.agents.spaces import TOO_LARGE, ObservationError, as_array


class PolicyState(NamedTuple):
    """What a policy carries from step to step of `B` streams."""

    memory: MemoryState
    """Of the agent's memory or memories; axis 1 of every tensor is the batch."""
    previous_action: Tensor
    """`[B, ...]`, read by agents that are fed their previous action."""


def fresh_state(agent: ActorCritic, batch: int) -> PolicyState:
    """What `batch` streams carry that have not begun.

    Raises:
        SettingError: `batch` is no number of streams.
    """
    memory = agent.initial_state(batch)
    head = agent.head
    action = torch.zeros(
        (int(batch), *head.action_shape), dtype=head.action_dtype, device=agent.device
    )
    return PolicyState(memory, action)


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
    batch = len(state.previous_action)
    components = {path: torch.as_tensor(x, device=agent.device) for path, x in arrays.items()}
    rewards = None
    if agent.config.previous_reward:
        starts = np.zeros(batch, dtype=bool) if start is None else as_array(start)
        rewards = torch.as_tensor(read_rewards(reward, starts), device=agent.device)
    components = agent.with_previous(components, state.previous_action, rewards)
    masks = None if mask is None else torch.as_tensor(mask, device=agent.device)
    (distribution, value), memory = agent.step(components, state.memory, start, masks)
    if not agent.has_critic:
        value = distribution.log_prob(distribution.mode())  # as telling, where there is none
    if not value.isfinite().all():
        raise ObservationError(TOO_LARGE)
    if generator is None:
        action = distribution.mode()
    else:
        action = distribution.sample(agent.head.noise((batch,), generator))
    return agent.head.to_env(action), PolicyState(memory, action)
