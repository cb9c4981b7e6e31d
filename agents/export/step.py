"""One step of a policy as a pure function of tensors: what all exports are made of."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor, nn

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.distributions import (
    Bernoulli,
    Categorical,
    DiagonalGaussian,
    Distribution,
    MultiCategorical,
)
from recurrent_rl.agents.errors import UserError
from recurrent_rl.agents.export.signature import RESERVED, Field, Signature, free_name
from recurrent_rl.agents.importing import class_path
from recurrent_rl.agents.memory.states import names_of, tensors_of, with_tensors
from recurrent_rl.agents.preprocessing import Reader
from recurrent_rl.agents.previous_step import PREVIOUS_ACTION, PREVIOUS_REWARD
from recurrent_rl.agents.spaces import component_spaces, storage_dtype

START, MASK = "episode_start", "action_mask"


class ExportError(UserError):
    """A policy that cannot be exported like this, or an export that computes something else."""


class Observation(nn.Module):
    """One component of a raw observation, brought to what the agent reads.

    As `Reader.read` does, without its checks: entries are hidden, counted from 0, or centred.
    """

    kept: Tensor | None
    origin: Tensor | None

    def __init__(self, reader: Reader, path: str, space: gym.Space[Any], name: str) -> None:
        super().__init__()
        self.path, self.space, self.name = path, space, name
        origin, self.dtype = _origin(reader, path, space)
        kept = None if reader.kept is None else torch.as_tensor(reader.kept)
        self.register_buffer("kept", kept)
        self.register_buffer("origin", origin)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, *space.shape]` to `[B, *component.shape]`."""
        if self.kept is not None:
            x = x.index_select(1, self.kept)
        x = x if self.origin is None else x - self.origin
        return x.to(storage_dtype(self.space))

    def example(self, batch: int) -> Tensor:
        """An observation of the space, `[B, *shape]`."""
        x = torch.zeros(batch, *(self.space.shape or ()), dtype=self.dtype)
        discrete = isinstance(self.space, (spaces.Discrete, spaces.MultiDiscrete))
        return x + self.origin if discrete and self.origin is not None else x


def _origin(reader: Reader, path: str, space: gym.Space[Any]) -> tuple[Tensor | None, torch.dtype]:
    """What is taken from a component before the agent reads it, and the type in which it comes."""
    if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)):
        start = np.asarray(space.start, dtype=np.int64)
        return (torch.as_tensor(start) if start.any() else None), torch.int64
    centre = reader.centre(path)
    if centre is not None:
        if space.dtype == np.float64:
            return centre, torch.float64
        # As int64, which PyTorch computes with: what wraps around is right again in a difference.
        wide = np.uint64 if space.dtype == np.uint64 else np.int64
        return torch.as_tensor(centre.numpy().astype(wide).astype(np.int64)), torch.int64
    return None, torch.uint8 if space.dtype == np.uint8 else torch.float32


