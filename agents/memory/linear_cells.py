"""Cells whose next state is linear in the state: minGRU, minLSTM, and units that turn.

h_t = a_t * h_tm1 + b_t with a and b made from the input alone, so that a whole sequence is one scan
(`scan.py`).
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, linear, logsigmoid

from recurrent_rl.agents.memory.contract import (
    GateRows,
    Memory,
    chrono_steps,
    set_time_scales,
)
from recurrent_rl.agents.memory.states import LayerState, LinearState, MemoryState
from recurrent_rl.agents.settings import SettingError


class LinearCell(Memory):
    """A cell that is linear in its state; a subclass gives `coefficients`.

    Args:
        input_size: features of an input.
        hidden_size: units of each layer.
        num_layers: layers, each fed by the one below.
    """

    state_type = LinearState
    kernels: ClassVar[tuple[str, ...]] = ("scan", "loop")
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

    def projected(self, x: Tensor, layer: int) -> Tensor:
        """All that a layer makes of the input alone, `[..., num_blocks * hidden]`."""
        return linear(x, *self.input_rows(layer))

    def _blocks(self, x: Tensor, layer: int) -> tuple[Tensor, ...]:
        return self.projected(x, layer).chunk(self.num_blocks, -1)

    def input_rows(self, layer: int) -> GateRows:
        """Weight and bias of a layer."""
        weight, bias = self.get_parameter(f"weight_l{layer}"), self.get_parameter(f"bias_l{layer}")
        return GateRows(weight, bias)


class MinGRU(LinearCell):
    """The GRU without its dependence on h_tm1 (Feng et al. 2024, 3.1).

        z = sigmoid(W x_t + b);  h_t = (1 - z) * h_tm1 + z * (V x_t + d)

    The update gate z is the one that writes, as in the paper; torch's GRU has it keep.
    """

    num_blocks = 2
    gate_names = ("update",)

    def hold_for(self, horizon: int, start_feature: int | None = None) -> None:
        """Chrono initialisation: in half the units update bias -log(u), u of `chrono_steps`."""
        self._hold_slow_half(horizon, start_feature, write=0)

    def coefficients(self, x: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """1 - z and z * (V x + d)."""
        update, candidate = self._blocks(x, layer)
        return torch.sigmoid(-update), torch.sigmoid(update) * candidate

    def _gates(self, x: Tensor, layer: int) -> tuple[Tensor, ...]:
        return (torch.sigmoid(self._blocks(x, layer)[0]),)


class MinLSTM(LinearCell):
    """The LSTM without its dependence on h_tm1 (Feng et al. 2024, 3.2), gates adding up to one.

    f, i = sigmoid(W x_t + b);  h_t = f / (f + i) * h_tm1 + i / (f + i) * (V x_t + d)

    The shares are computed as sigmoid(log f - log i) and sigmoid(log i - log f): f and i themselves
    may be too small for their type.
    """

    num_blocks = 3
    gate_names = ("forget", "input")

    def hold_for(self, horizon: int, start_feature: int | None = None) -> None:
        """Chrono: the forget gate's share is u / (1 + u) in half the units, u of `chrono_steps`.

        With biases b for f and -b for i that share is sigmoid(b) at an input of zero.
        """
        self._hold_slow_half(horizon, start_feature, keep=0, write=1)

    def coefficients(self, x: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """F / (f + i) and i / (f + i) * (V x + d)."""
        forget, write = self._gates(x, layer)
        return forget, write * self._blocks(x, layer)[2]

    def _gates(self, x: Tensor, layer: int) -> tuple[Tensor, ...]:
        f, i, _ = self._blocks(x, layer)
        difference = logsigmoid(f) - logsigmoid(i)
        return torch.sigmoid(difference), torch.sigmoid(-difference)


def spread_angles(units: int) -> Tensor:
    """Angles of turning units, in a random order: a quarter near 0, the others even over 0..pi."""
    still = units // 4
    moving = math.pi * (torch.arange(units - still) + 0.5) / (units - still)
    angles = torch.cat([torch.full((still,), 1e-4), moving])
    return angles[torch.randperm(units)]


def _as_complex(of_x: Tensor) -> Tensor:
    """A view of a projected input: each complex number's parts stand side by side."""
    return torch.view_as_complex(of_x.unflatten(-1, (-1, 2)))


