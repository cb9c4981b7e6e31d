"""Matrix memory: values kept under keys, and found again by place, by age or by content.

It is a linear attention with decay: fast weights that a network writes and reads (Schmidhuber 1992;
Katharopoulos et al. 2020).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, linear

from recurrent_rl.agents import kernels
from recurrent_rl.agents.kernels.cell import MatrixCell, MatrixWeights
from recurrent_rl.agents.memory.contract import Reads, check_fields
from recurrent_rl.agents.memory.layered import LayeredMemory
from recurrent_rl.agents.memory.states import MatrixState, MemoryState

QUIET = 0.3
"""How much of a usual start the input has in keys and queries that turn: first comes the place."""


SPREAD = 0.1
"""Of a count, as a share of it: waves that turn faster than counts are known fade away."""


def scaled(o: Tensor) -> Tensor:
    """The reads o `[..., H, V]` as o / sqrt(1 + mean(o^2)), head by head."""
    return o * torch.rsqrt(o.square().mean(-1, keepdim=True) + 1)


def read_out(weights: MatrixWeights, o: Tensor, x: Tensor) -> Tensor:
    """The output gelu(W [scaled(o), g cos(f c), g sin(f c), x]), c what content heads read.

    What was written often under one key adds up: its count is in the size of what is read, which
    the waves tell apart and the scaled reads do not. A wave is shown as its mean over counts that
    are known to a tenth, normally distributed: g = exp(-(f c / 10)^2 / 2). Undamped, the phases of
    large sums turn at the least change of the weights, and all that is learnt drowns in it.
    """
    values = o.shape[-1]
    counts = o.flatten(-2)[..., o.shape[-2] * values - len(weights.frequency) :]
    phase = counts * weights.frequency
    damping = (phase.square() * (-0.5 * SPREAD**2)).exp()
    waves = (damping * phase.cos(), damping * phase.sin())
    return gelu(linear(torch.cat([scaled(o).flatten(-2), *waves, x], -1), weights.output))


class Matrix(LayeredMemory):
    """Four heads of matrix memory, each `[V, D]`, with D about `hidden_size` and V an eighth of it.

        S_t = a_t S_tm1 + v_t k_t',  o_t = S_t q_t,  a_t = sigmoid(A x_t + c)

    Keys k, queries q and values v are linear in x. The heads differ in how keys and queries turn
    with the steps n since the episode began, D / 2 complex numbers by fixed angles, spread evenly
    over half a circle. A head that turns tells D places apart:

    - one relative, both by n theta (rotary positions, Su et al. 2021): "so many steps ago";
    - one mirrored, the query by -n theta: "at that place of the episode", such as as many steps
      from its middle;
    - two by content, which do not turn and have unit length: "what belonged to this key".

    A decay that depends on the input is that of gated linear attention (Yang et al. 2024). Reads
    are scaled as by an RMS norm that leaves small ones small. The cosines and sines of those by
    content are Fourier features (Rahimi & Recht 2007) with learnt frequencies, which tell counts
    apart; they are damped by how little is known of a large count, as the integrated positional
    encoding of Barron et al. (2021) is. The output has 2 * hidden_size numbers.

    Keys are multiplied with values and with queries: inputs should be of size 1, as an encoder or
    normalised observations give them. From 1e19 on, the products overflow.
    """

    cell = MatrixCell("matrix", relative=1, mirrored=1, content=2, output=read_out)
    state_type = MatrixState
    gate_names = ("decay",)

    def __init__(self, input_size: int, hidden_size: int, num_layers: int) -> None:
        super().__init__(input_size, hidden_size, num_layers)
        self.output_size = 2 * hidden_size
        heads, content = self.cell.heads, self.cell.content
        for layer in range(num_layers):
            columns = input_size if layer == 0 else self.output_size
            read = (heads + 2 * content) * self.values
            shapes = {
                "weight": (heads * (4 * self.units + self.values + 1), columns),
                "bias": (heads * (4 * self.units + self.values + 1),),
                "frequency": (content * self.values,),
                "output": (self.output_size, read + columns),
            }
            for name, shape in shapes.items():
                self.register_parameter(f"{name}_l{layer}", nn.Parameter(torch.zeros(shape)))
            angles = even_angles(self.cell.turning * self.units)
            self.register_buffer(f"theta_l{layer}", angles.view(self.units, -1).t().contiguous())
            self._initialise(layer)

    @property
    def units(self) -> int:
        """D / 2."""
        return (self.hidden_size + 1) // 2

    @property
    def values(self) -> int:
        """V."""
        return (self.hidden_size + 7) // 8

    def weights(self, layer: int) -> MatrixWeights:
        """The weights of one layer."""
        weight, bias, frequency, output = self._named(
            layer, "weight", "bias", "frequency", "output"
        )
        return MatrixWeights(weight, bias, getattr(self, f"theta_l{layer}"), frequency, output)

    def initial_state(self, batch: int) -> MemoryState:
        """A fresh state: empty matrices `[num_layers, B, H, V, D]`, and clocks at zero."""
        weight = self.weights(0).input
        of_s, of_clock = self._shapes(batch)
        return MatrixState(weight.new_zeros(of_s), weight.new_zeros(of_clock, dtype=torch.int64))

    def reads(
        self, x: Tensor, state: MemoryState, episode_start: Tensor | None = None
    ) -> dict[str, Reads]:
        """As `Memory.reads`; heads are named by kind: relative, mirrored, content_1, content_2."""
        layers = []
        for layer in range(self.num_layers):
            weights, (s, clock) = self.weights(layer), tuple(field[layer] for field in state)
            found = kernels.attention(self.cell, weights, x, clock, episode_start)
            size = found.weights.abs()
            steps = size.sum(-1).square() / size.square().sum(-1).clamp_min(1e-30)
            o = found.reads(s).permute(2, 0, 1, 3)
            shown = self.cell.output(weights, o, x)
            effect = torch.stack(
                [
                    (shown - self.cell.output(weights, o.index_fill(2, head, 0), x)).norm(dim=-1)
                    for head in torch.arange(self.cell.heads, device=x.device)
                ]
            )
            share = effect / effect.sum(0).clamp_min(1e-30)
            layers.append((steps.permute(1, 2, 0), share))
            x = shown
        steps, share = (torch.stack(parts, 1) for parts in zip(*layers, strict=True))
        return {
            name: Reads(steps[head], share[head]) for head, name in enumerate(_names(self.cell))
        }

    def initialise_time_scales(self, horizon: int, start_feature: int | None = None) -> None:
        """The heads forget within 4/3, 2.9, 6.2 and 13.3 times the horizon, whatever they see.

        What a head keeps is told from the rest by its key, not by how much it has faded.
        """
        if horizon < 3:
            return
        heads = self.cell.heads
        steps = horizon * 4 / 3 * torch.logspace(0, 1, heads)
        for layer in range(self.num_layers):
            self.weights(layer).bias.detach()[-heads:] = steps.log()

    @torch.no_grad()
    def _initialise(self, layer: int) -> None:
        """Turning keys start as the bare place; all else as Xavier says, and decays still."""
        cell, size = self.cell, 2 * self.units
        weights = self.weights(layer)
        q, k, v, _ = weights.input.split(
            [cell.heads * size, cell.heads * size, cell.heads * self.values, cell.heads]
        )
        of_x = q.shape[1]
        for block in (q, k, v, weights.output[:, :-of_x], weights.output[:, -of_x:]):
            nn.init.xavier_uniform_(block)
        turning = cell.turning * size
        q[:turning] *= QUIET
        k[:turning] *= QUIET
        of_q, of_k, of_v, _ = weights.bias.split([len(q), len(k), len(v), cell.heads])
        nn.init.normal_(of_q, std=0.1)
        of_k[:turning].view(-1, 2, self.units)[:, 0] = 1
        of_v[cell.turning * self.values :] = 1  # counts how often a key was written
        weights.frequency.copy_(even_angles(len(weights.frequency)))

    def _shapes(self, batch: int) -> tuple[tuple[int, ...], ...]:
        """Of the state's fields."""
        lead = (self.num_layers, batch)
        return (*lead, self.cell.heads, self.values, 2 * self.units), lead

    def _check_state(self, state: MemoryState, x: Tensor) -> None:
        shapes = self._shapes(x.shape[-2])
        check_fields(state, shapes, x, "num_layers, B, ...", integers=("clock",))


def _names(cell: MatrixCell) -> list[str]:
    """Of the heads, in order."""
    return [
        kind if count == 1 else f"{kind}_{number}"
        for kind in ("relative", "mirrored", "content")
        for count in [getattr(cell, kind)]
        for number in range(1, count + 1)
    ]


def even_angles(count: int) -> Tensor:
    """Angles spread evenly over half a circle."""
    return math.pi * (torch.arange(count) + 0.5) / count
