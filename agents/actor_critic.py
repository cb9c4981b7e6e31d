"""The recurrent actor-critic: encoder, memory and heads, stepped and unrolled alike.

    components ─ normalise ─ encoder ─ memory ─┬─ actor layers ── action head ─ distribution
                                           └─ critic layers ─ critic ───── value

With `critic_keys` the critic reads more than the memory: `privileged` has what and how.
Rollout, update and the deployed policy all call `ActorCritic.step` or `ActorCritic.unroll`. Nothing
is remembered in the module: the memory's state is an argument and a result.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from types import NoneType
from typing import Annotated, Any, NamedTuple, TypeAlias

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recurrent_rl.agents.arguments import check_is
from recurrent_rl.agents.distributions import Distribution
from recurrent_rl.agents.encoders import (
    ACTIVATIONS,
    ENCODERS,
    IMAGE_FEATURES,
    Encoder,
    dense_layers,
)
from recurrent_rl.agents.heads import HEADS, ActionHead, make_head
from recurrent_rl.agents.kernels import MemoryInputError
from recurrent_rl.agents.memory.contract import Memory, NoMemory
from recurrent_rl.agents.memory.registry import MEMORIES, build_memory
from recurrent_rl.agents.memory.states import MemoryState, PairState
from recurrent_rl.agents.moments import Total
from recurrent_rl.agents.normalisers import ObservationNormaliser, ReturnNormaliser
from recurrent_rl.agents.parts import (
    OF_ONES_OWN,
    Parts,
    Settled,
    SettledList,
    class_path,
    import_module,
    imported_class,
)
from recurrent_rl.agents.preprocessing import Reader, scaling_of
from recurrent_rl.agents.privileged import Privileged, Seen, seen_by
from recurrent_rl.agents.settings import (
    Must,
    OneOf,
    Read,
    SettingError,
    at_least,
    at_most,
    build,
    check_choice,
    from_0_below_1,
    none_for_zero,
    reader,
    settle,
)
from recurrent_rl.agents.spaces import Components, UnsupportedSpaceError, check_action_space

PREVIOUS_ACTION = "previous_action"
PREVIOUS_REWARD = "previous_reward"

LARGEST_LAYER = 65_536
"""Units: the weights of one such layer of a GRU are 52 GB."""
MOST_LAYERS = 1000
"""Layers: more would only fill the memory."""

PARTS: dict[str, Parts[Any]] = {"memory": MEMORIES, "encoder": ENCODERS, "head": HEADS}
"""The parts that may be one's own, by the setting that names them."""

Keys = Annotated[
    tuple[str, ...], Must("without a key twice", lambda keys: len(set(keys)) == len(keys))
]
"""Keys of a Dict observation."""
LayerSizes: TypeAlias = Annotated[
    tuple[Annotated[int, at_least(1), at_most(LARGEST_LAYER)], ...],
    Must(f"at most {MOST_LAYERS:,} layers", lambda sizes: len(sizes) <= MOST_LAYERS),
]
"""Units of each layer."""

_read_text = reader(str)
_read_batch = reader(Annotated[int, at_least(0)])  # made once: acting without a state reads it


