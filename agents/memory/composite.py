"""Two memories side by side, each with what the other lacks."""

from __future__ import annotations

import torch
from torch import Tensor

from recurrent_rl.agents.memory.cells import GRU
from recurrent_rl.agents.memory.contract import Memory, Reads
from recurrent_rl.agents.memory.layered import LayeredMemory
from recurrent_rl.agents.memory.linear_cells import Rotor
from recurrent_rl.agents.memory.matrix import Matrix
from recurrent_rl.agents.memory.states import CompositeState, MemoryState


class Composite(Memory):
    """A GRU and another memory: both read the input, and the outputs are side by side.

    The GRU's gates depend on what it holds: it latches on to one thing among many, and filters,
    which a memory that is linear in its state cannot.

    Args:
        input_size: features of an input.
        gru: the first.
        name: of the second, in the names of the weights.
        other: the second, of as many layers; the two are not joined in between.
    """

    state_type = CompositeState

    def __init__(self, input_size: int, gru: GRU, name: str, other: LayeredMemory) -> None:
        super().__init__(input_size, gru.output_size + other.output_size)
        self.gru = gru
        self.add_module(name, other)
        self._name = name

    @property
    def other(self) -> LayeredMemory:
        """The memory beside the GRU."""
        other: LayeredMemory = getattr(self, self._name)
        return other

    def initialise_time_scales(self, horizon: int, start_feature: int | None = None) -> None:
        """As each of the two."""
        self.gru.initialise_time_scales(horizon, start_feature)
        self.other.initialise_time_scales(horizon, start_feature)

    def initial_state(self, batch: int) -> MemoryState:
        """A fresh state of both."""
        return CompositeState(self.gru.initial_state(batch), self.other.initial_state(batch))

    def _weight(self) -> Tensor | None:
        return self.gru._weight()

    def _step(
        self, x: Tensor, state: MemoryState, episode_start: Tensor | None
    ) -> tuple[Tensor, MemoryState]:
        gru, other = state
        return _beside(
            self.gru._step(x, gru, episode_start), self.other._step(x, other, episode_start)
        )

    def _unroll(
        self, x: Tensor, state: MemoryState, episode_start: Tensor | None
    ) -> tuple[Tensor, MemoryState]:
        gru, other = state
        return _beside(
            self.gru._unroll(x, gru, episode_start), self.other._unroll(x, other, episode_start)
        )

    def gates(self, x: Tensor, state: MemoryState) -> dict[str, Tensor]:
        """Those of both."""
        gru, other = state
        return {**self.gru.gates(x, gru), **self.other.gates(x, other)}

    def reads(
        self, x: Tensor, state: MemoryState, episode_start: Tensor | None = None
    ) -> dict[str, Reads]:
        """Those of both."""
        gru, other = state
        return {
            **self.gru.reads(x, gru, episode_start),
            **self.other.reads(x, other, episode_start),
        }

    def _check_state(self, state: MemoryState, x: Tensor) -> None:
        for part, of_part in zip((self.gru, self.other), state, strict=True):
            part._check_kind(of_part)
            part._check_state(of_part, x)


class GRURotor(Composite):
    """A GRU, and a rotor with twice as many units.

    The rotor, a complex-valued linear recurrence, knows when something was seen, puts in order and
    counts.

    Args:
        input_size: features of an input.
        hidden_size: units of the GRU; with the rotor's there are three times as many.
        num_layers: layers of each.
    """

    gate_names = ("reset", "update", "forget")

    def __init__(self, input_size: int, hidden_size: int, num_layers: int) -> None:
        gru = GRU(input_size, hidden_size, num_layers)
        rotor = Rotor(input_size, 2 * hidden_size, num_layers)
        super().__init__(input_size, gru, "rotor", rotor)


class GRUMatrix(Composite):
    """A GRU, and a matrix memory, which recalls exactly: by age, by place or by content.

    Args:
        input_size: features of an input.
        hidden_size: units of the GRU; `Matrix` says what it makes of it.
        num_layers: layers of each.
    """

    gate_names = ("reset", "update", "decay")

    def __init__(self, input_size: int, hidden_size: int, num_layers: int) -> None:
        gru = GRU(input_size, hidden_size, num_layers)
        matrix = Matrix(input_size, hidden_size, num_layers)
        super().__init__(input_size, gru, "matrix", matrix)


def _beside(
    gru: tuple[Tensor, MemoryState], other: tuple[Tensor, MemoryState]
) -> tuple[Tensor, MemoryState]:
    """The outputs of both, one beside the other, and their states."""
    return torch.cat([gru[0], other[0]], dim=-1), CompositeState(gru[1], other[1])
