"""Playing a stream of observations, or several side by side, without a state to pass along."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recurrent_rl.agents.acting import choose
from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.policy_state import PolicyState, fresh_state
from recurrent_rl.agents.spaces import check_streams
from recurrent_rl.agents.stream_actor import StreamActor


class Actor(StreamActor):
    """Plays one stream of observations, or several, and keeps the state between them.

    Made by `Policy.actor()`. The first observation, and the first after `reset()`, starts an
    episode.

    Args:
        agent: acts.
        generator: of the sampling; None takes the deterministic actions.
        num_envs: streams side by side; None for one whose observations have no batch axis.
    """

    def __init__(
        self, agent: ActorCritic, generator: torch.Generator | None, num_envs: int | None = None
    ) -> None:
        super().__init__(agent, generator, num_envs)
        self._state = fresh_state(agent, self._batch)
        self._start = np.ones(self._batch, dtype=bool)

    def _read_state(self) -> PolicyState:
        return self._state

    def _take_state(self, state: PolicyState) -> None:
        self._state = state

    @torch.inference_mode()
    def _choose(self, observation: Any, reward: Any, action_masks: Any) -> NDArray[Any]:
        agent = self._agent
        arrays = agent.reader.read(self._in_batch(observation))
        check_streams(arrays, self._batch)
        mask = None if action_masks is None else self._read_mask(action_masks)
        start = None
        if self._start.any():
            start = torch.as_tensor(self._start, device=agent.device)
        actions, self._state = choose(
            agent, arrays, self._state, start, mask, reward, self._generator
        )
        self._start[...] = False
        return actions
