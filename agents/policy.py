"""The policy as other projects use it: one file to load, observations in, actions out."""

from __future__ import annotations

import dataclasses
import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recurrent_rl.agents.actor_critic import ActorCritic, AgentConfig
from recurrent_rl.agents.files import PolicyFileError, load_tensors, save_tensors
from recurrent_rl.agents.spaces import (
    Leaves,
    leaf_arrays,
    space_from_json,
    space_to_json,
    stack_observations,
)
from recurrent_rl.agents.states import MemoryState

KIND = "recurrent_rl.policy"
VERSION = 1


class PolicyState(NamedTuple):
    """What a policy carries from step to step of `B` streams."""

    memory: MemoryState
    """Fields `[num_layers, B, hidden]`."""
    previous_action: Tensor
    """`[B, ...]`, read by agents that are fed their previous action."""


class Policy:
    """A trained policy: takes raw observations, gives actions the environment takes.

    Args:
        agent: the network; used as it is, not copied.
        summary: what to tell of its training, JSON values by name.
    """

    def __init__(self, agent: ActorCritic, summary: dict[str, Any] | None = None) -> None:
        self.agent = agent
        self.summary = summary or {}
        self._generator: torch.Generator | None = None

    @property
    def observation_space(self) -> gym.Space[Any]:
        """The space of one observation."""
        return self.agent.observation_space

    @property
    def action_space(self) -> gym.Space[Any]:
        """The space of one action."""
        return self.agent.action_space

    @property
    def config(self) -> AgentConfig:
        """What the agent is made of."""
        return self.agent.config

    def seed(self, seed: int) -> None:
        """Make the sampling of stochastic actions repeatable."""
        self._generator = torch.Generator(self.agent.device).manual_seed(seed)

    def initial_state(self, batch: int) -> PolicyState:
        """A fresh state for `batch` streams."""
        head = self.agent.head
        action = torch.zeros(
            (batch, *head.action_shape), dtype=head.action_dtype, device=self.agent.device
        )
        return PolicyState(self.agent.initial_state(batch), action)

    @torch.no_grad()
    def predict(
        self,
        observation: Any,
        state: PolicyState | None = None,
        episode_start: NDArray[np.bool_] | bool | None = None,
        deterministic: bool = False,
        action_masks: Any = None,
        reward: Any = None,
    ) -> tuple[NDArray[Any], PolicyState]:
        """Choose actions, as Stable-Baselines3's `predict`.

        Args:
            observation: one observation, or a batch `[B, ...]` as a vector environment gives it.
            state: what the previous call returned; None for fresh streams.
            episode_start: true where an episode starts with this observation, `[B]` or one bool;
                None where none does.
            deterministic: take the likeliest action instead of sampling one.
            action_masks: true for what is allowed, `[B, n]` or `[n]`.
            reward: of the previous step, `[B]` or a number; only for agents that are fed it.

        Returns:
            The action, or the batch of them, in the action space's type; and the new state.

        Raises:
            ObservationError: the observation does not fit the observation space.
            ValueError: the state or an argument is for another number of streams, or the reward is
                missing.
        """
        batched = self._is_batched(observation)
        if not batched:
            observation = stack_observations(self.observation_space, [observation])
        leaves = self._leaves(observation)
        batch = len(next(iter(leaves.values())))
        start = None
        if state is None:
            state = self.initial_state(batch)
            start = torch.ones(batch, dtype=torch.bool, device=self.agent.device)
        elif episode_start is not None:
            start = torch.as_tensor(episode_start, dtype=torch.bool, device=self.agent.device)
            start = start.expand(batch)
        if len(state.previous_action) != batch:
            raise ValueError(
                f"The state is of {len(state.previous_action)} streams, the observation of "
                f"{batch}. Pass the state that the same streams returned, or None for fresh ones."
            )
        mask = self._mask(action_masks, batch)
        actions, state = self._choose(
            leaves, state, start, mask, reward, deterministic, self._generator
        )
        return (actions if batched else actions[0]), state

    def _choose(
        self,
        leaves: Leaves,
        state: PolicyState,
        start: Tensor | None,
        mask: Tensor | None,
        reward: Any,
        deterministic: bool,
        generator: torch.Generator | None,
    ) -> tuple[NDArray[Any], PolicyState]:
        """Actions for a batch, and the state after them."""
        agent = self.agent
        rewards = None
        if agent.config.previous_reward:
            if reward is None and (start is None or not start.all()):
                raise ValueError(
                    "This policy is fed the reward of the previous step: pass reward= at every "
                    "step but an episode's first."
                )
            rewards = torch.as_tensor(0.0 if reward is None else reward)
            rewards = rewards.to(agent.device, torch.float32)
            rewards = rewards.expand(len(state.previous_action))
        leaves = agent.with_previous(leaves, state.previous_action, rewards)
        (distribution, _), memory = agent.step(leaves, state.memory, start, mask)
        action = distribution.mode() if deterministic else distribution.sample(generator)
        return agent.head.to_env(action), PolicyState(memory, action)

    def _mask(self, action_masks: Any, batch: int) -> Tensor | None:
        if action_masks is None:
            return None
        size = self.agent.head.mask_size
        if size is None:
            raise ValueError(f"{self.action_space} has no action masks; leave them out.")
        mask = torch.as_tensor(np.asarray(action_masks, dtype=bool), device=self.agent.device)
        if mask.shape not in ((size,), (batch, size)):
            raise ValueError(
                f"action_masks has shape {list(mask.shape)}; expected [{batch}, {size}]."
            )
        if not mask.any(dim=-1).all():
            raise ValueError("action_masks forbids every action; allow at least one.")
        return mask.expand(batch, size)

    def _leaves(self, observation: Any) -> Leaves:
        arrays = leaf_arrays(self.observation_space, observation)
        return {path: torch.as_tensor(x, device=self.agent.device) for path, x in arrays.items()}

    def _is_batched(self, observation: Any) -> bool:
        """Whether there is a batch axis: judged by the first leaf's number of dimensions."""
        space, value = self.observation_space, observation
        while isinstance(space, (gym.spaces.Dict, gym.spaces.Tuple)):
            key: Any = next(iter(space.spaces)) if isinstance(space, gym.spaces.Dict) else 0
            try:
                space, value = space[key], value[key]
            except (KeyError, IndexError, TypeError):
                return True  # not of this space: reading the leaves says what is missing
        return np.ndim(value) > len(space.shape or ())

    def actor(self, deterministic: bool = True, seed: int | None = None) -> Actor:
        """A player of one stream that keeps the state itself.

        Args:
            deterministic: take the likeliest action instead of sampling one.
            seed: of the sampling.
        """
        return Actor(self, deterministic, seed)

    def save(self, path: str | Path) -> None:
        """Write the policy to one data-only `.safetensors` file."""
        text = {
            "observation_space": space_to_json(self.observation_space),
            "action_space": space_to_json(self.action_space),
            "agent": dataclasses.asdict(self.config),
            "training": self.summary,
            "library_version": _library_version(),
        }
        save_tensors(
            path,
            dict(self.agent.state_dict()),
            {name: json.dumps(value) for name, value in text.items()},
            KIND,
            VERSION,
        )