@dataclass(frozen=True)
class AgentConfig:
    """What the agent is made of. Saved in every policy file."""

    memory: Annotated[str, OneOf(MEMORIES, OF_ONES_OWN)] = "gru-rotor"
    """Memory cell: none, rnn, lstm, gru, lstm-peephole, gru-original, mingru, minlstm, lru, rotor,
    gru-rotor, matrix or gru-matrix; or one of your own, registered or as module:Class."""
    hidden_size: Annotated[int, at_least(1), at_most(LARGEST_LAYER)] = 128
    """Units in each layer of the memory; gru-rotor and gru-matrix have twice as many beside it."""
    num_layers: Annotated[int, at_least(1), at_most(MOST_LAYERS)] = 1
    """Layers of the memory."""
    horizon: Annotated[int | None, Read(none_for_zero), at_least(1)] = 1024
    """Steps up to which, before training, gates are set to hold what they have, each unit for a
    time of its own (chrono initialisation); None leaves their biases at zero."""
    separate_memory: bool = False
    """Give the critic an encoder and a memory of its own instead of sharing the actor's."""
    critic_memory: bool = True
    """False, together with separate_memory: the critic has an encoder of its own and no memory."""
    critic_keys: Keys = ()
    """Keys of a Dict observation that the critic alone sees, such as the true state; the saved
    policy lacks them. By default there are none."""
    actor_keys: Keys = ()
    """Keys that the actor sees; by default all but critic_keys. A key in neither is not used."""
    encoder_size: Annotated[int, at_least(2), at_most(LARGEST_LAYER)] = 128
    """Units in each layer of the encoder before the memory; in the last, one of them says where
    episodes start."""
    encoder_layers: Annotated[int, at_least(0), at_most(MOST_LAYERS)] = 1
    """Layers of the encoder before the memory."""
    actor_layers: LayerSizes = ()
    """Units of each layer between the memory and the action head; by default there is none."""
    critic_layers: LayerSizes = ()
    """Units of each layer between the memory and the value; by default there is none."""
    layers_activation: Annotated[str, OneOf(ACTIVATIONS)] = "tanh"
    """Activation of actor_layers and critic_layers: tanh, relu, silu or elu."""
    one_hot: bool = False
    """Show what is discrete, also the previous action, as a one-hot vector; by default each value
    has a learnt vector of 32 numbers."""
    image_features: Annotated[int, at_least(1), at_most(LARGEST_LAYER)] = IMAGE_FEATURES
    """Features that the convolutional network makes of each image."""
    encoder: Annotated[str | None, OneOf(ENCODERS, OF_ONES_OWN)] = None
    """Encoder of your own for what the environment shows, registered or as module:Class; the layers
    of the encoder stand on it. By default (None) the library's, by the kind of space."""
    head: Annotated[str | None, OneOf(HEADS, OF_ONES_OWN)] = None
    """Action head of your own, registered or as module:Class. By default (None) the library's, by
    the action space."""
    activation: Annotated[str, OneOf(ACTIVATIONS)] = "tanh"
    """Activation of the encoder: tanh, relu, silu or elu."""
    previous_action: bool = True
    """Also feed the previous action to the agent."""
    previous_reward: bool = False
    """Also feed the previous reward to the agent."""
    action_persistence: Annotated[float, from_0_below_1()] = 0.0
    """Share of the previous action that goes into the mean of a continuous action, 0 <= share < 1:
    what is tried out then lasts for about 1 / (1 - share) steps."""
    normalize_observations: bool = True
    """Scale float vector observations to zero mean and unit variance."""
    normalize_returns: bool = True
    """Let the critic learn returns of zero mean and unit variance (PopArt)."""

    @classmethod
    def from_file(cls, fields: Mapping[str, Any], given: Collection[str] = ()) -> AgentConfig:
        """From the fields that a file holds; an older one says 0 where there is no horizon.

        Args:
            fields: by name.
            given: settings that name a part whose class is given, so that the name need not be
                known in this process.

        Raises:
            SettingError: a field is unknown or cannot be.
        """
        if isinstance(fields, Mapping) and fields.get("horizon") == 0:
            fields = {**fields, "horizon": None}
        if not isinstance(fields, Mapping) or not given:
            return build(cls, fields)
        config = build(cls, {name: x for name, x in fields.items() if name not in given})
        for name in given:
            if fields.get(name) is not None:
                object.__setattr__(config, name, _read_text(name, fields[name]))
        return config

    def __post_init__(self) -> None:
        settle(self)
        if self.action_persistence and not self.previous_action:
            raise SettingError("action_persistence needs previous_action: the agent must see it.")
        if self.actor_keys and not self.critic_keys:
            raise SettingError(
                "actor_keys needs critic_keys, the keys that the critic alone sees. To hide keys "
                "from both, select with observe (EnvConfig.observe)."
            )
        if both := sorted({*self.actor_keys} & {*self.critic_keys}):
            raise SettingError(
                f"{both[0]!r} is in actor_keys and in critic_keys. The critic sees what the actor "
                "sees; name in critic_keys only what it sees alone."
            )
        if not (self.critic_memory or self.separate_memory):
            raise SettingError("critic_memory=False needs separate_memory: else it is the actor's.")


class AgentOutput(NamedTuple):
    """What the agent says about a step: how it would act, and the return it expects from here."""

    distribution: Distribution
    value: Tensor
    """NaN of an agent without a critic."""


