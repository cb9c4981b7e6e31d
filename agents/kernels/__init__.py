"""How a sequence is computed: functions of arrays and weights that know no module.

`y, state = unroll(cell, weights, x, state, episode_start)` for one layer; `dispatch.py` says which
kernels there are and which one is taken.
"""

from recurrent_rl.agents.kernels.cell import Cell, GatedCell, LayerState, LinearCell, MatrixCell
from recurrent_rl.agents.kernels.chunked import attention
from recurrent_rl.agents.kernels.dispatch import step, unroll
from recurrent_rl.agents.kernels.library import changing_weights, frozen_weights
from recurrent_rl.agents.kernels.safeguards import MemoryInputError, SecondDerivativeError

__all__ = [
    "Cell",
    "GatedCell",
    "LayerState",
    "LinearCell",
    "MatrixCell",
    "MemoryInputError",
    "SecondDerivativeError",
    "attention",
    "changing_weights",
    "frozen_weights",
    "step",
    "unroll",
]
