"""Cells whose next state is linear in the state: minGRU, minLSTM, and complex-valued recurrences.

h_t = a_t * h_tm1 + b_t with a and b made from the input alone, so that a whole sequence is one scan
(`kernels/scan.py`).
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, linear, logsigmoid

from recurrent_rl.agents.kernels.cell import LinearCell, RotorWeights
from recurrent_rl.agents.memory.initialisation import (
    GateRows,
    chrono_steps,
    set_time_scales,
    spread_angles,
)
from recurrent_rl.agents.memory.layered import LayeredMemory
from recurrent_rl.agents.memory.states import LinearState
from recurrent_rl.agents.settings import SettingError


class LinearWeights(NamedTuple):
    """What reads the input of a layer, blocks of `hidden` rows."""

    input: Tensor
    """`[blocks * hidden, F]`."""
    bias: Tensor
    """`[blocks * hidden]`."""


def blocks(weights: Any, x: Tensor, count: int) -> tuple[Tensor, ...]:
    """All that a layer makes of the input alone, block by block."""
    return linear(x, weights.input, weights.bias).chunk(count, -1)


class LinearMemory(LayeredMemory):
    """Layers of a cell that is linear in its state."""

    cell: ClassVar[LinearCell]
    state_type = LinearState

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

    def weights(self, layer: int) -> Any:
        """The weights of one layer."""
        return LinearWeights(*self._named(layer, "weight", "bias"))

    def input_rows(self, layer: int) -> GateRows:
        """Weight and bias of a layer."""
        return GateRows(*self._named(layer, "weight", "bias"))


def mingru(weights: LinearWeights, x: Tensor) -> tuple[Tensor, Tensor]:
    """1 - z and z * (V x + d), where z = sigmoid(W x + b)."""
    update, candidate = blocks(weights, x, 2)
    return torch.sigmoid(-update), torch.sigmoid(update) * candidate


def mingru_gates(weights: LinearWeights, x: Tensor) -> tuple[Tensor, ...]:
    """The update gate z."""
    return (torch.sigmoid(blocks(weights, x, 2)[0]),)


class MinGRU(LinearMemory):
    """The GRU without its dependence on h_tm1 (Feng et al. 2024, 3.1).

        z = sigmoid(W x_t + b);  h_t = (1 - z) * h_tm1 + z * (V x_t + d)

    The update gate z is the one that writes, as in the paper; torch's GRU has it keep.
    """

    cell = LinearCell("mingru", mingru, mingru_gates)
    num_blocks = 2
    write_block = 0
    gate_names = ("update",)


def minlstm(weights: LinearWeights, x: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients f / (f + i) and i / (f + i) * (V x + d), where f, i = sigmoid(W x + b)."""
    forget, write = minlstm_gates(weights, x)
    return forget, write * blocks(weights, x, 3)[2]


def minlstm_gates(weights: LinearWeights, x: Tensor) -> tuple[Tensor, ...]:
    """The shares f / (f + i) and i / (f + i).

    Computed as sigmoid(log f - log i) and sigmoid(log i - log f): f and i themselves may be too
    small for their type.
    """
    f, i, _ = blocks(weights, x, 3)
    difference = logsigmoid(f) - logsigmoid(i)
    return torch.sigmoid(difference), torch.sigmoid(-difference)


class MinLSTM(LinearMemory):
    """The LSTM without its dependence on h_tm1 (Feng et al. 2024, 3.2), gates adding up to one.

    f, i = sigmoid(W x_t + b);  h_t = f / (f + i) * h_tm1 + i / (f + i) * (V x_t + d)

    With biases log(u) for f and -log(u) for i the share that is kept is u / (1 + u) at an input of
    zero.
    """

    cell = LinearCell("minlstm", minlstm, minlstm_gates)
    num_blocks = 3
    keep_block, write_block = 0, 1
    gate_names = ("forget", "input")


def mixed(weights: Any, h: Tensor, x: Tensor) -> Tensor:
    """gelu(Re(C h) + D x); a real matrix on both parts is as general as Re(C h)."""
    return gelu(linear(h, weights.output) + linear(x, weights.skip))


def _as_complex(of_x: Tensor) -> Tensor:
    """A view of a projected input: each complex number's parts stand side by side."""
    return torch.view_as_complex(of_x.unflatten(-1, (-1, 2)))


class ComplexMemory(LinearMemory):
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


class LRUWeights(NamedTuple):
    """The weights of a layer of the LRU, hidden / 2 complex units."""

    input: Tensor
    """B, `[hidden, F]`: each unit's two rows one after the other."""
    bias: Tensor
    """b, `[hidden]`."""
    output: Tensor
    """C, `[hidden, hidden]`."""
    skip: Tensor
    """D, `[hidden, F]`."""
    nu: Tensor
    """`[hidden / 2]`, as are the two below."""
    theta: Tensor
    gamma: Tensor