class Trunk(Settled):
    """Encoder and memory: from observation components to the features that the heads read.

    Of several trunks each has its components. An encoder of one's own encodes those of `own_sees`.
    """

    def __init__(
        self,
        components: dict[str, gym.Space[Any]],
        scaling: dict[str, str],
        config: AgentConfig,
        parts: Mapping[str, Any],
        own_sees: Collection[str],
    ) -> None:
        super().__init__()
        silenced = frozenset(own_inputs(config))
        self.encoder = Encoder(
            components,
            config.encoder_size,
            config.encoder_layers,
            config.activation,
            silenced,
            scaling,
            parts["encoder"],
            own_sees,
            config.one_hot,
            config.image_features,
        )
        self.memory: Memory = build_memory(
            parts["memory"],
            self.encoder.output_size,
            config.hidden_size,
            config.num_layers,
            config.horizon or 0,
            start_feature=self.encoder.output_size - 1,
        )
        self.settle()


class ActorCritic(Settled):
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
        self.privileged: Privileged | None = None
        of_critic: dict[str, gym.Space[Any]] = {}
        if seen.critic is not None:
            self.privileged = Privileged(
                seen.critic,
                *(config.encoder_size, config.encoder_layers, config.activation),
                *(config.one_hot, config.image_features),
                encodes=not config.separate_memory,
            )
            of_critic = self.privileged.reader.component_spaces
        of_actor = dict(self.reader.component_spaces)
        if taken := sorted(own_inputs(config) & (of_actor.keys() | of_critic.keys())):
            raise UnsupportedSpaceError(
                f"The observation space has a key {taken[0]!r}, the name of an input of the "
                f"agent's own. Set {taken[0]} to false, or rename the key "
                "(gymnasium.wrappers.TransformObservation can)."
            )
        if config.previous_action:
            of_actor[PREVIOUS_ACTION] = previous_action_space(action_space)
        if config.previous_reward:
            of_actor[PREVIOUS_REWARD] = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)
        self.component_spaces = of_actor | of_critic

        # One trunk for both, or one each: everything below treats the two cases alike.
        inputs = [of_actor, self.component_spaces][: 2 if config.separate_memory and critic else 1]
        own = of_actor.keys() - self.reader.component_spaces.keys()
        every = self.reader.scaling | {path: scaling_of(of_actor[path]) for path in own}
        if self.privileged is not None:
            every |= self.privileged.reader.scaling
        made_of = found_parts(config, parts or {})
        shown = self.reader.component_spaces.keys()
        of_critic_alone = made_of if config.critic_memory else made_of | {"memory": NoMemory}
        trunks = [
            Trunk(components, every, config, made, shown)
            for components, made in zip(inputs, (made_of, of_critic_alone), strict=False)
        ]
        self.trunks = SettledList(trunks)
        self._encoders = [trunk.encoder for trunk in trunks]
        self._memories = [trunk.memory for trunk in trunks]
        self.actor_layers, features = self._layers(
            self._memories[0].output_size, config.actor_layers
        )
        self._actor_layers = list(self.actor_layers)
        self.head = make_head(action_space, features, config.action_persistence, made_of["head"])
        if config.previous_action:
            _check_fed_back(self.head, self.component_spaces[PREVIOUS_ACTION])
        if critic:
            beside = 0 if self.privileged is None else self.privileged.output_size
            self.critic_layers, features = self._layers(
                self._memories[-1].output_size + beside, config.critic_layers
            )
            self._critic_layers = list(self.critic_layers)
            self.critic = nn.Linear(features, 1)
            # Zero: values of any other size would be an error in the unit of nobody's rewards.
            nn.init.zeros_(self.critic.weight)
            nn.init.zeros_(self.critic.bias)
            self.return_normaliser = ReturnNormaliser()
        # The agent's own inputs are normalised where the environment's are: rewards have a scale.
        self.observation_normaliser = ObservationNormaliser(of_actor, every)
        self.trunks.settle()
        self.settle()

    def _layers(self, features: int, sizes: tuple[int, ...]) -> tuple[SettledList, int]:
        """The layers that read so many features, and the number of features behind them."""
        settled = SettledList(dense_layers(features, sizes, self.config.layers_activation))
        settled.settle()
        return settled, sizes[-1] if sizes else features

    def memories(self) -> list[Memory]:
        """The one that actor and critic share, or the actor's and the critic's."""
        return self._memories

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
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

    def centre_on(self, observation: Any, total: Total = list) -> None:
        """As `Reader.centre_on`, for all that is read."""
        self.reader.centre_on(observation, total)
        if self.privileged is not None:
            self.privileged.reader.centre_on(observation, total)

    def take_in(self, components: Components, valid: Tensor, total: Total = list) -> None:
        """As `ObservationNormaliser.update`, for all that is normalised."""
        self.observation_normaliser.update(components, valid, total)
        if self.privileged is not None:
            self.privileged.normaliser.update(components, valid, total)

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
            check_is(name, flags, (Tensor, NoneType), "a bool tensor, or None", MemoryInputError)
        # `forward` by name: calls through nn.Module cost a third of an acting step.
        seen = self._normalised(components)
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
        return AgentOutput(distribution, value), self._join(states)

    def _normalised(self, components: Components) -> Components:
        """The components as the encoders take them."""
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
        """Add the previous action and reward (`[B, ...]`, `[B]`) where the config says so.

        At an episode's first step their values do not matter: the encoder sets them to zero there.
        """
        if self.config.previous_action:
            components = {**components, PREVIOUS_ACTION: action}
        if self.config.previous_reward:
            assert reward is not None
            components = {**components, PREVIOUS_REWARD: reward.unsqueeze(-1)}
        return components

    def encode(self, components: Components, episode_start: Tensor) -> list[Tensor]:
        """What each of `memories()` is fed, `[..., F]` each: for the memory diagnostics."""
        seen = self._normalised(components)
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