class PolicyStep(nn.Module):
    """A policy's step: raw observation and state in, action and state out.

    All that a policy does to an observation and to an action is inside: hidden entries, scaling,
    normalisers, resets, masks, and the action as the environment takes it. That action is the
    deterministic one; logits, or mean and standard deviation, are for those who draw.

    The state is that of `PolicyState`: the memory's tensors and, of an agent that is fed it, the
    previous action as the agent's own tensor. Whoever draws actions puts what was drawn there.

    Args:
        agent: copied to the CPU, and not changed.
        value: also give the value, where the agent has a critic.

    Attributes:
        input_names: of the tensors that `forward` takes, in their order.
        output_names: of those that it gives.

    Raises:
        ExportError: the agent's head has a distribution that is not the library's.
        UserError: it has no `to_env_tensor`.
    """

    def __init__(self, agent: ActorCritic, value: bool = True) -> None:
        super().__init__()
        self.agent = copy.deepcopy(agent).cpu().eval()
        self.value = value and agent.has_critic
        names = observation_names(agent.observation_space)
        shown = shown_components(agent.observation_space)
        self.observations = nn.ModuleList(
            Observation(self.agent.reader, path, space, names[path])
            for path, space in shown.items()
        )
        components = component_spaces(agent.observation_space).items()
        self._empty = {path: space.shape or () for path, space in components if path not in shown}
        self.input_names = tuple(self.example(1))
        parameters = parameters_of(first_distribution(self.agent))
        self.output_names = ("action", *parameters, *["value"] * self.value)
        self.output_names += tuple(map(carried_out, carried(self.agent, 1)))

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """One step of `B` streams, by `input_names` and `output_names`."""
        agent, given = self.agent, dict(zip(self.input_names, inputs, strict=True))
        components = {part.path: part(given[part.name]) for part in self._parts()}
        for path, shape in self._empty.items():
            components[path] = torch.zeros(given[START].shape[0], *shape)
        state = [given[carried_in(name)] for name in carried(agent, 1)]
        previous = state.pop(0) if agent.config.previous_action else None
        if previous is not None:
            components[PREVIOUS_ACTION] = previous
        if agent.config.previous_reward:
            components[PREVIOUS_REWARD] = given[PREVIOUS_REWARD].unsqueeze(-1)
        memory = with_tensors(agent.initial_state(1), state)
        (distribution, value, _), after = agent.step(
            components, memory, given[START], given.get(MASK)
        )
        action = distribution.mode()
        outputs = [agent.head.to_env_tensor(action), *parameters_of(distribution).values()]
        outputs += [value] * self.value + [action] * (previous is not None)
        return (*outputs, *tensors_of(after))

    def example(self, batch: int) -> dict[str, Tensor]:
        """Inputs by name, in their order: the first step of `batch` episodes."""
        agent = self.agent
        inputs = {part.name: part.example(batch) for part in self._parts()}
        if agent.config.previous_reward:
            inputs[PREVIOUS_REWARD] = torch.zeros(batch)
        inputs[START] = torch.ones(batch, dtype=torch.bool)
        if agent.head.mask_size is not None:
            inputs[MASK] = torch.ones(batch, agent.head.mask_size, dtype=torch.bool)
        # Clones: tracing takes a tensor that comes twice, as two parts of a state may, for one.
        return inputs | {carried_in(name): x.clone() for name, x in carried(agent, batch).items()}

    def signature(self, batch: int | None) -> Signature:
        """Of a step of so many streams; None: of any number."""
        example = self.example(batch or 2)
        with torch.no_grad():
            outputs = dict(zip(self.output_names, self(*example.values()), strict=True))
        names = list(carried(self.agent, 1))
        state = {carried_in(name): carried_out(name) for name in names}
        memory = [name for name in names if name != PREVIOUS_ACTION]
        of_memory = {*map(carried_in, memory), *map(carried_out, memory)}

        def fields(tensors: dict[str, Tensor]) -> tuple[Field, ...]:
            found = []
            for name, x in tensors.items():
                shape: list[int | None] = list(x.shape)
                shape[int(name in of_memory)] = batch
                dtype = str(x.dtype).removeprefix("torch.")
                found.append(Field(name, tuple(shape), dtype, self._meaning(name)))
            return tuple(found)

        return Signature(fields(example), fields(outputs), state, batch)

    def _parts(self) -> Iterator[Observation]:
        for part in self.observations:
            assert isinstance(part, Observation)
            yield part

    def _meaning(self, name: str) -> str:
        """What an input or output is, in a sentence."""
        for part in self._parts():
            if part.name == name:
                where = f" under {part.path!r}" if part.path else ""
                return f"the observation{where} as it comes: {_in_a_line(part.space)}"
        if name == "logits" and isinstance(self.agent.action_space, spaces.MultiBinary):
            return "logits of the bits"
        if name in MEANINGS:
            return MEANINGS[name]
        if name == "action":
            space = _in_a_line(self.agent.action_space)
            return f"the deterministic action as the environment takes it: {space}"
        when = "before" if name.endswith("_in") else "after"
        if name in (carried_in(PREVIOUS_ACTION), carried_out(PREVIOUS_ACTION)):
            form = "a draw from mean and std" if "mean" in self.output_names else "counted from 0"
            return f"the action {when} this step in the agent's own form: {form}"
        return f"the memory {when} this step; axis 1 is the batch"


MEANINGS = {
    START: "true where this observation starts an episode: the state is then not read",
    MASK: "true for what is allowed, the components of an action one behind the other",
    PREVIOUS_REWARD: "the reward of the step before; not read where an episode starts",
    "logits": "log-probabilities of the actions, the components one behind the other",
    "mean": "of the normal distribution in the agent's own units, -1 to 1 from bound to bound",
    "std": "its standard deviations",
    "value": "the return that is expected from here",
}


def _in_a_line(space: gym.Space[Any]) -> str:
    return " ".join(str(space).split())


def shown_components(space: gym.Space[Any]) -> dict[str, gym.Space[Any]]:
    """The components of an observation space by path, without those that have no entries."""
    found = component_spaces(space).items()
    return {path: component for path, component in found if 0 not in (component.shape or ())}


