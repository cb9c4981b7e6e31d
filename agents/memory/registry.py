"""The memories by name."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any

from recurrent_rl.agents.arguments import argument
from recurrent_rl.agents.importing import class_path
from recurrent_rl.agents.memory.cells import GRU, LSTM, RNN, OriginalGRU, PeepholeLSTM
from recurrent_rl.agents.memory.composite import GRUMatrix, GRURotor
from recurrent_rl.agents.memory.contract import Memory, NoMemory
from recurrent_rl.agents.memory.linear_cells import LRU, MinGRU, MinLSTM, Rotor
from recurrent_rl.agents.memory.matrix import Matrix
from recurrent_rl.agents.memory.states import fault_of
from recurrent_rl.agents.parts import Own, Parts, output_size_of, takes
from recurrent_rl.agents.settings import SettingError, at_least


def _fault(part: type) -> str | None:
    """What a class lacks to be a memory."""
    if not issubclass(part, Memory):
        ours = _ours(part.__name__) if part.__module__.startswith("torch.nn") else None
        return "it is no subclass of recurrent_rl.Memory" + (f"; ours is {ours!r}" if ours else "")
    for names in (("initial_state",), ("step", "_step")):
        if all(getattr(part, name) is getattr(Memory, name) for name in names):
            return f"it defines no {names[0]}"
    return takes(part, ("input_size", "hidden_size", "num_layers"))


_BUILT_IN: dict[str, Callable[[int, int, int], Memory]] = {
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

MEMORIES: Parts[Memory] = Parts("memory", _BUILT_IN, _fault)
"""Each is made from the sizes input_size, hidden_size and num_layers."""

_OTHERS = re.compile(r"(?:.*\.)?(?:Mlp|Cnn|MultiInput)?(\w*?)(?:Policy|Cell)?")
"""The memory in a name of PyTorch (`nn.LSTM`), or of Stable-Baselines3 (`MlpLstmPolicy`)."""


def _ours(name: str) -> str | None:
    """What a memory of PyTorch or Stable-Baselines3 is called here; None where it is none."""
    if (found := _OTHERS.fullmatch(name)) is None:
        return None
    ours = found[1].lower() or "none"  # MlpPolicy
    return ours if ours in _BUILT_IN else None


def refuse_other_names(setting: str, value: Any) -> Any:
    """Refuse another library's name of a memory; leave everything else as it is.

    Raises:
        SettingError: says what it is called here.
    """
    if isinstance(value, str) and value and value not in MEMORIES and (ours := _ours(value)):
        raise SettingError(f"{setting} is {value!r}; here that is {ours!r}.")
    return value


def register_memory(name: str) -> Callable[[Own], Own]:
    """Give a memory of your own a name, by which settings, files and the command line know it.

    A decorator of a subclass of `Memory`. A class that is not registered can be named as
    `module:Class`.

    Args:
        name: a letter, then letters, digits, dots, dashes and underscores.

    Raises:
        SettingError: the name is none, is the library's or another class's, or the class lacks the
            contract.
    """
    return MEMORIES.register(name)


def make_memory(
    name: str,
    input_size: int,
    hidden_size: int,
    num_layers: int,
    horizon: int = 0,
    start_feature: int | None = None,
) -> Memory:
    """The memory of this name, after `initialise_time_scales(horizon, start_feature)`.

    The module of one that is named as `module:Class` is imported.

    Raises:
        SettingError: there is no such memory, or a size is below 1 or no whole number.
    """
    part = MEMORIES.named(name)
    return build_memory(part, input_size, hidden_size, num_layers, horizon, start_feature)


def build_memory(
    part: Callable[..., Memory],
    input_size: int,
    hidden_size: int,
    num_layers: int,
    horizon: int = 0,
    start_feature: int | None = None,
) -> Memory:
    """As `make_memory`, of a class."""
    size = Annotated[int, at_least(1)]
    memory = part(
        argument("input_size", input_size, size),
        argument("hidden_size", hidden_size, size),
        argument("num_layers", num_layers, size),
    )
    if not any(part is known for known in _BUILT_IN.values()):
        output_size_of(memory, "memory")
        if fault := fault_of(memory.initial_state(2), 2):
            raise SettingError(
                f"{class_path(type(memory))}.initial_state(2) gives no state: {fault}. "
                "recurrent_rl.testing.check_memory tries the whole contract."
            )
    horizon = argument("horizon", horizon, Annotated[int, at_least(0)])
    memory.initialise_time_scales(horizon, start_feature)
    return memory
