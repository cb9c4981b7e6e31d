"""What an agent is made of: its settings, each with its meaning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, TypeAlias

from torch import nn

from recurrent_rl.agents.encoders import ENCODERS, IMAGE_FEATURES
from recurrent_rl.agents.heads import HEADS, ActionHead
from recurrent_rl.agents.layers import ACTIVATIONS
from recurrent_rl.agents.memory.contract import Memory
from recurrent_rl.agents.memory.registry import MEMORIES, refuse_other_names
from recurrent_rl.agents.parts import OF_ONES_OWN
from recurrent_rl.agents.settings import (
    Must,
    OneOf,
    Read,
    SettingError,
    at_least,
    at_most,
    from_0_below_1,
    no_repeats,
    validated,
)

LARGEST_LAYER = 65_536
"""Units: the weights of one such layer of a GRU are 52 GB."""
MOST_LAYERS = 1000
"""Layers: more would only fill the memory."""

Keys = Annotated[tuple[str, ...], no_repeats("a key")]
"""Keys of a Dict observation."""
LayerSizes: TypeAlias = Annotated[
    tuple[Annotated[int, at_least(1), at_most(LARGEST_LAYER)], ...],
    Must(f"at most {MOST_LAYERS:,} layers", lambda sizes: len(sizes) <= MOST_LAYERS),
]
"""Units of each layer."""

if TYPE_CHECKING:
    from recurrent_rl.agents.parts import NameOf

    MemoryName = NameOf[Memory, str]
    EncoderName = NameOf[nn.Module, str | None]
    HeadName = NameOf[ActionHead, str | None]
else:  # what each holds, and how it is read
    MemoryName = Annotated[
        str,
        Read(MEMORIES.name_of_class),
        Read(refuse_other_names),
        OneOf(MEMORIES, OF_ONES_OWN),
    ]
    EncoderName = Annotated[str | None, Read(ENCODERS.name_of_class), OneOf(ENCODERS, OF_ONES_OWN)]
    HeadName = Annotated[str | None, Read(HEADS.name_of_class), OneOf(HEADS, OF_ONES_OWN)]


@validated
@dataclass(frozen=True)
class AgentConfig:
    """What the agent is made of. Saved in every policy file."""

    memory: MemoryName = "gru-rotor"  # type: ignore[assignment]
    """What the agent remembers with: none, rnn, lstm, gru, lstm-peephole, gru-original, mingru,
    minlstm, lru, rotor, gru-rotor, matrix or gru-matrix. gru-matrix is for exact recall. Or one of
    your own, registered or as module:Class; in Python also the class itself."""
    hidden_size: Annotated[int, at_least(1), at_most(LARGEST_LAYER)] = 128
    """Units in each layer of the memory. gru-rotor has twice as many in its rotor, beside its
    GRU."""
    num_layers: Annotated[int, at_least(1), at_most(MOST_LAYERS)] = 1
    """Layers of the memory, one on the other."""
    horizon: Annotated[int | None, at_least(1)] = 1024
    """Longest time, in steps, for which units are set to hold what they have before training; each
    unit gets a time of its own up to it (chrono initialisation). None leaves the biases of gates at
    zero."""
    separate_memory: bool = False
    """Give the critic an encoder and a memory of its own, instead of sharing the actor's."""
    critic_memory: bool = True
    """Whether the critic has a memory. False needs separate_memory: the critic then has an encoder
    of its own and no memory."""
    critic_keys: Keys = ()
    """Keys of a Dict observation that the critic alone sees, such as the true state of a simulator.
    The saved policy does not need them."""
    actor_keys: Keys = ()
    """Keys of a Dict observation that the actor sees. By default all but critic_keys; a key in
    neither is not used."""
    encoder_size: Annotated[int, at_least(2), at_most(LARGEST_LAYER)] = 128
    """Units in each layer of the encoder, which is before the memory. One of the last layer's
    says where episodes start."""
    encoder_layers: Annotated[int, at_least(0), at_most(MOST_LAYERS)] = 1
    """Layers of the encoder, which is before the memory."""
    actor_layers: LayerSizes = ()
    """Units of each layer between the memory and the action head; by default there is none."""
    critic_layers: LayerSizes = ()
    """Units of each layer between the memory and the value; by default there is none."""
    layers_activation: Annotated[str, OneOf(ACTIVATIONS)] = "tanh"
    """Activation of actor_layers and critic_layers: tanh, relu, silu or elu."""
    one_hot: bool = False
    """Show discrete observations and the previous action as one-hot vectors, instead of a learnt
    vector of 32 numbers for each value."""
    image_features: Annotated[int, at_least(1), at_most(LARGEST_LAYER)] = IMAGE_FEATURES
    """Features that the convolutional network makes of each image."""
    encoder: EncoderName = None  # type: ignore[assignment]
    """Encoder of your own for observations, registered or as module:Class; the layers of
    encoder_layers come after it. By default (None) the library's, by the kind of space."""
    head: HeadName = None  # type: ignore[assignment]
    """Action head of your own, registered or as module:Class. By default (None) the library's, by
    the action space."""
    activation: Annotated[str, OneOf(ACTIVATIONS)] = "tanh"
    """Activation of the encoder: tanh, relu, silu or elu."""
    previous_action: bool = True
    """Show the agent its previous action beside the observation."""
    previous_reward: bool = False
    """Show the agent its previous reward beside the observation. For tasks where what was paid says
    what to do now, such as bandits."""
    action_persistence: Annotated[float, from_0_below_1()] = 0.0
    """Make exploration last: this share of the previous continuous action goes into the mean of the
    next, 0 <= share < 1. What is tried out lasts for about 1 / (1 - share) steps."""
    normalize_observations: bool = True
    """Scale vectors of floats to zero mean and unit variance, by what was seen of them."""
    normalize_returns: bool = True
    """Let the critic predict returns scaled to zero mean and unit variance (PopArt). The rewards
    stay as they are."""

    def __post_init__(self) -> None:
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