def observation_names(space: gym.Space[Any]) -> dict[str, str]:
    """The name of each component's input by its path: `obs`, or `obs_KEY` where there are keys.

    What has no entries is no input.
    """
    names: dict[str, str] = {}
    for i, path in enumerate(shown_components(space)):
        names[path] = free_name(f"obs_{path}" if path else "obs", {*names.values()}, i)
    return names


Limits: TypeAlias = dict[str, tuple[NDArray[Any], NDArray[Any]]]
"""Of inputs that are whole numbers, the least and the greatest value of each entry, `[n]` each."""


def limits_of(space: gym.Space[Any]) -> Limits:
    """The least and greatest value of each entry, `[n]` each, by the inputs that are whole numbers.

    Of Discrete, MultiDiscrete and MultiBinary; a value between them is none of the space.
    """
    names, found = observation_names(space), {}
    for path, part in shown_components(space).items():
        if isinstance(part, spaces.MultiBinary):
            low = np.zeros(int(np.prod(part.shape)), np.int64)
            size = np.full_like(low, 2)
        elif isinstance(part, (spaces.Discrete, spaces.MultiDiscrete)):
            low = np.asarray(part.start).reshape(-1)
            size = np.asarray(part.n if isinstance(part, spaces.Discrete) else part.nvec).reshape(
                -1
            )
        else:
            continue
        found[names[path]] = (low, low + size - 1)
    return found


def parameters_of(distribution: Distribution) -> dict[str, Tensor]:
    """What a distribution is made of, by name, `[B, n]` each.

    Raises:
        ExportError: it is not the library's.
    """
    if isinstance(distribution, Categorical):
        return {"logits": distribution.log_probs}
    if isinstance(distribution, MultiCategorical):
        return {"logits": torch.cat([part.log_probs for part in distribution.parts], -1)}
    if isinstance(distribution, Bernoulli):
        return {"logits": distribution.logits}
    if isinstance(distribution, DiagonalGaussian):
        std = distribution.log_std.exp().expand_as(distribution.mean)
        return {"mean": distribution.mean, "std": std}
    raise ExportError(
        f"The action head gives a {class_path(type(distribution))}, whose parameters an export "
        "does not know. Let its forward give one of recurrent_rl.agents.distributions: "
        "Categorical, MultiCategorical, Bernoulli or DiagonalGaussian."
    )


def distribution_of(parameters: Mapping[str, Tensor], like: Distribution) -> Distribution:
    """The inverse of `parameters_of`.

    Args:
        parameters: by name.
        like: a distribution of the kind that is asked for, of any numbers.

    Raises:
        ExportError: the kind is not the library's, and may draw in a way of its own.
    """
    if type(like) is DiagonalGaussian:
        return DiagonalGaussian(parameters["mean"], parameters["std"].log())
    if type(like) is MultiCategorical:
        return MultiCategorical(parameters["logits"], like.sizes)
    for kind in (Categorical, Bernoulli):
        if type(like) is kind:
            return kind(parameters["logits"])
    raise ExportError(
        f"The action head gives a {class_path(type(like))}, which may draw in a way of its own."
    )


@torch.no_grad()
def first_distribution(agent: ActorCritic) -> Distribution:
    """What an agent's head gives for features that are all zero, one stream of them."""
    head = agent.head
    weight = head.linear.weight  # has the type and the device, whatever PyTorch's defaults are
    features = weight.new_zeros(1, head.linear.in_features)
    previous = None
    if agent.config.action_persistence:
        previous = weight.new_zeros(1, *head.action_shape)
    return head(features, None, previous)  # type: ignore[no-any-return]


def carried(agent: ActorCritic, batch: int) -> dict[str, Tensor]:
    """What goes from step to step, by name: the previous action where it is fed, and the memory.

    A part of the memory that is called as something else of a step has a number behind its name.

    Args:
        agent: whose state it is.
        batch: streams, before their first step.
    """
    state, head = agent.initial_state(batch), agent.head
    beside = [x.removesuffix("_in") for x in observation_names(agent.observation_space).values()]
    found = {}
    if agent.config.previous_action:
        shape = (batch, *head.action_shape)
        found[PREVIOUS_ACTION] = torch.zeros(shape, dtype=head.action_dtype)
    for name, x in zip(names_of(state), tensors_of(state), strict=True):
        taken = {PREVIOUS_ACTION, "action", *MEANINGS, *RESERVED, *beside, *found}
        found[free_name(name.removeprefix("state."), taken)] = x
    return found


def carried_in(name: str) -> str:
    """The name of the input for what is carried."""
    return f"{name}_in"


def carried_out(name: str) -> str:
    """The name of the output for what is carried."""
    return f"{name}_out"
