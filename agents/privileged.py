"""What the critic sees and the actor does not: keys of a Dict observation.

In training the critic may know more than the policy that is to act without it, such as the true
state beside a noisy reading (asymmetric actor-critic, Pinto et al. 2018). The state takes no place
of the memory: a value of the state alone would not say what an actor does who has seen this
history and no other (Baisero & Amato 2022). So the critic reads both.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

import gymnasium as gym
import torch
from gymnasium import spaces
from torch import Tensor

from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.encoders import Encoder
from recurrent_rl.agents.fixed_parts import FixedParts
from recurrent_rl.agents.normalisers import ObservationNormaliser
from recurrent_rl.agents.preprocessing import Reader
from recurrent_rl.agents.settings import SettingError, close_matches
from recurrent_rl.agents.spaces import Components


class Seen(NamedTuple):
    """An observation space by who sees what."""

    actor: gym.Space[Any]
    critic: spaces.Dict | None
    """What the critic alone sees; None where it sees what the actor does."""

    @property
    def together(self) -> gym.Space[Any]:
        """All that one of them sees."""
        if self.critic is None:
            return self.actor
        assert isinstance(self.actor, spaces.Dict)
        return spaces.Dict([*self.actor.spaces.items(), *self.critic.spaces.items()])


def seen_by(
    space: gym.Space[Any], actor_keys: Collection[str], critic_keys: Collection[str]
) -> Seen:
    """Who sees which keys of an observation space.

    Args:
        space: of the environment's observation.
        actor_keys: what the actor sees; none: all but `critic_keys`.
        critic_keys: what the critic alone sees; none: there is no such key.

    Raises:
        SettingError: the space is no Dict, lacks a key, or has none left for the actor.
    """
    if not critic_keys:
        return Seen(space, None)
    if not isinstance(space, spaces.Dict):
        raise SettingError(
            f"critic_keys is {list(critic_keys)}, but the observation space {space} has no keys: "
            "it is no Dict. Leave critic_keys out, or have the environment observe a Dict."
        )
    for name, keys in (("actor_keys", actor_keys), ("critic_keys", critic_keys)):
        if lacking := [key for key in keys if key not in space.spaces]:
            near = close_matches(lacking[0], space.spaces, most=1, cutoff=0.6)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise SettingError(
                f"{name} has {lacking[0]!r}, which the observation space lacks; its keys are "
                f"{', '.join(map(str, space.spaces))}.{hint}"
            )
    of_actor = [key for key in space.spaces if key in (actor_keys or space.spaces.keys())]
    of_actor = [key for key in of_actor if key not in critic_keys]
    if not of_actor:
        raise SettingError(
            f"critic_keys is {list(critic_keys)}, and the observation has no other key: nothing is "
            "left that the actor sees. Name fewer."
        )
    return Seen(_part(space, of_actor), _part(space, critic_keys))


def _part(space: spaces.Dict, keys: Collection[str]) -> spaces.Dict:
    """The space of these keys, in the space's order."""
    return spaces.Dict([(key, inner) for key, inner in space.spaces.items() if key in keys])


class Privileged(FixedParts):
    """Reads, normalises and encodes what the critic alone sees.

    Args:
        space: of what it alone sees.
        config: of the agent; its encoder is like the actor's. A critic with a memory of its own
            needs none here, since it reads these components there.

    Attributes:
        reader: of the raw observation.
        normaliser: of its components.
        output_size: features that the critic reads beside those of the memory.

    Raises:
        UnsupportedSpaceError: no encoder fits a component.
    """

    def __init__(self, space: spaces.Dict, config: AgentConfig) -> None:
        super().__init__()
        self.reader = Reader(space)
        components, scaling = self.reader.component_spaces, self.reader.scaling
        self.normaliser = ObservationNormaliser(components, scaling)
        self.encoder: Encoder | None = None
        if not config.separate_memory:
            self.encoder = Encoder(
                components,
                config.encoder_size,
                config.encoder_layers,
                config.activation,
                scaling=scaling,
                one_hot=config.one_hot,
                image_features=config.image_features,
            )
        self.output_size = 0 if self.encoder is None else self.encoder.output_size
        self.fix_parts()

    def beside(self, features: Tensor, seen: Components, episode_start: Tensor | None) -> Tensor:
        """The critic's features `[..., F]`, and beside them what it alone sees, encoded.

        Args:
            features: of the memory that the critic reads.
            seen: normalised components, `[..., *component.shape]` each.
            episode_start: bool `[...]`; None: all false.
        """
        if self.encoder is None:
            return features
        return torch.cat([features, self.encoder.forward(seen, episode_start)], dim=-1)
