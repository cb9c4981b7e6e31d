"""What the actors share: streams side by side, and where the next observation starts an episode."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recurrent_rl.agents.action_masks import read_masks
from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.policy_state import PolicyState, check_state
from recurrent_rl.agents.settings import SettingError, refusal
from recurrent_rl.agents.spaces import as_array, stack_observations


def _which(streams: Any, count: int) -> NDArray[Any]:
    """Streams as bool `[count]`, a bool for all, or indices."""
    given = as_array(streams)
    if given.shape == (0,):
        return np.empty(0, dtype=np.intp)  # NumPy makes floats of an empty list
    if given.dtype.kind == "b" and given.shape in ((), (count,)):
        return given
    if given.dtype.kind in "iu" and given.ndim < 2:
        if given.shape == (count,) and np.isin(given, (0, 1)).all():
            raise SettingError(
                f"streams is {streams!r}, which may be indices, or 0 and 1 for each of {count} "
                "streams. Give True and False for each, or leave streams out to reset all."
            )
        if ((given >= -count) & (given < count)).all():
            return given
    expected = (
        f"an index below {count}, a list of them, or True or False for each of {count} streams"
    )
    raise SettingError(refusal("streams", streams, expected))


class StreamActor:
    """Plays one stream of observations, or several, and keeps the state between them.

    Args:
        agent: acts.
        generator: of the sampling; None takes the deterministic actions.
        num_envs: streams side by side; None for one whose observations have no batch axis.
    """

    _start: NDArray[np.bool_]
    """`[B]`, true where the next observation starts an episode."""

    def __init__(
        self, agent: ActorCritic, generator: torch.Generator | None, num_envs: int | None = None
    ) -> None:
        self._agent, self._generator = agent, generator
        self._batched, self._batch = num_envs is not None, num_envs or 1

    def __repr__(self) -> str:
        actions = "deterministic" if self._generator is None else "stochastic"
        streams = f", {self._batch} streams" if self._batched else ""
        return f"<{type(self).__name__}: {self._agent.in_short()}, {actions}{streams}>"

    @property
    def state(self) -> PolicyState:
        """What is carried to the next step, of all streams. It may be set, also of a new actor.

        A state goes from one actor of a policy to another, whichever runners they have, and to and
        from `predict`. All streams then go on from it. A reset that no step has followed is not
        part of it: call `reset` again after setting it.

        Raises:
            MemoryInputError: what is set is none, of another policy or for another number of
                streams. The actor is then as it was.
        """
        return self._read_state()

    @state.setter
    def state(self, state: PolicyState) -> None:
        check_state(self._agent, state, self._batch)
        self._take_state(state)
        self._start[...] = False

    def reset(self, streams: Any = ...) -> None:
        """Forget: the next observation starts an episode.

        Args:
            streams: which, as an index, a list of indices or bool `[num_envs]`; by default all.

        Raises:
            SettingError: there is no such stream; or zeros and ones for all streams, which may be
                flags or indices.
        """
        if streams is not ...:
            streams = _which(streams, len(self._start))
        self._start[streams] = True

    def act(self, observation: Any, reward: Any = None, action_masks: Any = None) -> Any:
        """The action for the next observation of the stream, or those of all streams.

        Args:
            observation: one raw observation; with `num_envs` a batch, as a vector environment
                gives it.
            reward: of the previous step, a number or `[num_envs]`; only for agents that are fed it.
            action_masks: true for what is allowed, `[n]` or `[num_envs, n]`, or as
                `spaces.flat_mask` takes it.

        Raises:
            ObservationError, ActionMaskError, ValueError: as `Policy.predict`. The state stays as
                it was: the stream continues with its next good observation.
        """
        actions = self._choose(observation, reward, action_masks)
        return actions if self._batched else actions[0]

    def _choose(self, observation: Any, reward: Any, action_masks: Any) -> NDArray[Any]:
        """Actions `[B, ...]` for what `act` was given; the state after them is kept."""
        raise NotImplementedError

    def _read_state(self) -> PolicyState:
        """What is carried; later steps do not change it."""
        raise NotImplementedError

    def _take_state(self, state: PolicyState) -> None:
        """Go on from a state that fits."""
        raise NotImplementedError

    def _in_batch(self, observation: Any) -> Any:
        """The observation with a batch axis."""
        if self._batched:
            return observation
        return stack_observations(self._agent.observation_space, [observation])

    def _read_mask(self, action_masks: Any) -> NDArray[np.bool_]:
        """`[B, n]`."""
        space, batch = self._agent.action_space, self._batch
        masks = read_masks(space, action_masks, batch, self._batched)
        self._agent.check_masks(masks.shape[1])
        return masks
