"""The memory's state: a value, a NamedTuple of tensors or of further states.

The batch is axis 1 of every tensor. All else about its shape and type is the memory's own: a matrix
or an integer clock is as good as a vector of floats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

import torch
from torch import Tensor

MemoryState: TypeAlias = tuple[Any, ...]
"""A NamedTuple whose fields are tensors `[..., B, ...]` or states."""

State = TypeVar("State", bound=MemoryState)
"""Of one kind."""


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


class MatrixState(NamedTuple):
    """State of a matrix memory of H heads."""

    s: Tensor
    """What is kept under keys, `[num_layers, B, H, V, D]`."""
    clock: Tensor
    """Steps since the episode began, int64 `[num_layers, B]`."""


class CompositeState(NamedTuple):
    """The states of a GRU and of the memory beside it."""

    gru: MemoryState
    other: MemoryState


class PairState(NamedTuple):
    """The states of an actor and a critic that have a memory each."""

    actor: MemoryState
    critic: MemoryState


def map_state(fn: Callable[..., Tensor], state: State, *others: MemoryState) -> State:
    """Apply `fn` to the tensors of one or more states of one kind, tensor by tensor."""
    fields = [
        map_state(fn, *parts) if isinstance(parts[0], tuple) else fn(*parts)
        for parts in zip(state, *others, strict=True)
    ]
    return type(state)(*fields)


def tensors_of(state: MemoryState) -> list[Tensor]:
    """The tensors of a state, in the order of its fields."""
    found: list[Tensor] = []
    for field in state:
        found += tensors_of(field) if isinstance(field, tuple) else [field]
    return found


def with_tensors(state: MemoryState, tensors: Iterable[Tensor]) -> MemoryState:
    """A state of this kind made of these tensors, in the order of `tensors_of`."""
    following = iter(tensors)
    return map_state(lambda _: next(following), state)


def differentiable(state: MemoryState) -> list[Tensor]:
    """The tensors of a state that can have a gradient: not integers, not booleans."""
    return [x for x in tensors_of(state) if x.is_floating_point() or x.is_complex()]


def select_state(state: MemoryState, index: Tensor) -> MemoryState:
    """The streams with these indices: entries of axis 1."""
    return map_state(lambda s: s.index_select(1, index), state)


def cat_states(states: Sequence[MemoryState]) -> MemoryState:
    """The streams of several states side by side in one."""
    return map_state(lambda *tensors: torch.cat(tensors, 1), *states)


def names_of(state: MemoryState, before: str = "state") -> list[str]:
    """The names of a state's tensors, in the order of its fields: `state.h`."""
    found: list[str] = []
    for name, field in zip(type(state)._fields, state, strict=True):  # type: ignore[attr-defined]
        path = f"{before}.{name}"
        found += names_of(field, path) if isinstance(field, tuple) else [path]
    return found


def fault_of(state: Any, batch: int) -> str | None:
    """Why this cannot be a state of so many streams; None: it can."""
    if not isinstance(state, tuple) or not hasattr(state, "_fields"):
        return f"it is a {type(state).__name__}; expected a NamedTuple of tensors"
    for name, field in zip(state._fields, state, strict=True):
        if isinstance(field, tuple):
            if fault := fault_of(field, batch):
                return f"in its {name}, {fault}"
        elif not isinstance(field, Tensor) or field.dim() < 2 or field.shape[1] != batch:
            shape = list(field.shape) if isinstance(field, Tensor) else type(field).__name__
            return f"its {name} is {shape}; expected a tensor whose axis 1 is the batch, {batch}"
    return None
