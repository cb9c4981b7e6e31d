"""Acting fast: the whole step of a policy in one call, with nothing of torch between.

What it computes is the policy's step as an export has it, so its numbers are the policy's but for
rounding.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.distributions import Distribution
from recurrent_rl.agents.export.compiled import CompiledStep, serves
from recurrent_rl.agents.export.listing import constants_of, to_json
from recurrent_rl.agents.export.numpy_policy import Step
from recurrent_rl.agents.export.passes.shorter import shorter
from recurrent_rl.agents.export.record import listing_of
from recurrent_rl.agents.export.step import (
    MASK,
    START,
    ExportError,
    carried_in,
    distribution_of,
    first_distribution,
    observation_names,
    parameters_of,
)
from recurrent_rl.agents.kernels.library import library
from recurrent_rl.agents.memory.states import tensors_of, with_tensors
from recurrent_rl.agents.policy_state import PolicyState, fresh_state
from recurrent_rl.agents.preprocessing import read_rewards
from recurrent_rl.agents.previous_step import PREVIOUS_ACTION, PREVIOUS_REWARD
from recurrent_rl.agents.spaces import (
    TOO_LARGE,
    ObservationError,
    check_streams,
    component_arrays,
    component_spaces,
)
from recurrent_rl.agents.stream_actor import StreamActor


class FastActor(StreamActor):
    """Plays one stream of observations, or several, and keeps the state, as `Actor` does.

    Made by `Policy.actor(runner="fast")`, from the weights that the agent has then.

    Args:
        agent: whose step is traced and not changed.
        generator: of the sampling; None takes the deterministic actions.
        num_envs: streams side by side; None for one whose observations have no batch axis.

    Attributes:
        runner: "compiled", or "numpy" where the kernels were not built, or lack a type in which a
            part of one's own computes.

    Raises:
        ExportError: the agent has a part of one's own whose step cannot be traced, or that does
            what the runners lack, or a head whose distribution may draw in a way of its own.
    """

    def __init__(
        self, agent: ActorCritic, generator: torch.Generator | None, num_envs: int | None = None
    ) -> None:
        super().__init__(agent, generator, num_envs)
        self._like: Distribution | None = None
        """The kind of the head's distribution, where the head makes the actions: of those that are
        drawn, and of doubles, which the step's single precision cannot hold."""
        try:
            listing = listing_of(agent, self._batch)
            if generator is not None or agent.action_space.dtype == np.float64:
                self._like = first_distribution(agent)
                distribution_of(parameters_of(self._like), self._like)  # refuses others
        except ExportError as error:
            raise ExportError(
                f"runner='fast' cannot play this policy, policy.actor() can. {error}"
            ) from error
        self.runner = "compiled" if library() is not None and serves(listing) else "numpy"
        self._step: Step | CompiledStep
        if self.runner == "numpy":
            short = shorter(listing)
            self._step = Step(to_json(short), constants_of(short))
        else:
            self._step = CompiledStep(listing)
        inputs, outputs = self._step.inputs, self._step.outputs
        state = listing.signature.state
        self._carried = [(inputs[before], outputs[after]) for before, after in state.items()]
        self._start, self._mask = inputs[START], inputs.get(MASK)
        self._reward = inputs.get(PREVIOUS_REWARD)
        self._previous_action = inputs.get(carried_in(PREVIOUS_ACTION))
        self._action = outputs["action"]
        self._parameters = {
            name: outputs[name] for name in ("logits", "mean", "std") if name in outputs
        }
        names = observation_names(agent.observation_space)
        components = component_spaces(agent.observation_space)
        # Where a space counts from: what is read counts from 0.
        self._origins = {path: getattr(one, "start", 0) for path, one in components.items()}
        # Not finite where what was computed on the way was not.
        self._judged = outputs["value" if "value" in outputs else next(iter(self._parameters))]
        self._observed = {path: inputs[name] for path, name in names.items()}
        self._only: NDArray[Any] | None = None
        """The one component of an observation that is a Box and comes in the type it is kept in."""
        if isinstance(space := agent.observation_space, gym.spaces.Box):
            (only,) = self._observed.values()
            shown = only if self._batched else only[0, ...]
            is_shown_whole = not (agent.reader.reach and agent.reader.hide_indices)
            self._only = shown if only.dtype == space.dtype and is_shown_whole else None
        self._take_state(fresh_state(agent, self._batch))
        self.reset()

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Refuse a copy, whose arrays would be this one's: both would step one stream.

        Raises:
            TypeError: says how to have another.
        """
        raise TypeError(
            "A fast actor cannot be copied, pickled or sent to another process. Make another one "
            'there, policy.actor(runner="fast"), and set its state to that of this one; a policy '
            "and a state can be copied and sent."
        )

    def _read_state(self) -> PolicyState:
        state = fresh_state(self._agent, self._batch)
        tensors = [
            torch.as_tensor(before.copy()).to(like)
            for (before, _), like in zip(self._carried, self._tensors_of(state), strict=True)
        ]
        if self._previous_action is not None:
            state = state._replace(previous_action=tensors.pop(0))
        return state._replace(memory=with_tensors(state.memory, tensors))

    def _take_state(self, state: PolicyState) -> None:
        for (before, _), x in zip(self._carried, self._tensors_of(state), strict=True):
            before[...] = x.detach().cpu().numpy()

    def _tensors_of(self, state: PolicyState) -> list[Tensor]:
        """Those that the step carries, in the order of `_carried`."""
        is_fed = self._previous_action is not None
        return [state.previous_action] * is_fed + tensors_of(state.memory)

    def _choose(self, observation: Any, reward: Any, action_masks: Any) -> NDArray[Any]:
        self._read(observation)
        if self._reward is not None:
            self._reward[...] = read_rewards(reward, self._start)
        if self._mask is not None:
            self._mask[...] = True if action_masks is None else self._read_mask(action_masks)
        elif action_masks is not None:
            self._read_mask(action_masks)  # refuses it
        self._step({})
        if not np.isfinite(self._judged).all():
            raise ObservationError(TOO_LARGE)
        for before, after in self._carried:
            before[...] = after
        self._start[...] = False
        if self._like is not None:
            return self._by_head(self._like)
        return self._action.astype(self._agent.action_space.dtype)

    def _by_head(self, like: Distribution) -> NDArray[Any]:
        """The head's own action; a drawn one takes the deterministic one's place in the state.

        Args:
            like: of the kind of the head's distribution.
        """
        head = self._agent.head
        tensors = {name: torch.as_tensor(x, device="cpu") for name, x in self._parameters.items()}
        distribution = distribution_of(tensors, like)
        if self._generator is None:
            return head.to_env(distribution.mode())
        action = distribution.sample(head.noise((self._batch,), self._generator).cpu())
        if self._previous_action is not None:
            self._previous_action[...] = action.numpy()
        return head.to_env(action)

    def _read(self, observation: Any) -> None:
        """Put an observation where the step reads it."""
        if self._only is not None and isinstance(observation, (np.ndarray, np.generic)):
            array = observation
            if array.shape == self._only.shape and array.dtype == self._only.dtype:
                self._only[...] = array
                if array.dtype.kind != "f" or np.isfinite(array).all():
                    self._agent.reader.refuse_far({"": self._only})
                    return
        space = self._agent.observation_space
        arrays = component_arrays(space, self._in_batch(observation))
        check_streams(arrays, self._batch)
        self._agent.reader.prepared(arrays)  # refuses what is not finite
        for path, kept in self._observed.items():
            start = self._origins[path]
            kept[...] = arrays[path] + start if np.any(start) else arrays[path]
