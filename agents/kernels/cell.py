"""What a kernel knows of a cell: its name, its weights, and its equations as pure functions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import linear, logsigmoid, normalize

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


class MatrixWeights(NamedTuple):
    """The weights of a layer of matrix memory: H heads, of D numbers a key and V a value.

    The P heads whose keys turn come first; a key is D / 2 complex numbers, all real parts first.
    """

    input: Tensor
    """`[H * (2 D + V + 1), F]`: all queries, all keys, all values, and what decays are made of."""
    bias: Tensor
    """`[H * (2 D + V + 1)]`."""
    theta: Tensor
    """By how much keys turn from one step to the next, `[P, D / 2]`; not learnt."""
    frequency: Tensor
    """Of the cosines and sines of what content heads read, `[(H - P) * V]`."""
    output: Tensor
    """`[units, H * V + 2 * (H - P) * V + F]`: of the reads, the cosines, the sines and x."""


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


@dataclass(frozen=True)
class MatrixCell:
    """A cell whose state is a matrix a head, S_t = a_t S_tm1 + v_t k_t', read by o_t = S_t q_t.

    Keys and queries of `relative` heads turn by theta with each step since the episode began. Those
    of `mirrored` heads turn too, queries the other way. Those of `content` heads do not turn, and
    have length one. The fields of the state are S, `[B, H, V, D]`, and these steps, int64 `[B]`.
    """

    name: str
    relative: int
    mirrored: int
    content: int
    output: Callable[[MatrixWeights, Tensor, Tensor], Tensor]
    """(weights, o `[..., H, V]`, x `[..., F]`) to what the layer shows, `[..., units]`."""

    @property
    def heads(self) -> int:
        """H."""
        return self.turning + self.content

    @property
    def turning(self) -> int:
        """P."""
        return self.relative + self.mirrored

    def read_write(
        self, weights: MatrixWeights, x: Tensor, clock: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Queries and keys `[..., H, D]`, values `[..., H, V]` and the log of decays `[..., H]`.

        Args:
            weights: of the layer.
            x: `[..., F]`.
            clock: steps since the episode began, int64 `[...]`.
        """
        keys = self.heads * 2 * weights.theta.shape[1]
        made = linear(x, weights.input, weights.bias)
        q, k, v, decay = made.tensor_split([keys, 2 * keys, made.shape[-1] - self.heads], -1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)) for part in (q, k, v))
        angle = angle_at(clock, weights.theta)
        sign = angle.new_ones(self.turning, 1)
        sign[self.relative :] = -1
        return self._turned(q, sign * angle), self._turned(k, angle), v, logsigmoid(decay)

    def _turned(self, keys: Tensor, angle: Tensor) -> Tensor:
        """Keys or queries `[..., H, D]`: turned by the angle, or brought to length one."""
        turning, still = keys.tensor_split([self.turning], -2)
        re, im = turning.chunk(2, -1)
        sine, cosine = angle.sin(), angle.cos()
        turned = torch.cat([re * cosine - im * sine, re * sine + im * cosine], -1)
        return torch.cat([turned, normalize(still, dim=-1)], -2)

    def step(
        self, weights: MatrixWeights, x: Tensor, state: LayerState
    ) -> tuple[Tensor, LayerState]:
        """As `Cell.step`."""
        s, clock = state
        q, k, v, log_decay = self.read_write(weights, x, clock)
        s = log_decay.exp()[..., None, None] * s + v.unsqueeze(-1) * k.unsqueeze(-2)
        o = (s @ q.unsqueeze(-1)).squeeze(-1)
        return self.output(weights, o, x), (s, clock + 1)

    def gates(self, weights: MatrixWeights, x: Tensor, state: LayerState) -> tuple[Tensor, ...]:
        """The decays a, `[B, H]`."""
        return (self.read_write(weights, x, state[1])[3].exp(),)


def angle_at(clock: Tensor, theta: Tensor) -> Tensor:
    """By how much `[..., P, D / 2]` has turned after `clock` `[...]` steps, in 0..2 pi.

    In double precision: it is as exact after a million steps as after ten.
    """
    turned = clock[..., None, None] * theta.double()
    return torch.remainder(turned, 2 * math.pi).to(theta.dtype)


def clocks(clock: Tensor, steps: int, episode_start: Tensor | None) -> Tensor:
    """Steps since the episode began at each of so many, int64 `[T, B]`; `clock` `[B]` before them.

    Args:
        clock: int64 `[B]`.
        steps: T.
        episode_start: bool `[T, B]`, or None.
    """
    n = torch.arange(steps, device=clock.device).unsqueeze(1)
    if episode_start is None:
        return n + clock
    began = (n * episode_start).cummax(0).values
    return n - began + clock.masked_fill(episode_start.cummax(0).values, 0)


def reset(state: LayerState, episode_start: Tensor) -> LayerState:
    """The fields `[B, ...]` with zeros where `episode_start` (bool `[B]`) is true."""
    return tuple([f.masked_fill(episode_start.view(-1, *[1] * (f.dim() - 1)), 0) for f in state])
