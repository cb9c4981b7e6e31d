"""Memories that are not in the library, by name: what each would be worth is measured here.

Importing this module adds them to the memories that can be named, in this process.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm, linear, normalize

from recurrent_rl.agents.kernels.cell import (
    GatedCell,
    GatedWeights,
    LayerState,
    MatrixCell,
    MatrixWeights,
    angle_at,
)
from recurrent_rl.agents.memory.cells import GRU, RNN
from recurrent_rl.agents.memory.composite import Composite, GRUMatrix, GRURotor
from recurrent_rl.agents.memory.contract import Memory
from recurrent_rl.agents.memory.layered import LayeredMemory
from recurrent_rl.agents.memory.linear_cells import Rotor
from recurrent_rl.agents.memory.matrix import Matrix, even_angles, scaled
from recurrent_rl.agents.memory.registry import MEMORIES


def layer_norm_gru(
    weights: GatedWeights, x: Tensor, state: LayerState
) -> tuple[LayerState, tuple[Tensor, ...]]:
    """The equations of `cells.gru` with W x and U h normalised over the units.

    (Ba et al. 2016, section 3.1.) The normalisation has no scale or shift of its own; the biases
    are added after it.
    """
    w, u, b, d = weights.of_torch()
    (h,) = state
    rows = [len(w)]
    r_x, z_x, n_x = (layer_norm(linear(x, w), rows) + b).chunk(3, -1)
    r_h, z_h, n_h = (layer_norm(linear(h, u), rows) + d).chunk(3, -1)
    r, z = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)
    return ((1 - z) * torch.tanh(n_x + r * n_h) + z * h,), (r, z)


class LayerNormGRU(GRU):
    """A GRU with normalised sums, which only the loop can unroll."""

    cell = GatedCell("gru-layer-norm", layer_norm_gru)


class XavierRecurrent(LayeredMemory):
    """Recurrent weights drawn as the input weights are (Glorot and Bengio 2010), not orthogonal."""

    def __init__(self, input_size: int, hidden_size: int, num_layers: int) -> None:
        super().__init__(input_size, hidden_size, num_layers)
        for name, weight in self.named_parameters():
            if "weight_hh" in name:
                for block in weight.split(hidden_size):
                    nn.init.xavier_uniform_(block)


class XavierRNN(XavierRecurrent, RNN):
    """A plain RNN that is not orthogonal at first."""


class XavierGRU(XavierRecurrent, GRU):
    """A GRU that is not orthogonal at first."""


# ------------------------------------------------------------------- of the matrix memory


def heads(relative: int, mirrored: int, content: int) -> type[Matrix]:
    """The matrix memory with other heads."""
    cell = dataclasses.replace(Matrix.cell, relative=relative, mirrored=mirrored, content=content)
    return type("Heads", (Matrix,), {"cell": cell})


class Square(Matrix):
    """Keys half as long and values twice as long: as many numbers in the state, 64 x 32 a head."""

    units = property(lambda self: (self.hidden_size + 3) // 4)
    values = property(lambda self: (self.hidden_size + 3) // 4)


class Half(Matrix):
    """Keys half as long: half as many numbers in the state, 64 x 16 a head."""

    units = property(lambda self: (self.hidden_size + 3) // 4)


class UnitKeysCell(MatrixCell):
    """All keys and queries have unit length, not only those by content."""

    def _turned(self, keys: Tensor, angle: Tensor) -> Tensor:
        return super()._turned(normalize(keys, dim=-1), angle)


class UnitKeys(Matrix):
    """No input can make a key long."""

    cell = UnitKeysCell(**vars(Matrix.cell))


class DeltaCell(MatrixCell):
    """Heads by content replace what they kept under a key (Yang et al. 2024, gated delta networks).

    S_t = a_t S_tm1 + (v_t - a_t S_tm1 k_t) k_t'
    """

    def step(
        self, weights: MatrixWeights, x: Tensor, state: LayerState
    ) -> tuple[Tensor, LayerState]:
        s, clock = state
        q, k, v, log_decay = self.read_write(weights, x, clock)
        s = log_decay.exp()[..., None, None] * s
        kept = (s @ k.unsqueeze(-1)).squeeze(-1)
        kept = torch.cat([torch.zeros_like(kept[:, : self.first]), kept[:, self.first :]], 1)
        s = s + (v - kept).unsqueeze(-1) * k.unsqueeze(-2)
        o = (s @ q.unsqueeze(-1)).squeeze(-1)
        return self.output(weights, o, x), (s, clock + 1)

    @property
    def first(self) -> int:
        """The first head that replaces."""
        return self.turning


class Delta(Matrix):
    """Both heads by content replace; only the loop can unroll it."""

    cell = DeltaCell(**vars(Matrix.cell))


class OneDeltaCell(DeltaCell):
    """Of the heads by content, the last replaces and the others add up."""

    @property
    def first(self) -> int:
        return self.heads - 1


class OneDelta(Matrix):
    """One head by content adds up, and one replaces; only the loop can unroll it."""

    cell = OneDeltaCell(**vars(Matrix.cell))


def reads_as_they_are(weights: MatrixWeights, o: Tensor, x: Tensor) -> Tensor:
    """Gelu(W [o, x]): no scale, no waves, whose columns of W have no use."""
    size = o.shape[-1] * o.shape[-2]
    columns = torch.cat([weights.output[:, :size], weights.output[:, -x.shape[-1] :]], 1)
    return gelu(linear(torch.cat([o.flatten(-2), x], -1), columns))


class PlainReads(Matrix):
    """What is read is shown unscaled, and without cosines and sines."""

    cell = dataclasses.replace(Matrix.cell, output=reads_as_they_are)


def undamped_waves(weights: MatrixWeights, o: Tensor, x: Tensor) -> Tensor:
    """The waves of large counts are as large as those of small ones."""
    counts = (
        o.flatten(-2)[..., o.shape[-1] * o.shape[-2] - len(weights.frequency) :] * weights.frequency
    )
    read = torch.cat([scaled(o).flatten(-2), counts.cos(), counts.sin(), x], -1)
    return gelu(linear(read, weights.output))


class UndampedWaves(Matrix):
    """As it was at first: all that large sums say is noise."""

    cell = dataclasses.replace(Matrix.cell, output=undamped_waves)


def scaled_reads(weights: MatrixWeights, o: Tensor, x: Tensor) -> Tensor:
    """No waves, whose columns of W have no use."""
    return reads_as_they_are(weights, scaled(o), x)


class NoWaves(Matrix):
    """What is read is shown scaled, and without cosines and sines."""

    cell = dataclasses.replace(Matrix.cell, output=scaled_reads)


class OneCounts(Matrix):
    """Of the heads by content only the last is shown in waves."""

    def __init__(self, input_size: int, hidden_size: int, num_layers: int) -> None:
        super().__init__(input_size, hidden_size, num_layers)
        for layer in range(num_layers):
            weights, reads = self.weights(layer), self.cell.heads * self.values
            waves = len(weights.frequency)
            kept = torch.ones(weights.output.shape[1], dtype=torch.bool)
            for first in (reads, reads + waves):  # the cosines, the sines
                kept[first : first + waves - self.values] = False
            frequency = even_angles(self.values)
            self.register_parameter(f"frequency_l{layer}", nn.Parameter(frequency))
            output = weights.output.detach()[:, kept].clone()
            self.register_parameter(f"output_l{layer}", nn.Parameter(output))


class QuietReads(Matrix):
    """What is read moves the output a tenth as much at first; what is seen, as much as ever."""

    @torch.no_grad()
    def _initialise(self, layer: int) -> None:
        super()._initialise(layer)
        weights = self.weights(layer)
        weights.output[:, : weights.output.shape[1] - weights.input.shape[1]] *= 0.1


class OwnTurnsCell(MatrixCell):
    """Queries turn by angles of their own, which are learnt: keys' in the first half of theta."""

    def read_write(
        self, weights: MatrixWeights, x: Tensor, clock: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        keys = self.heads * 2 * weights.theta.shape[1]
        made = linear(x, weights.input, weights.bias)
        q, k, v, decay = made.tensor_split([keys, 2 * keys, made.shape[-1] - self.heads], -1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)) for part in (q, k, v))
        of_k, of_q = angle_at(clock, weights.theta).chunk(2, -2)
        return (
            *(self._turned(q, of_q), self._turned(k, of_k), v),
            torch.nn.functional.logsigmoid(decay),
        )


