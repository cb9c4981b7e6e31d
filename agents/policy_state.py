"""What a policy carries from step to step: its streams, whether it is this policy's, as text."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.arguments import check_is
from recurrent_rl.agents.kernels.safeguards import MemoryInputError
from recurrent_rl.agents.memory.states import (
    MemoryState,
    cat_states,
    select_state,
    with_tensors,
)
from recurrent_rl.agents.previous_step import PREVIOUS_ACTION
from recurrent_rl.agents.settings import SettingError, refusal


class PolicyState(NamedTuple):
    """What a policy carries from step to step of `B` streams."""

    memory: MemoryState
    """Of the agent's memory or memories; axis 1 of every tensor is the batch."""
    previous_action: Tensor
    """`[B, ...]`, read by agents that are fed their previous action."""

    @staticmethod
    def cat(states: Sequence[PolicyState]) -> PolicyState:
        """The streams of several states of one policy side by side, in their order.

        Raises:
            MemoryInputError: there is none, or one is of another policy than the first.
        """
        if not states:
            raise MemoryInputError("There are no states to put side by side; give at least one.")
        first = states[0]
        _refuse_unlike(first, first)
        form = _form(first)
        for state in states:
            if _form(state) != form:
                _refuse_unlike(state, first)
        actions = torch.cat([state.previous_action for state in states])
        return PolicyState(cat_states([state.memory for state in states]), actions)

    def select(self, streams: Any) -> PolicyState:
        """A state of some of the streams, in the order that is given.

        Args:
            streams: an index, a list of indices, a slice, or bool `[B]`.

        Raises:
            SettingError: there is no such stream.
        """
        count = len(self.previous_action)
        try:
            rows = np.arange(count)[streams]
            if rows.ndim > 1:  # None, or one truth value for all
                raise IndexError
        except (IndexError, TypeError, ValueError):
            expected = f"an index below {count}, a list of them, or True or False for each"
            raise SettingError(refusal("streams", streams, expected)) from None
        index = torch.as_tensor(rows.reshape(-1), device=self.previous_action.device)
        return PolicyState(select_state(self.memory, index), self.previous_action[index])

    def to_json(self) -> str:
        """JSON text, exact to the bit, for `Policy.state_from_json`; 4/3 as long as the bytes."""
        return json.dumps({name: _written(x) for name, x in _by_name(self).items()})


def fresh_state(agent: ActorCritic, batch: int) -> PolicyState:
    """What `batch` streams carry that have not begun.

    Raises:
        SettingError: `batch` is no number of streams.
    """
    memory = agent.initial_state(batch)
    head = agent.head
    action = torch.zeros(
        (int(batch), *head.action_shape), dtype=head.action_dtype, device=agent.device
    )
    return PolicyState(memory, action)


def state_from_json(agent: ActorCritic, text: str) -> PolicyState:
    """The inverse of `PolicyState.to_json`, on the agent's device.

    Args:
        agent: whose state it is. That of another with the same tensors is not refused.
        text: may come from anyone.

    Raises:
        MemoryInputError: it is no such text, or of a state that `check_state` refuses or whose
            numbers are not finite.
    """
    try:
        found = {name: _read(*part) for name, part in json.loads(text).items()}
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError):
        expected = "what a PolicyState's to_json() gave"
        raise MemoryInputError(refusal("text", text, expected)) from None
    right = _right(agent)
    _refuse_names(found, right.by_name)
    *memory, action = (found[name].to(right.device) for name in right.by_name)
    state = PolicyState(with_tensors(right.memory, memory), action)
    check_state(agent, state)
    for name, x in found.items():
        if (x.is_floating_point() or x.is_complex()) and not x.isfinite().all():
            raise MemoryInputError(f"The state's {name} holds NaN or infinity. Begin anew.")
    return state


class _Right(NamedTuple):
    """What the states of an agent are whose weights are on this device and of this type."""

    device: torch.device
    dtype: torch.dtype
    memory: MemoryState
    by_name: dict[str, Any]
    form: Any


_RIGHT: WeakKeyDictionary[ActorCritic, _Right] = WeakKeyDictionary()
"""Kept: to make a state takes longer than to compare two."""


def _right(agent: ActorCritic) -> _Right:
    """What this agent's states are now."""
    weight, known = agent.head.linear.weight, _RIGHT.get(agent)
    if known is None or known.device != weight.device or known.dtype != weight.dtype:
        fresh = fresh_state(agent, 1)
        known = _Right(weight.device, weight.dtype, fresh.memory, _by_name(fresh), _form(fresh))
        _RIGHT[agent] = known
    return known


