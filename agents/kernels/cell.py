"""What a kernel knows of a cell: its name, its weights, and its equations as pure functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor

LayerState: TypeAlias = tuple[Tensor, ...]
"""One layer's part of a state: its fields, `[B, ...]` each."""


class GatedWeights(NamedTuple):
    """The weights of a layer that is not linear in its state, blocks of `hidden` rows."""

    input: Tensor
    """W, `[blocks * hidden, F]`."""
    recurrent: Tensor
    """U, `[blocks * hidden, hidden]`."""
    bias: Tensor
    """b, `[blocks * hidden]`, added to W x."""
    recurrent_bias: Tensor | None = None
    """d, `[blocks * hidden]`, added to U h."""
    peephole: Tensor | None = None
    """`[3, hidden]`, of the input, forget and output gates."""

    def of_torch(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """W, U, b and d, as torch's functions take them."""
        assert self.recurrent_bias is not None
        return self.input, self.recurrent, self.bias, self.recurrent_bias


class RotorWeights(NamedTuple):
    """The weights of a layer of the rotor, hidden / 2 complex units."""

    input: Tensor
    """`[2 * hidden, F]`: of B x, then of the gates k and the factors s of the angles."""
    bias: Tensor
    """`[2 * hidden]`."""
    output: Tensor
    """C, `[hidden, hidden]`."""
    skip: Tensor
    """D, `[hidden, F]`."""
    theta: Tensor
    """Largest angles, `[hidden / 2]`."""


class Cell(Protocol):
    """One layer's equations, of weights that are the cell's own kind of NamedTuple."""

    @property
    def name(self) -> str:
        """The name under which a kernel knows it."""
        ...

    def step(self, weights: Any, x: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        """One time step, of a state that has been reset already.

        Args:
            weights: of the layer.
            x: `[B, F]`.
            state: the layer's fields, `[B, ...]` each.

        Returns:
            The output `[B, units]`, and the fields after the step.
        """
        ...

    def gates(self, weights: Any, x: Tensor, state: LayerState) -> tuple[Tensor, ...]:
        """The gates of that step, `[B, units]` each."""
        ...


@dataclass(frozen=True)
class GatedCell:
    """A cell whose next state is a squashed function of W x and U h."""

    name: str
    equations: Callable[[GatedWeights, Tensor, LayerState], tuple[LayerState, tuple[Tensor, ...]]]
    """(weights, x, state) to the next state, whose first field is the output, and the gates."""
    by_torch: Callable[[GatedWeights, Tensor, LayerState], LayerState] | None = None
    """The same step as one call of torch's, where it has one."""

    def step(
        self, weights: GatedWeights, x: Tensor, state: LayerState
    ) -> tuple[Tensor, LayerState]:
        """As `Cell.step`."""
        if self.by_torch is not None:
            state = self.by_torch(weights, x, state)
        else:
            state, _ = self.equations(weights, x, state)
        return state[0], state

    def gates(self, weights: GatedWeights, x: Tensor, state: LayerState) -> tuple[Tensor, ...]:
        """As `Cell.gates`."""
        return self.equations(weights, x, state)[1]


def shown_as_it_is(weights: Any, h: Tensor, x: Tensor) -> Tensor:
    """The output of a cell that shows its state."""
    return h


@dataclass(frozen=True)
class LinearCell:
    """A cell that is linear in its state: h_t = a_t * h_tm1 + b_t, a and b of the input alone.

    With `complex_units` the state `[B, hidden]` holds the real and the imaginary part of hidden / 2
    numbers side by side.
    """

    name: str
    coefficients: Callable[[Any, Tensor], tuple[Tensor, Tensor]]
    """(weights, x `[..., F]`) to a and b, `[..., units]` each; complex where the units are."""
    write_gates: Callable[[Any, Tensor], tuple[Tensor, ...]]
    """(weights, x) to the gates."""
    output: Callable[[Any, Tensor, Tensor], Tensor] = shown_as_it_is
    """(weights, h, x) to what the layer shows, `[..., hidden]`."""
    complex_units: bool = False

    def from_state(self, h: Tensor) -> Tensor:
        """What is scanned, from a field of the state `[..., hidden]`."""
        # Not a view: half of the states of a composite begin at an odd place in memory.
        return torch.complex(h[..., 0::2], h[..., 1::2]) if self.complex_units else h

    def to_state(self, h: Tensor) -> Tensor:
        """The inverse of `from_state`."""
        return torch.view_as_real(h).flatten(-2) if self.complex_units else h

    def step(self, weights: Any, x: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        """As `Cell.step`."""
        a, b = self.coefficients(weights, x)
        h = self.to_state(a * self.from_state(state[0]) + b)
        return self.output(weights, h, x), (h,)

    def gates(self, weights: Any, x: Tensor, state: LayerState) -> tuple[Tensor, ...]:
        """As `Cell.gates`."""
        return self.write_gates(weights, x)


def reset(state: LayerState, episode_start: Tensor) -> LayerState:
    """The fields `[B, ...]` with zeros where `episode_start` (bool `[B]`) is true."""
    return tuple([f.masked_fill(episode_start.view(-1, *[1] * (f.dim() - 1)), 0) for f in state])
