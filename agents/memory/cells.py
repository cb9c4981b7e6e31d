"""The gated and the plain recurrent cells: torch's, and two that torch lacks.

Each cell states its equations once, in `_cell`. What unrolls them over a sequence is in
`kernels.py`.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from recurrent_rl.agents.kernels.safeguards import MemoryInputError
from recurrent_rl.agents.memory.contract import GateRows, Memory, initialise
from recurrent_rl.agents.memory.states import (
    GRUState,
    LayerState,
    LSTMState,
    MemoryState,
    RNNState,
)


class CellWeights(NamedTuple):
    """The weights of one layer, blocks of `hidden` rows in torch's order."""

    input: Tensor
    """W, `[blocks * hidden, F]`."""
    recurrent: Tensor
    """U, `[blocks * hidden, hidden]`."""
    bias: Tensor
    """b, `[blocks * hidden]`, added to W x."""
    recurrent_bias: Tensor | None
    """d, `[blocks * hidden]`, added to U h."""
    peephole: Tensor | None
    """`[3, hidden]`, of the input, forget and output gates."""


class Cell(Memory):
    """A cell whose next state is a squashed function of W x and U h; a subclass says which.

    Args:
        input_size: features of an input.
        hidden_size: units of each layer.
        num_layers: layers, each fed by the one below.
    """

    kernels: ClassVar[tuple[str, ...]] = ("compiled", "loop")
    compiled_cell: ClassVar[str]
    num_blocks: ClassVar[int]
    """Blocks of `hidden` rows in each weight: one a gate, and one for the candidate."""

    def weights(self, layer: int) -> CellWeights:
        """The weights of one layer."""
        raise NotImplementedError

    def step_layer(self, x: Tensor, fields: LayerState, layer: int) -> tuple[Tensor, LayerState]:
        """One step of one layer, by the equations."""
        fields, _ = self._cell(x, fields, layer)
        return fields[0], fields

    def gates(self, x: Tensor, state: MemoryState) -> dict[str, Tensor]:
        """The gates that a step computes, `[num_layers, B, hidden]` each."""
        layers = []
        for layer in range(self.num_layers):
            fields, gates = self._cell(x, tuple(field[layer] for field in state), layer)
            layers.append(gates)
            x = fields[0]
        stacked = (torch.stack(gate) for gate in zip(*layers, strict=True))
        return dict(zip(self.gate_names, stacked, strict=True))

    def _cell(
        self, x: Tensor, state: LayerState, layer: int
    ) -> tuple[LayerState, tuple[Tensor, ...]]:
        """One step of one layer.

        Args:
            x: `[B, F]`.
            state: the layer's fields, `[B, hidden]` each.
            layer: its number.

        Returns:
            The new fields and the gates, in the order of `gate_names`.
        """
        raise NotImplementedError

    def input_rows(self, layer: int) -> GateRows:
        """W and b."""
        weights = self.weights(layer)
        return GateRows(weights.input, weights.bias)


class TorchCell(Cell):
    """A cell that torch has too.

    The parameters bear torch's names and layout: `torch_layer` is a plain `torch.nn` module, and
    `load_torch` takes over another's weights.
    """

    layer_type: ClassVar[type[nn.RNN] | type[nn.LSTM] | type[nn.GRU]]

    def __init__(self, input_size: int, hidden_size: int, num_layers: int) -> None:
        super().__init__(input_size, hidden_size, num_layers)
        self.torch_layer: nn.RNNBase = self.layer_type(input_size, hidden_size, num_layers)
        initialise(dict(self.torch_layer.named_parameters()), self.num_blocks)

    def load_torch(self, layer: nn.RNNBase) -> None:
        """Take over the weights of a `torch.nn` layer.

        Raises:
            MemoryInputError: it is of another kind, size or form.
        """
        own = self.torch_layer
        names = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "bidirectional")
        for name in (*names, "proj_size", "nonlinearity"):
            wanted, found = (getattr(module, name, None) for module in (own, layer))
            if wanted != found or type(layer) is not type(own):
                raise MemoryInputError(
                    f"The weights of {layer} do not fit {own}: {name} is {found}, not {wanted}."
                )
        self.torch_layer.load_state_dict(layer.state_dict())

    def torch_weights(self, layer: int) -> tuple[Tensor, ...]:
        """W, U and their biases, as torch's functions take them."""
        # `all_weights` looks each of them up by name, which takes longer than a small product.
        return tuple(self.torch_layer._flat_weights[4 * layer : 4 * layer + 4])  # type: ignore[arg-type]

    def _weight(self) -> Tensor | None:
        return self.torch_layer._flat_weights[0]

    def weights(self, layer: int) -> CellWeights:
        """The weights of one layer."""
        w, u, b, d = self.torch_weights(layer)
        return CellWeights(w, u, b, d, None)

    def _sums(self, x: Tensor, h: Tensor, layer: int) -> tuple[Tensor, ...]:
        """W x + U h + b, block by block."""
        w, u, b, d = self.torch_weights(layer)
        return (linear(x, w, b) + linear(h, u, d)).chunk(self.num_blocks, -1)