class OwnTurns(Matrix):
    """Each head finds by itself how queries turn; at first as relative and mirrored heads do."""

    cell = OwnTurnsCell(**vars(Matrix.cell))

    def __init__(self, input_size: int, hidden_size: int, num_layers: int) -> None:
        super().__init__(input_size, hidden_size, num_layers)
        for layer in range(num_layers):
            theta = self.weights(layer).theta.detach()
            sign = theta.new_ones(len(theta), 1)
            sign[self.cell.relative :] = -1
            learn(self, layer, torch.cat([theta, sign * theta]))


def learn(memory: Matrix, layer: int, theta: Tensor) -> None:
    """Make the angles of this layer these, and learn them."""
    delattr(memory, f"theta_l{layer}")
    memory.register_parameter(f"theta_l{layer}", nn.Parameter(theta))


class LearntAnglesCell(MatrixCell):
    """The equations as they are, with all gradients: no kernel knows this class."""


class LearntAngles(Matrix):
    """Angles are learnt."""

    cell = LearntAnglesCell(**vars(Matrix.cell))

    def __init__(self, input_size: int, hidden_size: int, num_layers: int) -> None:
        super().__init__(input_size, hidden_size, num_layers)
        for layer in range(num_layers):
            learn(self, layer, self.weights(layer).theta)


