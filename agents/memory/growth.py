"""A larger memory that begins as a smaller one: where the weights of the one stand in the other's.

The old units keep their weights and read nothing of the new ones, which start untrained (after
Net2WiderNet, Chen et al. 2016, with zeros in the place of copies). So all that the old units
compute stays as it was, until training lets the new ones in.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from recurrent_rl.agents.memory.cells import GRU, LSTM, RNN, OriginalGRU, PeepholeLSTM
from recurrent_rl.agents.memory.composite import Composite, GRUMatrix, GRURotor
from recurrent_rl.agents.memory.contract import Memory, NoMemory
from recurrent_rl.agents.memory.layered import LayeredMemory
from recurrent_rl.agents.memory.linear_cells import LRU, MinGRU, MinLSTM, Rotor
from recurrent_rl.agents.memory.matrix import Matrix

_GROWING = (RNN, LSTM, GRU, PeepholeLSTM, OriginalGRU, MinGRU, MinLSTM, LRU, Rotor)
_AXES = {
    "weight_ih": ("rows", "input"),
    "weight_hh": ("rows", "hidden"),
    "bias_ih": ("rows",),
    "bias_hh": ("rows",),
    "weight": ("rows", "input"),
    "bias": ("rows",),
    "peephole": ("gates", "hidden"),
    "output": ("hidden", "hidden"),
    "skip": ("hidden", "input"),
    "nu": ("half",),
    "theta": ("half",),
    "gamma": ("half",),
}
"""What the axes of a layer's parameters are, by the parameter's name."""


def cannot_grow(memory: Memory) -> str | None:
    """Why a memory cannot have more units and compute the same; None: it can."""
    if type(memory) in (Matrix, GRUMatrix):
        return (
            "its matrices are read by keys whose angles, and scaled by a mean, that go by their "
            "size"
        )
    if type(memory) not in (*_GROWING, GRURotor, NoMemory):
        return "what its weights mean is not known here"
    return None


def places(old: Memory, new: Memory) -> dict[str, tuple[Tensor, ...]]:
    """Where each parameter of a memory stands in a larger one's: indices by axis, by its name.

    Args:
        old: a memory that can grow.
        new: of the same kind, with as many layers and inputs, and as many units or more.
    """
    if isinstance(old, Composite) and isinstance(new, Composite):
        parts = {
            f"{name}.": places(getattr(old, name), getattr(new, name))
            for name, _ in old.named_children()
        }
        return {before + name: at for before, part in parts.items() for name, at in part.items()}
    if not isinstance(old, LayeredMemory) or not isinstance(new, LayeredMemory):
        return {}
    return {
        name: tuple(map(_index, _segments(old, name), _segments(new, name)))
        for name, _ in old.named_parameters()
    }


def output_places(old: Memory, new: Memory) -> Tensor:
    """Where the outputs of a memory stand among a larger one's."""
    return _index(_outputs(old), _outputs(new))


def place(x: Tensor, into: Tensor, at: Sequence[Tensor]) -> Tensor:
    """A larger tensor that holds a smaller one at these indices by axis.

    Along the first axis lie units that read, along the second, where there is one, what they read:
    what was there reads nothing new.
    """
    result = into.clone()
    result[at[0]] = 0
    result[torch.meshgrid(*at, indexing="ij")] = x
    return result


def _index(old: Sequence[int], new: Sequence[int]) -> Tensor:
    """Where segments of old sizes stand in those of new sizes, each at the start of its own."""
    starts = accumulate(new, initial=0)
    return torch.cat([start + torch.arange(size) for start, size in zip(starts, old, strict=False)])


def _outputs(memory: Memory) -> tuple[int, ...]:
    """The segments of a memory's output."""
    if isinstance(memory, Composite):
        return memory.gru.output_size, memory.other.output_size
    return (memory.output_size,)


def _segments(memory: LayeredMemory, name: str) -> list[tuple[int, ...]]:
    """The segments of each axis of a parameter."""
    kind, _, layer = name.rpartition(".")[2].rpartition("_l")
    hidden = memory.hidden_size
    # The rotor's second block makes two gates of its complex units, which are half as many.
    blocks = (hidden, hidden // 2, hidden // 2) if isinstance(memory, Rotor) else None
    sizes: dict[str, tuple[int, ...]] = {
        "rows": blocks or (hidden,) * memory.num_blocks,
        "input": (memory.input_size if layer == "0" else hidden,),
        "hidden": (hidden,),
        "half": (hidden // 2,),
        "gates": (memory.get_parameter(name).shape[0],),
    }
    return [sizes[axis] for axis in _AXES[kind]]
