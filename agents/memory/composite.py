"""Two memories side by side, each with what the other lacks."""

from __future__ import annotations

import torch
from torch import Tensor

from recurrent_rl.agents.memory.cells import GRU
from recurrent_rl.agents.memory.contract import Memory, check_fields
from recurrent_rl.agents.memory.linear_cells import Rotor
from recurrent_rl.agents.memory.states import (
    CompositeState,
    GRUState,
    LinearState,
    MemoryState,
)


class GRURotor(Memory):
    """A GRU, and a rotor with twice as many units; both read the input, both are read.

    The GRU's gates depend on what it holds: it latches on to one thing among many, and filters. The
    rotor, a complex-valued linear recurrence, tells when something was seen, puts in order and
    counts. The state is the GRU's h beside the rotor's, and so is the output.

    Args:
        input_size: features of an input.
        hidden_size: units of the GRU; with the rotor's there are three times as many.
        num_layers: layers of each; the two are not joined in between.
    """

    state_type = CompositeState
    gate_names = ("reset", "update", "forget")

    def __init__(self, input_size: int, hidden_size: int, num_layers: int) -> None:
        super().__init__(input_size, 3 * hidden_size)
        self.gru = GRU(input_size, hidden_size, num_layers)
        self.rotor = Rotor(input_size, 2 * hidden_size, num_layers)

    def initialise_time_scales(self, horizon: int, start_feature: int | None = None) -> None:
        """As each of the two."""
        self.gru.initialise_time_scales(horizon, start_feature)
        self.rotor.initialise_time_scales(horizon, start_feature)

    def initial_state(self, batch: int) -> MemoryState:
        """A fresh state of both."""
        fields = [*self.gru.initial_state(batch), *self.rotor.initial_state(batch)]
        return CompositeState(torch.cat(fields, dim=-1))

    def _weight(self) -> Tensor | None:
        return self.gru._weight()

    def _step(
        self, x: Tensor, state: MemoryState, episode_start: Tensor | None
    ) -> tuple[Tensor, MemoryState]:
        of_gru, of_rotor = self._parts(state)
        return _beside(
            self.gru._step(x, of_gru, episode_start), self.rotor._step(x, of_rotor, episode_start)
        )

    def _unroll(
        self, x: Tensor, state: MemoryState, episode_start: Tensor | None
    ) -> tuple[Tensor, MemoryState]:
        of_gru, of_rotor = self._parts(state)
        return _beside(
            self.gru._unroll(x, of_gru, episode_start),
            self.rotor._unroll(x, of_rotor, episode_start),
        )

    def gates(self, x: Tensor, state: MemoryState) -> dict[str, Tensor]:
        """Those of the GRU and of the rotor, `[num_layers, B, units]` each."""
        of_gru, of_rotor = self._parts(state)
        return {**self.gru.gates(x, of_gru), **self.rotor.gates(x, of_rotor)}

    def _check_state(self, state: MemoryState, x: Tensor) -> None:
        check_fields(state, (self.gru.num_layers, x.shape[-2], self.output_size), x)

    def _parts(self, state: MemoryState) -> tuple[GRUState, LinearState]:
        assert isinstance(state, CompositeState)
        of_gru, of_rotor = state.h.tensor_split([self.gru.hidden_size], dim=-1)
        return GRUState(of_gru), LinearState(of_rotor)


def _beside(
    gru: tuple[Tensor, MemoryState], rotor: tuple[Tensor, MemoryState]
) -> tuple[Tensor, MemoryState]:
    """The outputs of both, and the states of both, one beside the other."""
    h = torch.cat([*gru[1], *rotor[1]], dim=-1)
    return torch.cat([gru[0], rotor[0]], dim=-1), CompositeState(h)