class RNN(TorchCell):
    """The plain recurrent network (Elman 1990): h_t = tanh(W x_t + b + U h_tm1 + d)."""

    state_type = RNNState
    layer_type = nn.RNN
    compiled_cell = "rnn"
    num_blocks = 1

    def step_layer(self, x: Tensor, fields: LayerState, layer: int) -> tuple[Tensor, LayerState]:
        """One step of one layer, by torch."""
        h = torch.rnn_tanh_cell(x, fields[0], *self.torch_weights(layer))
        return h, (h,)

    def _cell(
        self, x: Tensor, state: LayerState, layer: int
    ) -> tuple[LayerState, tuple[Tensor, ...]]:
        (sum_,) = self._sums(x, state[0], layer)
        return (torch.tanh(sum_),), ()


class LSTM(TorchCell):
    """Long short-term memory with forget gates (Gers et al. 2000), as `torch.nn.LSTM`.

    i, f, o = sigmoid(W x_t + U h_tm1 + b), g = tanh(W x_t + U h_tm1 + b), one W, U, b for each;
    c_t = f * c_tm1 + i * g;  h_t = o * tanh(c_t).
    """

    state_type = LSTMState
    layer_type = nn.LSTM
    kernels = ("compiled", "insertion", "loop")
    compiled_cell = "lstm"
    num_blocks = 4
    gate_names = ("input", "forget", "output")

    def hold_for(self, horizon: int, start_feature: int | None = None) -> None:
        """Chrono: in half the units forget bias log(u), u of `chrono_steps`, input bias -log(u)."""
        self._hold_slow_half(horizon, start_feature, keep=1, write=0)

    def step_layer(self, x: Tensor, fields: LayerState, layer: int) -> tuple[Tensor, LayerState]:
        """One step of one layer, by torch."""
        h, c = torch.lstm_cell(x, fields, *self.torch_weights(layer))
        return h, (h, c)

    def _cell(
        self, x: Tensor, state: LayerState, layer: int
    ) -> tuple[LayerState, tuple[Tensor, ...]]:
        h, c = state
        i, f, g, o = self._sums(x, h, layer)
        i, f, o = torch.sigmoid(i), torch.sigmoid(f), torch.sigmoid(o)
        c = f * c + i * torch.tanh(g)
        return (o * torch.tanh(c), c), (i, f, o)


class GRU(TorchCell):
    """Gated recurrent unit as `torch.nn.GRU`: the reset gate acts after the recurrent product.

    r, z = sigmoid(W x_t + U h_tm1 + b);  n = tanh(W x_t + b + r * (U h_tm1 + d));
    h_t = (1 - z) * n + z * h_tm1: the update gate z is the one that keeps.
    """

    state_type = GRUState
    layer_type = nn.GRU
    kernels = ("compiled", "insertion", "loop")
    compiled_cell = "gru"
    num_blocks = 3
    gate_names = ("reset", "update")

    def hold_for(self, horizon: int, start_feature: int | None = None) -> None:
        """Chrono initialisation: in half the units update bias log(u), u of `chrono_steps`."""
        self._hold_slow_half(horizon, start_feature, keep=1)

    def step_layer(self, x: Tensor, fields: LayerState, layer: int) -> tuple[Tensor, LayerState]:
        """One step of one layer, by torch."""
        h = torch.gru_cell(x, fields[0], *self.torch_weights(layer))
        return h, (h,)

    def _cell(
        self, x: Tensor, state: LayerState, layer: int
    ) -> tuple[LayerState, tuple[Tensor, ...]]:
        (h,) = state
        w, u, b, d = self.torch_weights(layer)
        r_x, z_x, n_x = linear(x, w, b).chunk(3, -1)
        r_h, z_h, n_h = linear(h, u, d).chunk(3, -1)
        r, z = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)
        n = torch.tanh(n_x + r * n_h)
        return ((1 - z) * n + z * h,), (r, z)


