"""The recurrent actor-critic: encoder, memory and heads, stepped and unrolled alike.

    components ─ normalise ─ encoder ─ memory ─┬─ actor layers ── action head ─ distribution
                                               └─ critic layers ─ critic ───── value

With `critic_keys` the critic reads more than the memory: `privileged` has what and how.
Rollout, update and the deployed policy all call `ActorCritic.step` or `ActorCritic.unroll`. Nothing
is remembered in the module: the memory's state is an argument and a result.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping
from types import NoneType
from typing import Annotated, Any, NamedTuple

import gymnasium as gym
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recurrent_rl.agents.action_masks import ActionMaskError
from recurrent_rl.agents.arguments import check_is
from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.distributions import Distribution
from recurrent_rl.agents.fixed_parts import FixedParts, FixedPartsList
from recurrent_rl.agents.heads import ActionHead, make_head
from recurrent_rl.agents.kernels import MemoryInputError
from recurrent_rl.agents.layers import dense_layers
from recurrent_rl.agents.memory.contract import Memory, NoMemory
from recurrent_rl.agents.memory.states import MemoryState, PairState
from recurrent_rl.agents.moments import Total
from recurrent_rl.agents.named_parts import PARTS, found_parts
from recurrent_rl.agents.normalisers import ObservationNormaliser, ReturnNormaliser
from recurrent_rl.agents.preprocessing import Reader, scaling_of
from recurrent_rl.agents.previous_step import (
    PREVIOUS_ACTION,
    PREVIOUS_REWARD,
    check_fed_back,
    check_names,
    previous_spaces,
)
from recurrent_rl.agents.privileged import Privileged, Seen, seen_by
from recurrent_rl.agents.settings import at_least, parser, refusal
from recurrent_rl.agents.spaces import Components, check_action_space, in_short, storage_type
from recurrent_rl.agents.trunk import Trunk

_read_batch = parser(Annotated[int, at_least(0)])  # made once: acting without a state reads it


_BOOLS = "a bool tensor, or None"


class AgentOutput(NamedTuple):
    """What the agent says about a step: how it would act, and the return it expects from here."""

    distribution: Distribution
    value: Tensor
    """NaN of an agent without a critic."""
    features: Tensor
    """What the actor's memory gives, `[..., memory.output_size]`."""


