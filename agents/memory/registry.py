"""The memories by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from recurrent_rl.agents.arguments import argument
from recurrent_rl.agents.memory.cells import GRU, LSTM, RNN, OriginalGRU, PeepholeLSTM
from recurrent_rl.agents.memory.composite import GRUMatrix, GRURotor
from recurrent_rl.agents.memory.contract import Memory, NoMemory
from recurrent_rl.agents.memory.linear_cells import LRU, MinGRU, MinLSTM, Rotor
from recurrent_rl.agents.memory.matrix import Matrix
from recurrent_rl.agents.settings import at_least, check_choice

MEMORIES: dict[str, Callable[[int, int, int], Memory]] = {
    "none": NoMemory,
    "rnn": RNN,
    "lstm": LSTM,
    "gru": GRU,
    "lstm-peephole": PeepholeLSTM,
    "gru-original": OriginalGRU,
    "mingru": MinGRU,
    "minlstm": MinLSTM,
    "lru": LRU,
    "rotor": Rotor,
    "gru-rotor": GRURotor,
    "matrix": Matrix,
    "gru-matrix": GRUMatrix,
}
"""Each is made from the sizes input_size, hidden_size and num_layers."""


def make_memory(
    name: str,
    input_size: int,
    hidden_size: int,
    num_layers: int,
    horizon: int = 0,
    start_feature: int | None = None,
) -> Memory:
    """The memory of this name, after `initialise_time_scales(horizon, start_feature)`.

    Raises:
        SettingError: there is no such memory, or a size is below 1 or no whole number.
    """
    size = Annotated[int, at_least(1)]
    memory = MEMORIES[check_choice("memory", name, MEMORIES)](
        argument("input_size", input_size, size),
        argument("hidden_size", hidden_size, size),
        argument("num_layers", num_layers, size),
    )
    horizon = argument("horizon", horizon, Annotated[int, at_least(0)])
    memory.initialise_time_scales(horizon, start_feature)
    return memory