class OwnCell(Cell):
    """A cell that torch lacks: W, U and one bias a layer, and where it has them its peepholes."""

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

    def weights(self, layer: int) -> CellWeights:
        """The weights of one layer."""
        names = ("weight_ih", "weight_hh", "bias")
        w, u, bias = (self.get_parameter(f"{name}_l{layer}") for name in names)
        peephole = self.get_parameter(f"peephole_l{layer}") if self.num_peepholes else None
        return CellWeights(w, u, bias, None, peephole)


class PeepholeLSTM(OwnCell):
    """An LSTM whose gates see the cell state (Gers & Schmidhuber 2000).

    With one W, U, b for each gate and diagonal peepholes p:

        i = sigmoid(W x_t + U h_tm1 + p_i * c_tm1 + b)    f likewise
        c_t = f * c_tm1 + i * tanh(W x_t + U h_tm1 + b)
        o = sigmoid(W x_t + U h_tm1 + p_o * c_t + b);  h_t = o * tanh(c_t)

    Blocks stand in torch's order: input, forget, candidate, output. Peepholes start at zero, where
    the cell is a plain LSTM.
    """

    state_type = LSTMState
    compiled_cell = "lstm-peephole"
    gate_names = ("input", "forget", "output")
    num_blocks = 4
    num_peepholes = 3

    def hold_for(self, horizon: int, start_feature: int | None = None) -> None:
        """Chrono: in half the units forget bias log(u), u of `chrono_steps`, input bias -log(u)."""
        self._hold_slow_half(horizon, start_feature, keep=1, write=0)

    def _cell(
        self, x: Tensor, state: LayerState, layer: int
    ) -> tuple[LayerState, tuple[Tensor, ...]]:
        h, c = state
        w, u, bias, _, peephole = self.weights(layer)
        assert peephole is not None
        i, f, g, o = (linear(x, w, bias) + linear(h, u)).chunk(4, -1)
        i = torch.sigmoid(i + peephole[0] * c)
        f = torch.sigmoid(f + peephole[1] * c)
        c = f * c + i * torch.tanh(g)
        o = torch.sigmoid(o + peephole[2] * c)
        return (o * torch.tanh(c), c), (i, f, o)


class OriginalGRU(OwnCell):
    """The GRU as first published: the reset gate acts before the product (Cho et al. 2014).

        r, z = sigmoid(W x_t + U h_tm1 + b)
        n = tanh(W x_t + U (r * h_tm1) + b)
        h_t = (1 - z) * n + z * h_tm1

    Blocks stand in torch's order: reset, update, candidate.
    """

    state_type = GRUState
    compiled_cell = "gru-original"
    gate_names = ("reset", "update")
    num_blocks = 3

    def hold_for(self, horizon: int, start_feature: int | None = None) -> None:
        """Chrono initialisation: in half the units update bias log(u), u of `chrono_steps`."""
        self._hold_slow_half(horizon, start_feature, keep=1)

    def _cell(
        self, x: Tensor, state: LayerState, layer: int
    ) -> tuple[LayerState, tuple[Tensor, ...]]:
        (h,) = state
        w, u, bias, *_ = self.weights(layer)
        size = 2 * self.hidden_size
        of_x = linear(x, w, bias)
        r, z = torch.sigmoid(of_x[..., :size] + linear(h, u[:size])).chunk(2, -1)
        n = torch.tanh(of_x[..., size:] + linear(r * h, u[size:]))
        return ((1 - z) * n + z * h,), (r, z)