class WideRotor(Rotor):
    """As wide as the default memory's."""

    def __init__(self, input_size: int, hidden_size: int, num_layers: int) -> None:
        super().__init__(input_size, 2 * hidden_size, num_layers)


class LargeRotor(Rotor):
    """With a state of eight times as many numbers: is it the size that recalls?"""

    def __init__(self, input_size: int, hidden_size: int, num_layers: int) -> None:
        super().__init__(input_size, 8 * hidden_size, num_layers)


def beside_gru(*others: type[LayeredMemory]) -> Callable[[int, int, int], Memory]:
    """A GRU with these beside it."""

    def make(input_size: int, hidden_size: int, num_layers: int) -> Memory:
        memory: Memory = GRU(input_size, hidden_size, num_layers)
        for kind in others:
            memory = Beside(input_size, memory, kind(input_size, hidden_size, num_layers))
        return memory

    return make


class Beside(Composite):
    """Any two memories side by side."""

    gate_names = ()

    def __init__(self, input_size: int, first: Memory, other: LayeredMemory) -> None:
        super().__init__(input_size, first, "second", other)  # type: ignore[arg-type]

    def gates(self, x: Tensor, state: object) -> dict[str, Tensor]:
        return {}


IN_LIBRARY = {"gru-matrix": GRUMatrix, "matrix": Matrix, "gru-rotor": GRURotor, "gru": GRU}
MATRICES: dict[str, Callable[[int, int, int], Memory]] = {
    **IN_LIBRARY,
    "relative only": beside_gru(heads(4, 0, 0)),
    "mirrored only": beside_gru(heads(0, 4, 0)),
    "content only": beside_gru(heads(0, 0, 4)),
    "no content": beside_gru(heads(2, 2, 0)),
    "no mirrored": beside_gru(heads(2, 0, 2)),
    "no relative": beside_gru(heads(0, 2, 2)),
    "three heads": beside_gru(heads(1, 1, 1)),
    "eight heads": beside_gru(heads(2, 2, 4)),
    "64 x 32": beside_gru(Square),
    "64 x 16": beside_gru(Half),
    "unit keys": beside_gru(UnitKeys),
    "delta rule": beside_gru(Delta),
    "one delta rule": beside_gru(OneDelta),
    "reads as they are": beside_gru(PlainReads),
    "waves of one head": beside_gru(OneCounts),
    "no waves": beside_gru(NoWaves),
    "undamped waves": beside_gru(UndampedWaves),
    "quiet reads": beside_gru(QuietReads),
    "turns of their own": beside_gru(OwnTurns),
    "learnt angles": beside_gru(LearntAngles),
    "rotor too": beside_gru(WideRotor, Matrix),
    "a rotor of 1,024": beside_gru(LargeRotor),
}
"""A GRU and a matrix memory, the latter alone, two to compare them with, and one change to the
first at a time."""

OTHERS: dict[str, Callable[[int, int, int], Memory]] = {
    "gru, layer norm": LayerNormGRU,
    "rnn, Xavier": XavierRNN,
    "gru, Xavier": XavierGRU,
}

MEMORIES |= OTHERS | MATRICES