class TurningCell(LinearCell):
    """Hidden / 2 complex units and a layer over them: y_t = gelu(Re(C h_t) + D x_t).

    The state holds each unit's real and imaginary part side by side.
    """

    def __init__(self, input_size: int, hidden_size: int, num_layers: int) -> None:
        if hidden_size % 2:
            raise SettingError(
                f"hidden_size is {hidden_size}; {type(self).__name__} has complex units, of two "
                f"numbers each: it must be even, such as {hidden_size + 1}."
            )
        super().__init__(input_size, hidden_size, num_layers)
        for layer in range(num_layers):
            columns = input_size if layer == 0 else hidden_size
            for name, width in (("output", hidden_size), ("skip", columns)):
                weight = torch.empty(hidden_size, width)
                nn.init.xavier_uniform_(weight)
                self.register_parameter(f"{name}_l{layer}", nn.Parameter(weight))

    def from_state(self, h: Tensor) -> Tensor:
        """Complex `[..., hidden / 2]`."""
        # Not a view: half of the states of a composite begin at an odd place in memory.
        return torch.complex(h[..., 0::2], h[..., 1::2])

    def to_state(self, h: Tensor) -> Tensor:
        """Real numbers `[..., hidden]`."""
        return torch.view_as_real(h).flatten(-2)

    def output(self, h: Tensor, x: Tensor, layer: int) -> Tensor:
        """gelu(Re(C h) + D x); a real matrix on both parts is as general as Re(C h)."""
        c, d = self.get_parameter(f"output_l{layer}"), self.get_parameter(f"skip_l{layer}")
        return gelu(linear(h, c) + linear(x, d))


