"""The memories by name."""

from __future__ import annotations

import difflib

from recurrent_rl.agents.cells import GRU, LSTM, RNN, OriginalGRU, PeepholeLSTM
from recurrent_rl.agents.composite import GRURotor
from recurrent_rl.agents.linear_cells import LRU, MinGRU, MinLSTM, Rotor
from recurrent_rl.agents.memory import Memory, NoMemory

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


def check_memory_name(name: str) -> None:
    """Refuse a memory that does not exist.

    Raises:
        ValueError: names the memories there are, and the likeliest.
    """
    if name not in MEMORIES:
        near = difflib.get_close_matches(name, MEMORIES, n=1, cutoff=0.4)
        hint = f"Did you mean {near[0]}? " if near else ""
        raise ValueError(f"Unknown memory {name!r}. {hint}Choose one of {', '.join(MEMORIES)}.")


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
    check_memory_name(name)
    memory = MEMORIES[name](input_size, hidden_size, num_layers)
    memory.hold_for(horizon, start_feature)
    return memory
