"""The memories by name."""

from __future__ import annotations

from recurrent_rl.agents.memory.cells import GRU, LSTM, RNN, OriginalGRU, PeepholeLSTM
from recurrent_rl.agents.memory.composite import GRURotor
from recurrent_rl.agents.memory.contract import Memory, NoMemory
from recurrent_rl.agents.memory.linear_cells import LRU, MinGRU, MinLSTM, Rotor
from recurrent_rl.agents.settings import check_choice

MEMORIES: dict[str, type[Memory]] = {
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
}


def make_memory(
    name: str,
    input_size: int,
    hidden_size: int,
    num_layers: int,
    horizon: int = 0,
    start_feature: int | None = None,
) -> Memory:
    """The memory of this name, its gates set by `Memory.hold_for(horizon, start_feature)`.

    Raises:
        ValueError: there is no such memory, or a size is below 1.
    """
    memory = MEMORIES[check_choice("memory", name, MEMORIES)](input_size, hidden_size, num_layers)
    memory.hold_for(horizon, start_feature)
    return memory
