"""Cells whose next state is linear in the state: minGRU, minLSTM and the linear recurrent unit.

h_t = a_t * h_tm1 + b_t with a and b made from the input alone, so that a whole sequence is one scan
(`scan.py`).
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, linear

from recurrent_rl.agents.memory import Memory, chrono_steps
from recurrent_rl.agents.states import LayerState, LinearState, MemoryState


class LinearCell(Memory):
    """A cell that is linear in its state; a subclass gives `coefficients`.

    Args:
        input_size: features of an input.
        hidden_size: units of each layer.
        num_layers: layers, each fed by the one below.
    """

    state_type = LinearState
    kernels = ("scan", "loop")
    num_blocks: ClassVar[int]
    """Blocks of `hidden` rows in the weight of the input."""

    def __init__(self, input_size: int, hidden_size: int, num_layers: int) -> None:
        super().__init__(input_size, hidden_size, num_layers)
        for layer in range(num_layers):
            columns = input_size if layer == 0 else hidden_size
            weight = torch.empty(self.num_blocks * hidden_size, columns)
            for block in weight.chunk(self.num_blocks):
                nn.init.xavier_uniform_(block)
            self.register_parameter(f"weight_l{layer}", nn.Parameter(weight))
            bias = torch.zeros(self.num_blocks * hidden_size)
            self.register_parameter(f"bias_l{layer}", nn.Parameter(bias))

    def coefficients(self, x: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """A and b for inputs `[..., F]`, `[..., units]` each; complex where the state is."""
        raise NotImplementedError

    def from_state(self, h: Tensor) -> Tensor:
        """What is scanned, from a field of the state `[..., hidden]`."""
        return h

    def to_state(self, h: Tensor) -> Tensor:
        """The inverse of `from_state`."""
        return h

    def output(self, h: Tensor, x: Tensor, layer: int) -> Tensor:
        """What the layer shows, `[..., hidden]`, of a state and the input it came from."""
        return h

    def step_layer(self, x: Tensor, fields: LayerState, layer: int) -> tuple[Tensor, LayerState]:
        """One step of one layer."""
        a, b = self.coefficients(x, layer)
        h = self.to_state(a * self.from_state(fields[0]) + b)
        return self.output(h, x, layer), (h,)

    def gates(self, x: Tensor, state: MemoryState) -> dict[str, Tensor]:
        """The gates that a step computes, `[num_layers, B, hidden]` each."""
        layers = []
        for layer in range(self.num_layers):
            layers.append(self._gates(x, layer))
            x, _ = self.step_layer(x, tuple(field[layer] for field in state), layer)
        stacked = (torch.stack(gate) for gate in zip(*layers, strict=True))
        return dict(zip(self.gate_names, stacked, strict=True))

    def _gates(self, x: Tensor, layer: int) -> tuple[Tensor, ...]:
        return ()

    def _project(self, x: Tensor, layer: int) -> tuple[Tensor, ...]:
        weight, bias = self.get_parameter(f"weight_l{layer}"), self.get_parameter(f"bias_l{layer}")
        return linear(x, weight, bias).chunk(self.num_blocks, -1)

    def _slow_biases(self, block: int) -> list[Tensor]:
        """The second half of one block of each layer's bias."""
        half = slice(self.hidden_size // 2, None)
        return [
            self.get_parameter(f"bias_l{layer}").detach().view(self.num_blocks, -1)[block, half]
            for layer in range(self.num_layers)
        ]


class MinGRU(LinearCell):
    """The GRU without its dependence on h_tm1 (Feng et al. 2024, 3.1).

        z = sigmoid(W x_t + b);  h_t = (1 - z) * h_tm1 + z * (V x_t + d)

    The update gate z is the one that writes, as in the paper; torch's GRU has it keep.
    """

    num_blocks = 2
    gate_names = ("update",)

    def hold_for(self, horizon: int) -> None:
        """Chrono initialisation: in half the units update bias -log(U(1, horizon - 1))."""
        for bias in self._slow_biases(0):
            bias.copy_(-chrono_steps(bias, horizon).log())

    def coefficients(self, x: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """1 - z and z * (V x + d)."""
        update, candidate = self._project(x, layer)
        return torch.sigmoid(-update), torch.sigmoid(update) * candidate

    def _gates(self, x: Tensor, layer: int) -> tuple[Tensor, ...]:
        return (torch.sigmoid(self._project(x, layer)[0]),)


class MinLSTM(LinearCell):
    """The LSTM without its dependence on h_tm1 (Feng et al. 2024, 3.2), gates adding up to one.

    f, i = sigmoid(W x_t + b);  h_t = f / (f + i) * h_tm1 + i / (f + i) * (V x_t + d)
    """

    num_blocks = 3
    gate_names = ("forget", "input")

    def hold_for(self, horizon: int) -> None:
        """Chrono: the forget gate's share is u / (1 + u) in half the units, u of U(1, horizon-1).

        With biases b for f and -b for i that share is sigmoid(b) at an input of zero.
        """
        for forget, write in zip(self._slow_biases(0), self._slow_biases(1), strict=True):
            forget.copy_(chrono_steps(forget, horizon).log())
            write.copy_(-forget)

    def coefficients(self, x: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """F / (f + i) and i / (f + i) * (V x + d)."""
        forget, write = self._gates(x, layer)
        return forget, write * self._project(x, layer)[2]

    def _gates(self, x: Tensor, layer: int) -> tuple[Tensor, ...]:
        f, i, _ = self._project(x, layer)
        f, i = torch.sigmoid(f), torch.sigmoid(i)
        return f / (f + i), i / (f + i)


class LRU(LinearCell):
    """The linear recurrent unit (Orvieto et al. 2023, 3): hidden / 2 complex units.

        h_t = lambda * h_tm1 + gamma * (B x_t + b),  lambda = exp(-exp(nu) + i exp(theta))
        y_t = gelu(Re(C h_t) + D x_t)

    gamma = sqrt(1 - |lambda|^2) at the start, and learnt. The state holds the real parts, then the
    imaginary parts. The paper follows the layer by a gated unit of its own; here it is the GELU.
    """

    num_blocks = 1

    def __init__(self, input_size: int, hidden_size: int, num_layers: int) -> None:
        if hidden_size % 2:
            raise ValueError(
                f"hidden_size is {hidden_size}; lru has complex units, so it must be even."
            )
        super().__init__(input_size, hidden_size, num_layers)
        for layer in range(num_layers):
            columns = input_size if layer == 0 else hidden_size
            for name in ("nu", "theta", "gamma"):
                parameter = nn.Parameter(torch.empty(hidden_size // 2))
                self.register_parameter(f"{name}_l{layer}", parameter)
            for name, width in (("output", hidden_size), ("skip", columns)):
                weight = torch.empty(hidden_size, width)
                nn.init.xavier_uniform_(weight)
                self.register_parameter(f"{name}_l{layer}", nn.Parameter(weight))
            # Uniform on the unit disk (Orvieto et al. 2023, lemma 3.2).
            radius = torch.empty(hidden_size // 2).uniform_(1e-4, 1 - 1e-4).sqrt()
            self._set_ring(layer, slice(None), radius, 2 * math.pi)

    def hold_for(self, horizon: int) -> None:
        """Half the units forget within 2..horizon steps: |lambda| = u / (1 + u), u as in chrono.

        Their phase is at most pi / 10, so that what they hold is turned slowly.
        """
        if horizon < 3:
            return
        half = slice(self.hidden_size // 4, None)
        for layer in range(self.num_layers):
            steps = chrono_steps(self.get_parameter(f"nu_l{layer}")[half], horizon)
            self._set_ring(layer, half, steps / (1 + steps), math.pi / 10)

    @torch.no_grad()
    def _set_ring(self, layer: int, units: slice, radius: Tensor, max_phase: float) -> None:
        named = (self.get_parameter(f"{name}_l{layer}") for name in ("nu", "theta", "gamma"))
        nu, theta, gamma = (parameter[units] for parameter in named)
        nu.copy_((-radius.log()).log())
        theta.copy_(torch.empty_like(theta).uniform_(1e-4, max_phase).log())
        gamma.copy_((1 - radius.square()).sqrt().log())

    def coefficients(self, x: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """Lambda and gamma * (B x + b), complex."""
        named = (self.get_parameter(f"{name}_l{layer}") for name in ("nu", "theta", "gamma"))
        nu, theta, gamma = named
        eigenvalue = torch.polar((-nu.exp()).exp(), theta.exp())
        (of_x,) = self._project(x, layer)
        b = self.from_state(of_x) * gamma.exp()
        return eigenvalue.expand_as(b), b

    def from_state(self, h: Tensor) -> Tensor:
        """Complex `[..., hidden / 2]`."""
        return torch.complex(*h.chunk(2, -1))

    def to_state(self, h: Tensor) -> Tensor:
        """Real parts, then imaginary parts, `[..., hidden]`."""
        return torch.cat([h.real, h.imag], dim=-1)

    def output(self, h: Tensor, x: Tensor, layer: int) -> Tensor:
        """gelu(Re(C h) + D x); a real matrix on both parts is as general as Re(C h)."""
        c, d = self.get_parameter(f"output_l{layer}"), self.get_parameter(f"skip_l{layer}")
        return gelu(linear(h, c) + linear(x, d))
