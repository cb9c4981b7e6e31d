"""The policy as other projects use it: one file to load, observations in, actions out."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import reprlib
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.overrides import TorchFunctionMode

from recurrent_rl.agents.actor_critic import ActorCritic, AgentConfig
from recurrent_rl.agents.files import PolicyFileError, load_tensors, read_json, save_tensors
from recurrent_rl.agents.spaces import (
    Leaves,
    leaf_arrays,
    leaf_spaces,
    space_from_json,
    space_to_json,
    stack_observations,
)
from recurrent_rl.agents.states import MemoryState

KIND = "recurrent_rl.policy"
VERSION = 1
MOST_IMAGE_ENTRIES = 2**24
"""Numbers in an observation that a file may ask for without as many weights: 2048 x 2048 x 4."""


class DeviceError(ValueError):
    """There is no such device on this machine, or PyTorch cannot use it."""


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
        self._first_leaf = next(iter(leaf_spaces(agent.observation_space).items()))

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
        path, leaf = self._first_leaf
        value = observation
        for key in path.split("/") if path else ():
            try:
                value = value[key] if isinstance(value, Mapping) else value[int(key)]
            except (LookupError, TypeError, ValueError):
                return True  # not of this space: reading the leaves says what is missing
        return np.ndim(value) > len(leaf.shape or ())

    def actor(self, deterministic: bool = True, seed: int | None = None) -> Actor:
        """A player of one stream that keeps the state itself.

        Args:
            deterministic: take the likeliest action instead of sampling one.
            seed: of the sampling.
        """
        return Actor(self, deterministic, seed)

    def save(self, path: str | Path) -> None:
        """Write the policy to one data-only `.safetensors` file.

        Raises:
            FileWriteError: the disk is full, or the folder cannot be written to.
        """
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
    """Load a policy file. Nothing in it is executed, and the caller's random state stays as it is.

    A file from anywhere may be tried: no more memory is taken than it has content.

    Args:
        path: of a file that `Policy.save` or a training run has written.
        device: where the policy computes.

    Raises:
        PolicyFileError: the file is missing, damaged, of a newer format or no policy, or its
            weights are not those of its agent, or not finite.
        DeviceError: there is no such device.
    """
    _check_device(device)
    tensors, text = load_tensors(path, KIND, VERSION)
    try:
        names = ("observation_space", "action_space", "agent", "training")
        fields = {name: read_json(text[name]) for name in names}
        if not isinstance(fields["training"], dict):
            raise ValueError("the training summary is no JSON object")
        config = _agent_config(fields["agent"])
        entries = sum(x.numel() for x in tensors.values())
        # No agent reads more numbers than it has weights, but for images.
        most = max(MOST_IMAGE_ENTRIES, entries)
        observation_space, action_space = (
            space_from_json(fields[name], most) for name in ("observation_space", "action_space")
        )

        layers = max(config.encoder_layers, 0 if config.memory == "none" else config.num_layers)
        if layers > len(tensors):
            raise ValueError(f"{layers:,} layers are made of {len(tensors):,} tensors")
        with _own_surroundings(), _Frugal(2 * entries):  # half of it for what building needs beside
            agent = ActorCritic(observation_space, action_space, config)
        _check_weights(tensors, agent.state_dict())
        agent.load_state_dict(tensors)
    except (LookupError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        raise PolicyFileError(
            f"{path} was written by recurrent-rl {reprlib.repr(text.get('library_version', '?'))}, "
            f"and this version ({_library_version()}) cannot build its agent: {error}"
        ) from error
    return Policy(agent.to(device).eval(), fields["training"])


@contextlib.contextmanager
def _own_surroundings() -> Iterator[None]:
    """Draw from a random state, make tensors of a type and on a device that are not the caller's.

    Afterwards the caller's are as they were.
    """
    dtype = torch.get_default_dtype()
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)


def _agent_config(fields: Any) -> AgentConfig:
    """The settings of an agent, from what a file says they are.

    Raises:
        ValueError: a setting is unknown or makes no sense.
        TypeError: a setting is of another type.
    """
    if not isinstance(fields, dict):
        raise TypeError(f"the agent's settings are {reprlib.repr(fields)}, not a JSON object")
    types = {field.name: type(field.default) for field in dataclasses.fields(AgentConfig)}
    for name, value in fields.items():
        expected = types.get(name)
        if expected is None:
            raise ValueError(f"the agent's settings have {reprlib.repr(name)}, which is unknown")
        if type(value) is not expected and not (expected is float and type(value) is int):
            raise TypeError(f"{name} is {reprlib.repr(value)}, not of type {expected.__name__}")
    return AgentConfig(**fields)


class _Frugal(TorchFunctionMode):
    """Lets PyTorch make so many weights and no more.

    Args:
        entries: of all tensors together that `torch.empty` makes, as it does for every weight.
    """

    def __init__(self, entries: int) -> None:
        super().__init__()
        self.left = entries

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is torch.empty:
            self.left -= math.prod(args if isinstance(args[0], int) else args[0])
            if self.left < 0:
                raise ValueError("such an agent has more weights than the file")
        return func(*args, **(kwargs or {}))


def _check_weights(tensors: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Refuse tensors by name that are not of the expected names, shapes and types, or not finite.

    Raises:
        ValueError: says which tensor, and what is wrong with it.
    """
    for name in sorted(expected.keys() | tensors.keys()):
        if name not in tensors:
            raise ValueError(f"the tensor {name!r} is missing")
        if name not in expected:
            raise ValueError(f"there is no tensor {reprlib.repr(name)} in such an agent")
        x, right = tensors[name], expected[name]
        if (x.dtype, x.shape) != (right.dtype, right.shape):
            raise ValueError(
                f"{name} is of {x.dtype} and shape {list(x.shape)}; expected {right.dtype} and "
                f"{list(right.shape)}"
            )
        if not torch.isfinite(x).all():
            raise ValueError(f"{name} holds NaN or infinity; train the policy anew")


def _check_device(device: str) -> None:
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise DeviceError(f"Device {device!r} cannot be used ({reason}); try cpu.") from error


def _library_version() -> str:
    try:
        return version("recurrent-rl")
    except PackageNotFoundError:  # a checkout that is not installed
        return "unknown"
