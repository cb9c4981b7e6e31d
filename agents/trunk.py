"""The trunk of an agent: what lies between the observation and the heads."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import gymnasium as gym

from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.encoders import Encoder
from recurrent_rl.agents.fixed_parts import FixedParts
from recurrent_rl.agents.memory.contract import Memory
from recurrent_rl.agents.memory.registry import build_memory
from recurrent_rl.agents.previous_step import previous_inputs


class Trunk(FixedParts):
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
        self.encoder = Encoder(
            components,
            config.encoder_size,
            config.encoder_layers,
            config.activation,
            silenced=frozenset(previous_inputs(config)),
            scaling=scaling,
            own=parts["encoder"],
            own_sees=own_sees,
            one_hot=config.one_hot,
            image_features=config.image_features,
        )
        self.memory: Memory = build_memory(
            parts["memory"],
            self.encoder.output_size,
            config.hidden_size,
            config.num_layers,
            config.horizon or 0,
            start_feature=self.encoder.output_size - 1,
        )
        self.fix_parts()
