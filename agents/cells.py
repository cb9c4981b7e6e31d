"""Cells that torch lacks: an LSTM with peepholes, and the GRU in its original form.

The inputs of a whole sequence are projected in one matrix product; a loop over time does the rest.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from recurrent_rl.agents.memory import (
    GRUState,
    LSTMState,
    Memory,
    MemoryState,
    initialise,
    layer_biases,
    set_chrono_bias,
)


class LoopedMemory(Memory):
    """A memory computed step by step; a subclass gives the equations of one layer's step.

    Args:
        input_size: features of an input.
        hidden_size: units of each layer.
        num_layers: layers, each fed by the one below.
    """

    num_blocks: ClassVar[int]
    num_peepholes: ClassVar[int] = 0

    def __init__(self, input_size: int, hidden_size: int, num_layers: int) -> None:
        super().__init__(input_size, hidden_size, num_layers)
        rows = self.num_blocks * hidden_size
        shapes: dict[str, tuple[int, ...]] = {}
        for layer in range(num_layers):
            columns = input_size if layer == 0 else hidden_size
            shapes[f"weight_ih_l{layer}"] = (rows, columns)
            shapes[f"weight_hh_l{layer}"] = (rows, hidden_size)
            shapes[f"bias_l{layer}"] = (rows,)
            if self.num_peepholes:
                shapes[f"peephole_l{layer}"] = (self.num_peepholes, hidden_size)
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.empty(shape)))
        initialise(dict(self.named_parameters()), self.num_blocks)

    def _run(self, x: Tensor, state: MemoryState) -> tuple[Tensor, MemoryState]:
        finals = []
        for layer in range(self.num_layers):
            projected = self._project(x, layer)
            fields = tuple(field[layer] for field in state)
            outputs = []
            for p in projected.unbind(0):
                fields, _ = self._cell(p, fields, layer)
                outputs.append(fields[0])
            x = torch.stack(outputs)
            finals.append(fields)
        return x, self.state_type(*(torch.stack(field) for field in zip(*finals, strict=True)))

    def _project(self, x: Tensor, layer: int) -> Tensor:
        return linear(x, self._weight("weight_ih", layer), self._weight("bias", layer))

    def _weight(self, name: str, layer: int) -> Tensor:
        return self.get_parameter(f"{name}_l{layer}")

    def _cell(
        self, projected: Tensor, state: tuple[Tensor, ...], layer: int
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """One step of one layer.

        Args:
            projected: W x_t + b, `[B, num_blocks * hidden]`.
            state: the layer's fields, `[B, hidden]` each.
            layer: its number.

        Returns:
            The new fields and the gates, in the order of `gate_names`.
        """
        raise NotImplementedError

    def gates(self, x: Tensor, state: MemoryState) -> dict[str, Tensor]:
        """The gates that a step computes, `[num_layers, B, hidden]` each."""
        layers = []
        for layer in range(self.num_layers):
            fields, gates = self._cell(
                self._project(x, layer), tuple(field[layer] for field in state), layer
            )
            layers.append(gates)
            x = fields[0]
        stacked = (torch.stack(gate) for gate in zip(*layers, strict=True))
        return dict(zip(self.gate_names, stacked, strict=True))


class PeepholeLSTM(LoopedMemory):
    """An LSTM whose gates see the cell state (Gers & Schmidhuber 2000).

    With one W, U, b for each gate and diagonal peepholes p:

        i = sigmoid(W x_t + U h_tm1 + p_i * c_tm1 + b)    f likewise
        c_t = f * c_tm1 + i * tanh(W x_t + U h_tm1 + b)
        o = sigmoid(W x_t + U h_tm1 + p_o * c_t + b);  h_t = o * tanh(c_t)

    Blocks stand in torch's order: input, forget, candidate, output. Peepholes start at zero, where
    the cell is a plain LSTM.
    """

    state_type = LSTMState
    gate_names = ("input", "forget", "output")
    num_blocks = 4
    num_peepholes = 3

    def hold_for(self, horizon: int) -> None:
        """Chrono: in half the units forget bias log(U(1, horizon - 1)), input bias its negative."""
        for bias in layer_biases(self, "bias"):
            set_chrono_bias(bias, self.hidden_size, horizon, keep=1, write=0)

    def _cell(
        self, projected: Tensor, state: tuple[Tensor, ...], layer: int
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        h, c = state
        peephole = self._weight("peephole", layer)
        i, f, g, o = (projected + linear(h, self._weight("weight_hh", layer))).chunk(4, -1)
        i = torch.sigmoid(i + peephole[0] * c)
        f = torch.sigmoid(f + peephole[1] * c)
        c = f * c + i * torch.tanh(g)
        o = torch.sigmoid(o + peephole[2] * c)
        return (o * torch.tanh(c), c), (i, f, o)


class OriginalGRU(LoopedMemory):
    """The GRU as first published: the reset gate acts before the product (Cho et al. 2014).

        r, z = sigmoid(W x_t + U h_tm1 + b)
        n = tanh(W x_t + U (r * h_tm1) + b)
        h_t = (1 - z) * n + z * h_tm1

    Blocks stand in torch's order: reset, update, candidate.
    """

    state_type = GRUState
    gate_names = ("reset", "update")
    num_blocks = 3

    def hold_for(self, horizon: int) -> None:
        """Chrono initialisation: in half the units update bias log(U(1, horizon - 1))."""
        for bias in layer_biases(self, "bias"):
            set_chrono_bias(bias, self.hidden_size, horizon, keep=1)

    def _cell(
        self, projected: Tensor, state: tuple[Tensor, ...], layer: int
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        (h,) = state
        size = 2 * self.hidden_size
        weight = self._weight("weight_hh", layer)
        gates = torch.sigmoid(projected[..., :size] + linear(h, weight[:size]))
        r, z = gates.chunk(2, -1)
        n = torch.tanh(projected[..., size:] + linear(r * h, weight[size:]))
        return ((1 - z) * n + z * h,), (r, z)