def own_inputs(config: AgentConfig) -> set[str]:
    """The components that the agent is fed beside the environment's."""
    wanted = {PREVIOUS_ACTION: config.previous_action, PREVIOUS_REWARD: config.previous_reward}
    return {path for path, is_wanted in wanted.items() if is_wanted}


def found_parts(config: AgentConfig, given: Mapping[str, Any]) -> dict[str, Any]:
    """The parts that the config names; None where the library's go by the space.

    Modules are imported for it.

    Args:
        config: names them.
        given: classes in the place of what their names stand for in this process.

    Raises:
        SettingError: a part cannot be imported, or lacks its contract; or one is given where the
            config names the library's.
    """
    found: dict[str, Any] = {}
    for kind in given:
        check_choice("parts", kind, PARTS)
    for kind, parts in PARTS.items():
        name, own = getattr(config, kind), given.get(kind)
        if own is None:
            found[kind] = None if name is None else parts.named(name)
            continue
        parts.check(own)
        if not parts.is_own(name):
            library = "the library's own" if name is None else f"the library's {name}"
            raise SettingError(
                f"{kind} is given as {class_path(own)}, but the agent's is {library}. Leave "
                f"{kind} out."
            )
        found[kind] = own
    return found


def import_parts(paths: Iterable[str]) -> None:
    """Import what a user names, so that settings and files may name it too.

    Args:
        paths: modules, which register their parts, or classes as `module:Class`.

    Raises:
        SettingError: one cannot be imported, or is no part of an agent.
    """
    for path in paths:
        if ":" not in path:
            import_module(path, "--import")
            continue
        part = imported_class(path, "--import")
        kinds = [kind for kind, parts in PARTS.items() if parts.fault(part) is None]
        if not kinds:
            faults = "; ".join(f"as {kind}, {PARTS[kind].fault(part)}" for kind in PARTS)
            raise SettingError(f"--import is {path!r}, which is no part of an agent: {faults}.")
        PARTS[kinds[0]].take(path, part)


def own_parts(config: AgentConfig) -> dict[str, str]:
    """The names of the parts that are not the library's, by their setting."""
    names = {kind: getattr(config, kind) for kind in PARTS}
    return {kind: name for kind, name in names.items() if PARTS[kind].is_own(name)}


def _check_fed_back(head: ActionHead, space: gym.Space[Any]) -> None:
    """Refuse a head whose actions the agent cannot be fed."""
    if head.action_shape != (space.shape or ()):
        raise SettingError(
            f"{class_path(type(head))} has actions of shape {list(head.action_shape)}, and the "
            f"agent is fed its previous action as {list(space.shape or ())}. Give the head this "
            "action_shape, or set previous_action to false."
        )


def previous_action_space(action_space: gym.Space[Any]) -> gym.Space[Any]:
    """The space of `previous_action`: 0-based for discrete actions, raw for continuous ones."""
    if isinstance(action_space, gym.spaces.Discrete):
        return gym.spaces.Discrete(int(action_space.n))
    if isinstance(action_space, gym.spaces.MultiDiscrete):
        return gym.spaces.MultiDiscrete(action_space.nvec.reshape(-1))
    size = int(np.prod(action_space.shape or ()))
    if isinstance(action_space, gym.spaces.MultiBinary):
        return gym.spaces.MultiBinary(size)
    return gym.spaces.Box(-np.inf, np.inf, (size,), np.float32)
