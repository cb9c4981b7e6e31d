"""The sequences that an update learns from."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from recurrent_rl.agents.memory.states import MemoryState
from recurrent_rl.agents.spaces import Components


class Sequences(NamedTuple):
    """Chunks of a rollout, side by side: what an update learns from.

    `C` chunks of `L` steps: all are `[L, C, ...]` but the states, whose axis 1 is `C`.
    """

    components: Components
    """What the agent read, `[L, C, ...]` by path; "" where it is one array."""
    action_mask: Tensor | None
    """`[L, C, mask_size]`, true for what is allowed; None before the first mask."""
    episode_start: Tensor
    """`[L, C]`, true where an episode starts with what was read."""
    valid: Tensor
    """`[L, C]`, false on rows that an autoreset inserted."""
    actions: Tensor
    """`[L, C, ...]`"""
    log_probs: Tensor
    """`[L, C]`, of the actions when they were drawn."""
    values: Tensor
    """`[L, C]`, as the critic predicted them in the rollout."""
    advantages: Tensor
    """`[L, C]`"""
    returns: Tensor
    """`[L, C]`, advantages plus values, which the critic is to predict."""
    state: MemoryState
    """Of the memory before each chunk's first step; tensors `[layers, C, hidden]`, or as the memory
    has them."""
    end_state: MemoryState
    """The same after each chunk's last step."""

    def select(self, chunks: Tensor) -> Sequences:
        """The chunks with these indices."""

        def pick(field: Any) -> Any:
            if isinstance(field, dict):
                return {name: pick(x) for name, x in field.items()}
            if isinstance(field, tuple):
                return type(field)(*map(pick, field))
            return None if field is None else field.index_select(1, chunks)

        return Sequences(*map(pick, self))
