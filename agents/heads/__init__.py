"""Action heads: from features to a distribution over actions, and from there to the environment."""

from recurrent_rl.agents.heads.continuous import LOG_STD_RANGE, BoxHead
from recurrent_rl.agents.heads.contract import INITIAL_GAIN, ActionHead
from recurrent_rl.agents.heads.discrete import (
    CategoricalHead,
    DiscreteHead,
    MultiBinaryHead,
    MultiDiscreteHead,
)
from recurrent_rl.agents.heads.registry import HEADS, make_head, register_head

__all__ = [
    "HEADS",
    "INITIAL_GAIN",
    "LOG_STD_RANGE",
    "ActionHead",
    "BoxHead",
    "CategoricalHead",
    "DiscreteHead",
    "MultiBinaryHead",
    "MultiDiscreteHead",
    "make_head",
    "register_head",
]
