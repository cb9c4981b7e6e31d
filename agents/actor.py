"""Playing a stream of observations, or several side by side, without a state to pass along."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from recurrent_rl.agents.acting import choose, fresh_state
from recurrent_rl.agents.action_masks import read_masks
from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.spaces import check_streams, stack_observations


class Actor:
    """Plays one stream of observations, or several, and keeps the state between them.

    Made by `Policy.actor()`. The first observation, and the first after `reset()`, starts an
    episode.

    Args:
        agent: acts.
        generator: of the sampling; None takes the deterministic actions.
        num_envs: streams side by side; None for one whose observations have no batch axis.

    Attributes:
        state: what is carried to the next step, a `PolicyState`.
    """

    def __init__(
        self, agent: ActorCritic, generator: torch.Generator | None, num_envs: int | None = None
    ) -> None:
        self._agent, self._generator = agent, generator
        self._batched, self._batch = num_envs is not None, num_envs or 1
        self.state = fresh_state(agent, self._batch)
        self._first = np.ones(self._batch, dtype=bool)

    def reset(self, streams: Any = ...) -> None:
        """Forget: the next observation starts an episode.

        Args:
            streams: which, as an index or bool `[num_envs]`; by default all.
        """
        self._first[streams] = True

    @torch.inference_mode()
    def act(self, observation: Any, reward: Any = None, action_mask: Any = None) -> Any:
        """The action for the next observation of the stream, or those of all streams.

        Args:
            observation: one raw observation; with `num_envs` a batch, as a vector environment
                gives it.
            reward: of the previous step, a number or `[num_envs]`; only for agents that are fed it.
            action_mask: true for what is allowed, `[n]` or `[num_envs, n]`, or as
                `spaces.flat_mask` takes it.

        Raises:
            ObservationError, ActionMaskError, ValueError: as `Policy.predict`. The state stays as
                it was: the stream continues with its next good observation.
        """
        agent = self._agent
        if not self._batched:
            observation = stack_observations(agent.observation_space, [observation])
        arrays = agent.reader.read(observation)
        check_streams(arrays, self._batch)
        mask = None
        if action_mask is not None:
            mask = read_masks(agent.action_space, action_mask, self._batch, self._batched)
        start = None
        if self._first.any():
            start = torch.as_tensor(self._first, device=agent.device)
        actions, self.state = choose(
            agent, arrays, self.state, start, mask, reward, self._generator
        )
        self._first[...] = False
        return actions if self._batched else actions[0]
