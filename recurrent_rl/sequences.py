"""The sequences that an update learns from."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from recurrent_rl.agents.memory.states import MemoryState
from recurrent_rl.agents.spaces import Components


class Sequences(NamedTuple):
    """Chunks of a rollout, side by side: what an update learns from. `C` chunks of `L` steps."""

    components: Components  # [L, C, ...]
    action_mask: Tensor | None  # [L, C, mask_size]
    episode_start: Tensor  # [L, C]
    valid: Tensor  # [L, C]; false on rows that an autoreset inserted
    actions: Tensor  # [L, C, ...]
    log_probs: Tensor  # [L, C]
    values: Tensor  # [L, C]
    advantages: Tensor  # [L, C]
    returns: Tensor  # [L, C]
    state: MemoryState  # fields [layers, C, hidden]: stored before each chunk's first step
    end_state: MemoryState  # the same after its last step

    def select(self, chunks: Tensor) -> Sequences:
        """The chunks with these indices."""

        def pick(field: Any) -> Any:
            if isinstance(field, dict):
                return {name: pick(x) for name, x in field.items()}
            if isinstance(field, tuple):
                return type(field)(*map(pick, field))
            return None if field is None else field.index_select(1, chunks)

        return Sequences(*map(pick, self))