class ActorCritic(FixedParts):
    """A policy and a value function that share a memory, or have one each.

    Its modules stay those that it was made of: to replace one raises a SettingError.

    Args:
        observation_space: of one environment, any nesting of the supported spaces.
        action_space: of one environment.
        config: sizes and choices.
        hide_indices: entries of a vector observation that the agent is not to see.
        scaling: of each observation component, where a file says it; None for `scaling_of`.
        parts: classes by "memory", "encoder" or "head", in the place of those that the config's
            names stand for in this process.
        critic: false makes what `without_critic` gives: `observation_space` is then what the actor
            sees.

    Attributes:
        observation_space: of all that actor or critic see.
        has_critic: false where it only acts, and its values are NaN.
        privileged: of the critic, where it sees more than the actor; else None.

    Raises:
        UnsupportedSpaceError: a space has no encoder or no action head.
        SettingError: an argument is of another type, the observation lacks a key, or a part of
            one's own cannot be imported or lacks its contract.
    """

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        config: AgentConfig,
        hide_indices: Collection[int] = (),
        scaling: Mapping[str, str] | None = None,
        parts: Mapping[str, type[nn.Module]] | None = None,
        critic: bool = True,
    ) -> None:
        super().__init__()
        check_is("config", config, AgentConfig, "an AgentConfig")
        check_is("parts", parts, (Mapping, NoneType), f"classes by {', '.join(PARTS)}; or None")
        check_action_space(action_space)
        seen = Seen(observation_space, None)
        if critic:
            seen = seen_by(observation_space, config.actor_keys, config.critic_keys)
        self.observation_space = seen.together
        self.action_space = action_space
        self.config = config
        self.has_critic = critic
        self.reader = Reader(seen.actor, hide_indices, scaling)
        self.privileged = None if seen.critic is None else Privileged(seen.critic, config)
        of_critic = {} if self.privileged is None else self.privileged.reader.component_spaces
        shown = self.reader.component_spaces
        check_names(config, [*shown, *of_critic])
        previous = previous_spaces(config, action_space)
        of_actor = {**shown, **previous}
        self.component_spaces = of_actor | of_critic
        made_of = found_parts(config, parts or {})
        how_scaled = self._scaling(previous)

        # One trunk for both, or one each: everything below treats the two cases alike.
        trunks = [Trunk(of_actor, how_scaled, config, made_of, shown)]
        if critic and config.separate_memory:
            of_its_own = made_of if config.critic_memory else made_of | {"memory": NoMemory}
            trunks += [Trunk(self.component_spaces, how_scaled, config, of_its_own, shown)]
        self.trunks = FixedPartsList(trunks)
        self._encoders = [trunk.encoder for trunk in trunks]
        self._memories = [trunk.memory for trunk in trunks]
        self._make_actor(made_of["head"])
        if config.previous_action:
            check_fed_back(self.head, previous[PREVIOUS_ACTION])
        if critic:
            self._make_critic()
        # The agent's own inputs are normalised where the environment's are: rewards have a scale.
        self.observation_normaliser = ObservationNormaliser(of_actor, how_scaled, previous)
        self.trunks.fix_parts()
        self.fix_parts()

    def _scaling(self, previous: Mapping[str, gym.Space[Any]]) -> dict[str, str]:
        """How each component is scaled that actor or critic see, and those of the step before."""
        scaling = self.reader.scaling | {name: scaling_of(x) for name, x in previous.items()}
        return scaling if self.privileged is None else scaling | self.privileged.reader.scaling

    def _make_actor(self, own_head: Callable[..., ActionHead] | None) -> None:
        """The layers from the actor's memory to the distribution over actions."""
        config = self.config
        self.actor_layers, features = self._layers(
            self._memories[0].output_size, config.actor_layers
        )
        self._actor_layers = list(self.actor_layers)
        self.head = make_head(self.action_space, features, config.action_persistence, own_head)

    def _make_critic(self) -> None:
        """The layers from the critic's memory to the value."""
        beside = 0 if self.privileged is None else self.privileged.output_size
        self.critic_layers, features = self._layers(
            self._memories[-1].output_size + beside, self.config.critic_layers
        )
        self._critic_layers = list(self.critic_layers)
        self.critic = nn.Linear(features, 1)
        # Zero: values of any other size would be an error in the unit of nobody's rewards.
        nn.init.zeros_(self.critic.weight)
        nn.init.zeros_(self.critic.bias)
        self.return_normaliser = ReturnNormaliser()

    def _layers(self, features: int, sizes: tuple[int, ...]) -> tuple[FixedPartsList, int]:
        """The layers that read so many features, and the number of features behind them."""
        layers = FixedPartsList(dense_layers(features, sizes, self.config.layers_activation))
        layers.fix_parts()
        return layers, sizes[-1] if sizes else features

    def memories(self) -> list[Memory]:
        """The one that actor and critic share, or the actor's and the critic's."""
        return self._memories

    def in_short(self) -> str:
        """Its memory and spaces: `gru, Box(4,) to Discrete(2)`."""
        seen, done = in_short(self.observation_space), in_short(self.action_space)
        return f"{self.config.memory}, {seen} to {done}"

    @property
    def device(self) -> torch.device:
        """The device of the weights, such as cpu or cuda:0."""
        return self.head.linear.weight.device

    def without_critic(self) -> ActorCritic:
        """What acts of an agent with `critic_keys`: it sees the actor's keys, and has no critic.

        It is made of this agent's own modules, and so learns with it. An agent whose critic sees
        what the actor sees is given as it is.
        """
        if self.privileged is None:
            return self
        actor = copy.copy(self)
        acting = ("reader", "actor_layers", "head", "observation_normaliser")
        actor._modules = {name: self._modules[name] for name in acting} | {"privileged": None}
        actor._modules["trunks"] = self.trunks[:1]
        actor._encoders, actor._memories = self._encoders[:1], self._memories[:1]
        actor.observation_space, actor.has_critic = self.reader.observation_space, False
        hidden = self.privileged.reader.component_spaces
        actor.component_spaces = {
            path: space for path, space in self.component_spaces.items() if path not in hidden
        }
        return actor

    def read(self, observation: Any) -> dict[str, NDArray[Any]]:
        """A batch of raw observations by components, as `Reader.read`; those of the critic too."""
        arrays = self.reader.read(observation)
        if self.privileged is not None:
            arrays |= self.privileged.reader.read(observation)
        return arrays

    def as_tensors(self, arrays: Mapping[str, NDArray[Any]]) -> Components:
        """What `read` gave as tensors of their own, in the types in which training keeps it."""
        spaces = self.component_spaces
        return {
            path: torch.as_tensor(x.astype(storage_type(spaces[path]), "C"), device=self.device)
            for path, x in arrays.items()
        }

    def centre_on(self, observation: Any, total: Total = list) -> None:
        """As `Reader.centre_on`, for all that is read."""
        self.reader.centre_on(observation, total)
        if self.privileged is not None:
            self.privileged.reader.centre_on(observation, total)

    def take_in(
        self, components: Components, valid: Tensor, episode_start: Tensor, total: Total = list
    ) -> None:
        """Take components `[T, B, ...]` into the normalisers, and leave actions and values alone.

        Once the statistics have settled, the encoders' first layers make up for what still moves
        (`Encoder.keep_outputs`). A policy that moved with its statistics would follow what it made
        itself see: one that leans to a side would go off to that side, without learning a thing.

        Args:
            components: by path.
            valid: bool `[T, B]`; false where they do not count.
            episode_start: bool `[T, B]`; what happened before this step is not shown there.
            total: adds up the moments of all workers.
        """
        normaliser = self.observation_normaliser
        rescalings = normaliser.update(components, valid, episode_start, total)
        encoders = list(self._encoders)
        if self.privileged is not None:
            rescalings |= self.privileged.normaliser.update(components, valid, total=total)
            if self.privileged.encoder is not None:
                encoders.append(self.privileged.encoder)
        for encoder in encoders:
            encoder.keep_outputs(rescalings)

    def initial_state(self, batch: int) -> MemoryState:
        """A fresh state for `batch` streams: the memory's or, with `separate_memory`, a pair.

        Raises:
            SettingError: `batch` is no number of streams.
        """
        batch = _read_batch("batch", batch)
        return self._join([memory.initial_state(batch) for memory in self.memories()])

    def step(
        self,
        components: Components,
        state: MemoryState,
        episode_start: Tensor | None = None,
        action_mask: Tensor | None = None,
    ) -> tuple[AgentOutput, MemoryState]:
        """One time step.

        Args:
            components: observation components, each `[B, ...]`.
            state: the memory's state after the previous step, of `B` streams.
            episode_start: bool `[B]`; where true the state is reset before this observation.
                None: nowhere.
            action_mask: bool `[B, mask_size]`; false forbids an action.

        Returns:
            The distribution over actions and the value `[B]` in units of return; and the new state.
        """
        steps = [memory.step for memory in self._memories]
        return self._run(steps, components, state, episode_start, action_mask)

    def unroll(
        self,
        components: Components,
        state: MemoryState,
        episode_start: Tensor | None = None,
        action_mask: Tensor | None = None,
    ) -> tuple[AgentOutput, MemoryState]:
        """A whole sequence, equal to repeated `step`.

        Args:
            components: of the observation by path, `[T, B, *component.shape]` each.
            state: the memory's state before the first step, of `B` streams.
            episode_start: bool `[T, B]`; where true the state is reset before that observation.
                None: nowhere.
            action_mask: bool `[T, B, mask_size]`; false forbids an action.

        Returns:
            The distributions over actions and the values `[T, B]` in units of return; and the state
            after the last step.
        """
        unrolls = [memory.unroll for memory in self._memories]
        return self._run(unrolls, components, state, episode_start, action_mask)

    def _run(
        self,
        remember: list[Callable[..., tuple[Tensor, MemoryState]]],
        components: Components,
        state: MemoryState,
        episode_start: Tensor | None,
        action_mask: Tensor | None,
    ) -> tuple[AgentOutput, MemoryState]:
        check_is("components", components, dict, "tensors by component", MemoryInputError)
        for name, flags in (("episode_start", episode_start), ("action_mask", action_mask)):
            check_is(name, flags, (Tensor, NoneType), _BOOLS, MemoryInputError)
            if flags is not None and flags.dtype != torch.bool:
                raise MemoryInputError(refusal(name, flags, _BOOLS))
        self._check_all_there(components)
        if action_mask is not None:
            self.check_masks(action_mask.shape[-1])
        # `forward` by name: calls through nn.Module cost a third of an acting step.
        seen = self.normalised(components)
        features, states = [], []
        for encoder, run, part in zip(
            self._encoders, remember, self.split_state(state), strict=True
        ):
            feature, new_state = run(encoder.forward(seen, episode_start), part, episode_start)
            features.append(feature)
            states.append(new_state)
        # features[0] is the actor's, features[-1] the critic's: the same where they share.
        previous = components[PREVIOUS_ACTION] if self.config.action_persistence else None
        if previous is not None and episode_start is not None:
            previous = previous.masked_fill(episode_start.unsqueeze(-1), 0.0)
        of_actor = features[0]
        for layer in self._actor_layers:
            of_actor = layer.forward(of_actor)
        distribution = self.head.forward(of_actor, action_mask, previous)
        value = self._value(features[-1], seen, episode_start)
        return AgentOutput(distribution, value, features[0]), self._join(states)

    def check_masks(self, entries: int) -> None:
        """Refuse action masks of so many entries where the head takes others, or none.

        Raises:
            ActionMaskError: says what such a head needs.
        """
        takes = self.head.mask_size
        if takes != entries:
            raise ActionMaskError(
                f"There are action masks of {entries} entries, and the head "
                f"{type(self.head).__name__} takes {'none' if takes is None else f'{takes}'}: set "
                f"self.mask_size = {entries} in its __init__ and use mask in its forward, or have "
                "the environment give no masks."
            )

    def _check_all_there(self, components: Components) -> None:
        """Refuse an observation that lacks a component.

        Raises:
            MemoryInputError: names the first.
        """
        if missing := self.component_spaces.keys() - components.keys():
            raise MemoryInputError(
                f"components lacks {min(missing)!r}; it must hold "
                f"{', '.join(map(repr, self.component_spaces))}: what agent.as_tensors makes of "
                "what agent.read gives, and what agent.with_previous adds."
            )

    def normalised(self, components: Components) -> Components:
        """The components as the encoders take them: vectors of floats by what was seen of them."""
        if not self.config.normalize_observations:
            return components
        seen = self.observation_normaliser.forward(components)
        return seen if self.privileged is None else self.privileged.normaliser.forward(seen)

    def _value(self, features: Tensor, seen: Components, episode_start: Tensor | None) -> Tensor:
        """The values `[...]` of the features that the critic's memory gives, in units of return."""
        if not self.has_critic:
            return features.new_full(features.shape[:-1], torch.nan)
        if self.privileged is not None:
            features = self.privileged.beside(features, seen, episode_start)
        for layer in self._critic_layers:
            features = layer.forward(features)
        return self.return_normaliser.denormalise(self.critic.forward(features).squeeze(-1))

    def with_previous(
        self, components: Components, action: Tensor, reward: Tensor | None
    ) -> Components:
        """Add the previous action and reward where the config says so.

        Args:
            components: what `as_tensors` gave.
            action: `[B, ...]`, in the head's form: as `PolicyState.previous_action` is.
            reward: `[B]`, where the agent is fed it.

        At an episode's first step their values do not matter: the encoder sets them to zero there.

        Raises:
            MemoryInputError: the agent is fed the reward, and there is none.
        """
        if self.config.previous_action:
            components = {**components, PREVIOUS_ACTION: action}
        if self.config.previous_reward:
            if reward is None:
                raise MemoryInputError("This agent is fed its previous reward: give reward, [B].")
            components = {**components, PREVIOUS_REWARD: reward.unsqueeze(-1)}
        return components

    def encode(self, components: Components, episode_start: Tensor) -> list[Tensor]:
        """What each of `memories()` is fed, `[..., F]` each: for the memory diagnostics."""
        seen = self.normalised(components)
        return [encoder(seen, episode_start) for encoder in self._encoders]

    def split_state(self, state: MemoryState) -> list[MemoryState]:
        """The state of each of `memories()`.

        Raises:
            MemoryInputError: it is of another kind of agent.
        """
        if len(self._memories) == 1:
            return [state]
        if not isinstance(state, PairState):
            raise MemoryInputError(
                f"The state is a {type(state).__name__}; an agent with separate_memory needs a "
                "PairState, as initial_state(batch) gives."
            )
        return list(state)

    def _join(self, states: list[MemoryState]) -> MemoryState:
        return states[0] if len(states) == 1 else PairState(*states)
