"""The memory's state: a value, one NamedTuple of tensors for each kind of memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor


class NoState(NamedTuple):
    """The state of an agent without memory: nothing."""


class RNNState(NamedTuple):
    """State of a plain recurrent network, `[num_layers, B, hidden]`."""

    h: Tensor


class GRUState(NamedTuple):
    """State of a gated recurrent unit, `[num_layers, B, hidden]`."""

    h: Tensor


class LSTMState(NamedTuple):
    """Hidden and cell state, `[num_layers, B, hidden]` each, as in `torch.nn.LSTM`."""

    h: Tensor
    c: Tensor


class LinearState(NamedTuple):
    """State of a cell that is linear in it, `[num_layers, B, hidden]`."""

    h: Tensor


class CompositeState(NamedTuple):
    """States of a GRU and of a rotor side by side, `[num_layers, B, hidden]`."""

    h: Tensor


MemoryState: TypeAlias = NoState | RNNState | GRUState | LSTMState | LinearState | CompositeState

LayerState: TypeAlias = tuple[Tensor, ...]
"""One layer's part of a state: its fields, `[B, hidden]` each."""


def map_state(fn: Callable[..., Tensor], *states: MemoryState) -> MemoryState:
    """Apply `fn` to the tensors of one or more states, field by field."""
    fields = zip(*states, strict=True)
    return type(states[0])(*(fn(*tensors) for tensors in fields))


def select_state(state: MemoryState, index: Tensor) -> MemoryState:
    """The streams with these indices: columns of dimension 1."""
    return map_state(lambda s: s.index_select(1, index), state)


def cat_states(states: Sequence[MemoryState], dim: int) -> MemoryState:
    """Several states as one; `dim=1` puts their streams side by side, `dim=0` stacks layers."""
    return map_state(lambda *tensors: torch.cat(tensors, dim), *states)


def reset_state(state: MemoryState, episode_start: Tensor) -> MemoryState:
    """Zero the streams for which `episode_start` (bool `[B]`) is true."""
    start = episode_start.unsqueeze(-1)
    return map_state(lambda s: s.masked_fill(start, 0.0), state)