class LRU(TurningCell):
    """The linear recurrent unit (Orvieto et al. 2023, 3): hidden / 2 complex units.

        h_t = lambda * h_tm1 + gamma * (B x_t + b),  lambda = exp(-exp(nu) + i exp(theta))
        y_t = gelu(Re(C h_t) + D x_t)

    gamma = sqrt(1 - |lambda|^2) at the start, and learnt. The paper follows the layer by a gated
    unit of its own; here it is the GELU.
    """

    num_blocks = 1

    def __init__(self, input_size: int, hidden_size: int, num_layers: int) -> None:
        super().__init__(input_size, hidden_size, num_layers)
        for layer in range(num_layers):
            for name in ("nu", "theta", "gamma"):
                parameter = nn.Parameter(torch.empty(hidden_size // 2))
                self.register_parameter(f"{name}_l{layer}", parameter)
            # Uniform on the unit disk (Orvieto et al. 2023, lemma 3.2).
            radius = torch.empty(hidden_size // 2).uniform_(1e-4, 1 - 1e-4).sqrt()
            angles = torch.empty(hidden_size // 2).uniform_(1e-4, 2 * math.pi)
            self._set_eigenvalues(layer, radius, angles)

    def hold_for(self, horizon: int, start_feature: int | None = None) -> None:
        """Units forget within 2..horizon steps: |lambda| = u / (1 + u), u as in chrono.

        A quarter of them hardly turn, and so hold; the angles of the others are spread evenly over
        half a circle. These resolve a delay as a Fourier transform does: with angles at random, or
        small ones only, what was seen 32 steps ago is not to be told from what was seen at 31.
        """
        if horizon < 3:
            return
        for layer in range(self.num_layers):
            steps = chrono_steps(self.get_parameter(f"nu_l{layer}"), horizon)
            self._set_eigenvalues(layer, steps / (1 + steps), spread_angles(len(steps)))

    @torch.no_grad()
    def _set_eigenvalues(self, layer: int, radius: Tensor, angles: Tensor) -> None:
        self.get_parameter(f"nu_l{layer}").copy_((-radius.log()).log())
        self.get_parameter(f"theta_l{layer}").copy_(angles.log())
        self.get_parameter(f"gamma_l{layer}").copy_((1 - radius.square()).sqrt().log())

    def coefficients(self, x: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """Lambda and gamma * (B x + b), complex."""
        named = (self.get_parameter(f"{name}_l{layer}") for name in ("nu", "theta", "gamma"))
        nu, theta, gamma = named
        eigenvalue = torch.polar((-nu.exp()).exp(), theta.exp())
        (of_x,) = self._blocks(x, layer)
        b = _as_complex(of_x) * gamma.exp()
        return eigenvalue.expand_as(b), b


class Rotor(TurningCell):
    """Complex units that the input can slow, stop or turn back: hidden / 2 of them.

        k = sigmoid(W x_t + c),  s = tanh(V x_t + d)
        h_t = k exp(i theta s) h_tm1 + sqrt(1 - k^2) (B x_t + b)
        y_t = gelu(C h_t + D x_t)

    k is the gate of the RG-LRU (De et al. 2024, 2.4) with its norm-preserving factor; that the
    angle depends on the input too is as in the state space model Mamba-3 (Lahoti et al. 2026).
    Angles that add up count; turned back, they give a sequence in reverse.

    W starts small: units that fade by what they see before they have learnt to blur what they hold.
    """

    kernels = ("compiled-rotor", "scan", "loop")
    num_blocks = 2
    gate_names = ("forget",)

    def __init__(self, input_size: int, hidden_size: int, num_layers: int) -> None:
        super().__init__(input_size, hidden_size, num_layers)
        for layer in range(num_layers):
            theta = nn.Parameter(spread_angles(hidden_size // 2))
            self.register_parameter(f"theta_l{layer}", theta)
            self._control(layer, 0).weight.mul_(0.1)
            # Half of the units turn steadily whatever they see (tanh(2) = 0.96, where s has little
            # slope left), and tell when; the others turn this way or that as they see, and count.
            steady, other = self._control(layer, 1).bias.tensor_split(2)
            steady.fill_(2.0)
            other.uniform_(-1, 1)

    def hold_for(self, horizon: int, start_feature: int | None = None) -> None:
        """Units forget within 2..horizon steps: chrono initialisation of k.

        No gate opens at an episode's start: sqrt(1 - k^2) writes enough also where k is near one.
        """
        for layer in range(self.num_layers):
            set_time_scales(horizon, None, self._control(layer, 0))

    def angles(self, layer: int) -> Tensor:
        """Theta, `[hidden / 2]`."""
        return self.get_parameter(f"theta_l{layer}")

    def _control(self, layer: int, part: int) -> GateRows:
        """What makes k (0) or s (1): rows for hidden / 2 units."""
        parts = (x.detach()[self.hidden_size :].chunk(2)[part] for x in self.input_rows(layer))
        return GateRows(*parts)

    def coefficients(self, x: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """K exp(i theta s) and sqrt(1 - k^2) (B x + b), complex."""
        of_x, control = self._blocks(x, layer)
        forget, turn = control.chunk(2, -1)
        keep = torch.sigmoid(forget)
        angle = self.angles(layer) * torch.tanh(turn)
        # Not torch.polar, whose gradient goes through absolute values and signs.
        a = torch.complex(keep * torch.cos(angle), keep * torch.sin(angle))
        # sqrt(1 - k^2) by its logarithm: the root's own slope is infinite where k rounds to one.
        scale = torch.exp(0.5 * (logsigmoid(-forget) + torch.log1p(keep)))
        return a, _as_complex(of_x) * scale

    def _gates(self, x: Tensor, layer: int) -> tuple[Tensor, ...]:
        return (torch.sigmoid(self._blocks(x, layer)[1].chunk(2, -1)[0]),)