class Actor:
    """Plays one stream of observations and keeps the state between them.

    Made by `Policy.actor()`. The first observation, and the first after `reset()`, starts an
    episode.
    """

    def __init__(self, policy: Policy, deterministic: bool, seed: int | None) -> None:
        self.policy = policy
        self.deterministic = deterministic
        self._generator = torch.Generator(policy.agent.device)
        if seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(seed)
        self._fresh = self.state = policy.initial_state(1)
        self._starts = torch.ones(1, dtype=torch.bool, device=policy.agent.device)
        self._first = True

    def reset(self) -> None:
        """Forget: the next observation starts an episode."""
        self._first = True

    @torch.inference_mode()
    def act(self, observation: Any, reward: float | None = None, action_mask: Any = None) -> Any:
        """The action for the next observation of the stream.

        Args:
            observation: one observation, no batch axis.
            reward: of the previous step; only for agents that are fed it.
            action_mask: true for what is allowed, `[n]`.
        """
        policy = self.policy
        leaves = policy._leaves(stack_observations(policy.observation_space, [observation]))
        mask = policy._mask(action_mask, 1)
        state, start = (self._fresh, self._starts) if self._first else (self.state, None)
        actions, self.state = policy._choose(
            leaves, state, start, mask, reward, self.deterministic, self._generator
        )
        self._first = False
        return actions[0]


def load_policy(path: str | Path, device: str = "cpu") -> Policy:
    """Load a policy file. Nothing in it is executed.

    Args:
        path: of a file that `Policy.save` or a training run has written.
        device: where the policy computes.

    Raises:
        PolicyFileError: the file is missing, damaged, of a newer format or no policy.
    """
    tensors, text = load_tensors(path, KIND, VERSION)
    try:
        names = ("observation_space", "action_space", "agent", "training")
        fields = {name: json.loads(text[name]) for name in names}
        agent = ActorCritic(
            space_from_json(fields["observation_space"]),
            space_from_json(fields["action_space"]),
            AgentConfig(**fields["agent"]),
        )
        agent.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise PolicyFileError(
            f"{path} was written by recurrent-rl {text.get('library_version', '?')}, and this "
            f"version ({_library_version()}) cannot build its agent: {error}"
        ) from error
    return Policy(agent.to(device).eval(), fields["training"])


def _library_version() -> str:
    try:
        return version("recurrent-rl")
    except PackageNotFoundError:  # a checkout that is not installed
        return "unknown"