def lru(weights: LRUWeights, x: Tensor) -> tuple[Tensor, Tensor]:
    """Lambda and gamma * (B x + b), complex."""
    eigenvalue = torch.polar((-weights.nu.exp()).exp(), weights.theta.exp())
    (of_x,) = blocks(weights, x, 1)
    b = _as_complex(of_x) * weights.gamma.exp()
    return eigenvalue.expand_as(b), b


def no_gates(weights: Any, x: Tensor) -> tuple[Tensor, ...]:
    """A cell without gates has none."""
    return ()


class LRU(ComplexMemory):
    """The linear recurrent unit (Orvieto et al. 2023, 3): hidden / 2 complex units.

        h_t = lambda * h_tm1 + gamma * (B x_t + b),  lambda = exp(-exp(nu) + i exp(theta))
        y_t = gelu(Re(C h_t) + D x_t)

    gamma = sqrt(1 - |lambda|^2) at the start, and learnt. The paper follows the layer by a gated
    unit of its own; here it is the GELU.
    """

    cell = LinearCell("lru", lru, no_gates, mixed, complex_units=True)
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

    def weights(self, layer: int) -> LRUWeights:
        """The weights of one layer."""
        names = ("weight", "bias", "output", "skip", "nu", "theta", "gamma")
        return LRUWeights(*self._named(layer, *names))

    def initialise_time_scales(self, horizon: int, start_feature: int | None = None) -> None:
        """Units forget within 2..horizon steps: |lambda| = u / (1 + u), u as in chrono.

        A quarter of the units have angles near zero, and so hold; the angles of the others are
        spread evenly over half a circle. These resolve a delay as a Fourier transform does: with
        random angles, or small ones only, what was seen 32 steps ago looks like what was seen 31
        steps ago.
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


def rotor(weights: RotorWeights, x: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients k exp(i theta s) and sqrt(1 - k^2) (B x + b), complex."""
    of_x, control = blocks(weights, x, 2)
    forget, rotate = control.chunk(2, -1)
    keep = torch.sigmoid(forget)
    angle = weights.theta * torch.tanh(rotate)
    # Not torch.polar, whose gradient goes through absolute values and signs.
    a = torch.complex(keep * torch.cos(angle), keep * torch.sin(angle))
    # sqrt(1 - k^2) by its logarithm: the root's own slope is infinite where k rounds to one.
    scale = torch.exp(0.5 * (logsigmoid(-forget) + torch.log1p(keep)))
    return a, _as_complex(of_x) * scale


def rotor_gates(weights: RotorWeights, x: Tensor) -> tuple[Tensor, ...]:
    """The forget gate k."""
    return (torch.sigmoid(blocks(weights, x, 2)[1].chunk(2, -1)[0]),)


class Rotor(ComplexMemory):
    """A complex-valued linear recurrence whose rotation depends on the input: hidden / 2 units.

        k = sigmoid(W x_t + c),  s = tanh(V x_t + d)
        h_t = k exp(i theta s) h_tm1 + sqrt(1 - k^2) (B x_t + b)
        y_t = gelu(C h_t + D x_t)

    The input can slow, stop or reverse the rotation, by s. k is the gate of the RG-LRU (De et al.
    2024, 2.4) with its norm-preserving factor; that the angle depends on the input too is as in the
    state space model Mamba-3 (Lahoti et al. 2026). Angles that add up count; with the opposite
    sign they give a sequence in reverse.

    W starts small: units that fade by what they see before they have learnt to blur what they hold.
    """

    cell = LinearCell("rotor", rotor, rotor_gates, mixed, complex_units=True)
    num_blocks = 2
    gate_names = ("forget",)

    def __init__(self, input_size: int, hidden_size: int, num_layers: int) -> None:
        super().__init__(input_size, hidden_size, num_layers)
        for layer in range(num_layers):
            theta = nn.Parameter(spread_angles(hidden_size // 2))
            self.register_parameter(f"theta_l{layer}", theta)
            self._control(layer, 0).weight.mul_(0.1)
            # Half of the units rotate steadily whatever they see, and so keep the time: tanh(2) is
            # 0.96, where s has little slope left. The others rotate as they see, and so count.
            steady, other = self._control(layer, 1).bias.tensor_split(2)
            steady.fill_(2.0)
            other.uniform_(-1, 1)

    def weights(self, layer: int) -> RotorWeights:
        """The weights of one layer."""
        return RotorWeights(*self._named(layer, "weight", "bias", "output", "skip", "theta"))

    def initialise_time_scales(self, horizon: int, start_feature: int | None = None) -> None:
        """Units forget within 2..horizon steps: chrono initialisation of k.

        No gate opens at an episode's start: sqrt(1 - k^2) writes enough also where k is near one.
        """
        for layer in range(self.num_layers):
            set_time_scales(horizon, None, self._control(layer, 0))

    def _control(self, layer: int, part: int) -> GateRows:
        """What makes k (0) or s (1): rows for hidden / 2 units."""
        parts = (x.detach()[self.hidden_size :].chunk(2)[part] for x in self.input_rows(layer))
        return GateRows(*parts)
