"""The gated and the plain recurrent cells: torch's, and two that torch lacks.

Each cell's equations stand once, in a function of its weights, an input and its state. What unrolls
them over a sequence is in `kernels/`.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from recurrent_rl.agents.kernels.cell import GatedCell, GatedWeights, LayerState
from recurrent_rl.agents.memory.initialisation import initialise
from recurrent_rl.agents.memory.layered import LayeredMemory
from recurrent_rl.agents.memory.states import GRUState, LSTMState, RNNState

StepAndGates = tuple[LayerState, tuple[Tensor, ...]]


def sums(weights: GatedWeights, x: Tensor, h: Tensor, blocks: int) -> tuple[Tensor, ...]:
    """W x + b + U h + d, block by block."""
    of_x, of_h = products(weights, x, h)
    return (of_x + of_h).chunk(blocks, -1)


def products(weights: GatedWeights, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """W x + b, and U h + d."""
    of_x = linear(x, weights.input, weights.bias)
    return of_x, linear(h, weights.recurrent, weights.recurrent_bias)


class TorchMemory(LayeredMemory):
    """A memory that torch has too.

    The parameters bear torch's names and layout: `torch_layer` is a plain `torch.nn` module, whose
    `load_state_dict` takes over another's weights.
    """

    layer_type: ClassVar[type[nn.RNN] | type[nn.LSTM] | type[nn.GRU]]

    def __init__(self, input_size: int, hidden_size: int, num_layers: int) -> None:
        super().__init__(input_size, hidden_size, num_layers)
        self.torch_layer: nn.RNNBase = self.layer_type(input_size, hidden_size, num_layers)
        initialise(dict(self.torch_layer.named_parameters()), self.num_blocks)

    def weights(self, layer: int) -> GatedWeights:
        """The weights of one layer."""
        # `all_weights` looks each of them up by name, which takes longer than a small product.
        return GatedWeights(*self.torch_layer._flat_weights[4 * layer : 4 * layer + 4])  # type: ignore[arg-type]

    def _weight(self) -> Tensor | None:
        return self.torch_layer._flat_weights[0]


def rnn(weights: GatedWeights, x: Tensor, state: LayerState) -> StepAndGates:
    """h_t = tanh(W x_t + b + U h_tm1 + d)."""
    (sum_,) = sums(weights, x, state[0], 1)
    return (torch.tanh(sum_),), ()


class RNN(TorchMemory):
    """The plain recurrent network (Elman 1990): `rnn`."""

    state_type = RNNState
    layer_type = nn.RNN
    cell = GatedCell("rnn", rnn, lambda w, x, s: (torch.rnn_tanh_cell(x, s[0], *w.of_torch()),))
    num_blocks = 1


def lstm(weights: GatedWeights, x: Tensor, state: LayerState) -> StepAndGates:
    """One W, U, b, d for each of i, f, g, o, in this order.

    i, f, o = sigmoid(W x_t + b + U h_tm1 + d),  g = tanh(W x_t + b + U h_tm1 + d)
    c_t = f * c_tm1 + i * g;  h_t = o * tanh(c_t)
    """
    h, c = state
    i, f, g, o = sums(weights, x, h, 4)
    i, f, o = torch.sigmoid(i), torch.sigmoid(f), torch.sigmoid(o)
    c = f * c + i * torch.tanh(g)
    return (o * torch.tanh(c), c), (i, f, o)


class LSTM(TorchMemory):
    """Long short-term memory with forget gates (Gers et al. 2000), as `torch.nn.LSTM`: `lstm`."""

    state_type = LSTMState
    layer_type = nn.LSTM
    cell = GatedCell("lstm", lstm, lambda w, x, s: torch.lstm_cell(x, s, *w.of_torch()))
    num_blocks = 4
    keep_block, write_block = 1, 0
    gate_names = ("input", "forget", "output")


def gru(weights: GatedWeights, x: Tensor, state: LayerState) -> StepAndGates:
    """The reset gate acts after the recurrent product; blocks r, z, n.

    r, z = sigmoid(W x_t + b + U h_tm1 + d);  n = tanh(W x_t + b + r * (U h_tm1 + d))
    h_t = (1 - z) * n + z * h_tm1: the update gate z is the one that keeps.
    """
    (h,) = state
    of_x, of_h = products(weights, x, h)
    r_x, z_x, n_x = of_x.chunk(3, -1)
    r_h, z_h, n_h = of_h.chunk(3, -1)
    r, z = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)
    n = torch.tanh(n_x + r * n_h)
    return ((1 - z) * n + z * h,), (r, z)


class GRU(TorchMemory):
    """Gated recurrent unit as `torch.nn.GRU`: `gru`."""

    state_type = GRUState
    layer_type = nn.GRU
    cell = GatedCell("gru", gru, lambda w, x, s: (torch.gru_cell(x, s[0], *w.of_torch()),))
    num_blocks = 3
    keep_block = 1
    gate_names = ("reset", "update")


class OwnMemory(LayeredMemory):
    """A memory that torch lacks: W, U and one bias a layer, and where it has them its peepholes."""

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

    def weights(self, layer: int) -> GatedWeights:
        """The weights of one layer."""
        w, u, bias = self._named(layer, "weight_ih", "weight_hh", "bias")
        peephole = self._named(layer, "peephole")[0] if self.num_peepholes else None
        return GatedWeights(w, u, bias, None, peephole)


def lstm_peephole(weights: GatedWeights, x: Tensor, state: LayerState) -> StepAndGates:
    """One W, U, b for each of i, f, g, o, in this order, and diagonal peepholes p of i, f, o.

    i = sigmoid(W x_t + b + U h_tm1 + p * c_tm1), f likewise
    c_t = f * c_tm1 + i * tanh(W x_t + b + U h_tm1)
    o = sigmoid(W x_t + b + U h_tm1 + p * c_t);  h_t = o * tanh(c_t)
    """
    h, c = state
    peephole = weights.peephole
    assert peephole is not None
    i, f, g, o = sums(weights, x, h, 4)
    i = torch.sigmoid(i + peephole[0] * c)
    f = torch.sigmoid(f + peephole[1] * c)
    c = f * c + i * torch.tanh(g)
    o = torch.sigmoid(o + peephole[2] * c)
    return (o * torch.tanh(c), c), (i, f, o)


class PeepholeLSTM(OwnMemory):
    """An LSTM whose gates see the cell state (Gers & Schmidhuber 2000): `lstm_peephole`.

    Peepholes start at zero, where the cell is a plain LSTM.
    """

    state_type = LSTMState
    cell = GatedCell("lstm-peephole", lstm_peephole)
    num_blocks = 4
    keep_block, write_block = 1, 0
    gate_names = ("input", "forget", "output")
    num_peepholes = 3


def gru_original(weights: GatedWeights, x: Tensor, state: LayerState) -> StepAndGates:
    """The reset gate acts before the product; blocks r, z, n.

    r, z = sigmoid(W x_t + b + U h_tm1);  n = tanh(W x_t + b + U (r * h_tm1))
    h_t = (1 - z) * n + z * h_tm1
    """
    (h,) = state
    u, size = weights.recurrent, 2 * h.shape[-1]
    of_x = linear(x, weights.input, weights.bias)
    r, z = torch.sigmoid(of_x[..., :size] + linear(h, u[:size])).chunk(2, -1)
    n = torch.tanh(of_x[..., size:] + linear(r * h, u[size:]))
    return ((1 - z) * n + z * h,), (r, z)


class OriginalGRU(OwnMemory):
    """The GRU as first published (Cho et al. 2014): `gru_original`."""

    state_type = GRUState
    cell = GatedCell("gru-original", gru_original)
    num_blocks = 3
    keep_block = 1
    gate_names = ("reset", "update")