def check_state(agent: ActorCritic, state: Any, batch: int | None = None) -> None:
    """Refuse what an agent cannot go on from.

    Args:
        agent: whose state it is to be.
        state: as it was given.
        batch: streams that it is to be of; None: of any number.

    Raises:
        MemoryInputError: it is no state, one of another agent or on another device, of another
            number of streams, or with a previous action that the agent does not have.
    """
    if _form(state) != _right(agent).form:
        _refuse_unlike(state, fresh_state(agent, 1))
    action, space = state.previous_action, agent.action_space
    if batch is not None and len(action) != batch:
        raise MemoryInputError(
            f"The state is of {len(action)} streams, and one of {batch} is needed, as many as "
            "there are observations. Pass the state that the same streams returned."
        )
    if not agent.config.previous_action:
        return  # it is not read
    if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)):
        sizes = space.n if isinstance(space, spaces.Discrete) else space.nvec.reshape(-1)
        given = action.cpu().numpy()
        if ((given < 0) | (given >= sizes)).any():
            raise MemoryInputError(
                f"The state's previous_action is {given.tolist()}; expected whole numbers from 0, "
                f"below {sizes.tolist()}. Pass a state of this policy."
            )


def _form(state: Any) -> Any:
    """What a state is, whatever its number of streams; None: no state.

    `_refuse_unlike` takes states of equal forms for states of one policy, and takes longer.
    """
    action = state.previous_action if isinstance(state, PolicyState) else None
    if not isinstance(action, Tensor) or not action.dim():
        return None
    batch = action.shape[:1]
    return _form_of(state.memory, batch, 1), _form_of(action, batch, 0)


def _form_of(part: Any, batch: torch.Size, axis: int) -> Any:
    """What a part of a state is, and whether it is of so many streams, on this axis of tensors."""
    if isinstance(part, tuple):
        return type(part), [_form_of(x, batch, axis) for x in part]
    if not isinstance(part, Tensor):
        return type(part)
    return _kind(part, axis), part.shape[axis : axis + 1] == batch


def _refuse_unlike(state: Any, like: PolicyState) -> None:
    """Refuse what is no state, or differs from another in more than the number of its streams.

    Raises:
        MemoryInputError: names the first difference.
    """
    expected = "a PolicyState of this policy, as predict returns and an actor's state is"
    check_is("state", state, PolicyState, expected, MemoryInputError)
    given, right = _by_name(state), _by_name(like)
    _refuse_names(given, right)
    streams = set()
    for name, x in given.items():
        axis = 0 if name == PREVIOUS_ACTION else 1
        if not isinstance(x, Tensor) or _kind(x, axis) != _kind(right[name], axis):
            raise MemoryInputError(
                f"The state's {name} is {_shown(x, axis)}; expected {_shown(right[name], axis)}. "
                "Pass a state of this policy."
            )
        streams.add(x.shape[axis])
    if len(streams) > 1:
        raise MemoryInputError(
            f"The state's tensors are of different numbers of streams, {sorted(streams)}. Pass a "
            "state as predict returned it."
        )


def _refuse_names(given: Mapping[str, Any], right: Mapping[str, Any]) -> None:
    """Refuse a state with tensors of other names."""
    if given.keys() != right.keys():
        raise MemoryInputError(
            f"The state is of another policy: it has {', '.join(given)}; expected "
            f"{', '.join(right)}. Pass a state of this policy."
        )


def _by_name(part: Any, name: str = "") -> dict[str, Any]:
    """The tensors of a state, by names that say in states of which types they are."""
    if not isinstance(part, tuple) or not hasattr(part, "_fields"):
        return {name: part}
    found: dict[str, Any] = {}
    for field, x in zip(part._fields, part, strict=True):
        found |= _by_name(x, f"{name}.{type(part).__name__}.{field}" if name else field)
    return found


def _kind(x: Tensor, axis: int) -> tuple[torch.dtype, torch.device, list[Any]]:
    """What a tensor is, with "B" for the number of streams, which are on this axis."""
    sizes: list[Any] = list(x.shape)
    if len(sizes) > axis:
        sizes[axis] = "B"
    return x.dtype, x.device, sizes


def _shown(x: Any, axis: int) -> str:
    """`_kind` as a message says it."""
    if not isinstance(x, Tensor):
        return f"a {type(x).__name__}"
    dtype, device, sizes = _kind(x, axis)
    return f"{dtype} [{', '.join(map(str, sizes))}] on {device}"


def _written(x: Tensor) -> tuple[str, list[int], str]:
    """A tensor for JSON: its type, its shape and its bytes in base64."""
    whole = x.detach().cpu().resolve_conj().resolve_neg().reshape(-1)
    data = whole.view(torch.uint8).numpy().tobytes()
    return str(x.dtype).removeprefix("torch."), list(x.shape), base64.b64encode(data).decode()


def _read(dtype: str, shape: list[int], text: str) -> Tensor:
    """The inverse of `_written`.

    Raises:
        ValueError, TypeError, LookupError, ArithmeticError, RuntimeError: it is of none.
    """
    kind, data = vars(torch)[dtype], bytearray(base64.b64decode(text, validate=True))
    if not isinstance(kind, torch.dtype) or dtype.startswith("q"):  # quantized: without a scale
        raise ValueError(f"{dtype} is no type of numbers")
    x = torch.frombuffer(data, dtype=kind) if data else torch.empty(0, dtype=kind)
    return x.reshape(shape)
