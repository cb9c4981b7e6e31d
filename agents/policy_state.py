"""What a policy carries from step to step, and whether it is one of this policy."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from gymnasium import spaces
from torch import Tensor

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.arguments import check_is
from recurrent_rl.agents.kernels.safeguards import MemoryInputError
from recurrent_rl.agents.memory.states import MemoryState
from recurrent_rl.agents.previous_step import PREVIOUS_ACTION


class PolicyState(NamedTuple):
    """What a policy carries from step to step of `B` streams."""

    memory: MemoryState
    """Of the agent's memory or memories; axis 1 of every tensor is the batch."""
    previous_action: Tensor
    """`[B, ...]`, read by agents that are fed their previous action."""


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


def check_state(agent: ActorCritic, state: Any, batch: int) -> None:
    """Refuse what an agent cannot go on from.

    Args:
        agent: whose state it is to be.
        state: as it was given.
        batch: streams that it is to be of.

    Raises:
        MemoryInputError: it is no state, one of another agent or on another device, of another
            number of streams, or with a previous action that the agent does not have.
    """
    _refuse_unlike(state, fresh_state(agent, 1))
    action, space = state.previous_action, agent.action_space
    if len(action) != batch:
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


def _refuse_unlike(state: Any, like: PolicyState) -> None:
    """Refuse what is no state, or differs from another in more than the number of its streams.

    Raises:
        MemoryInputError: names the first difference.
    """
    expected = "a PolicyState of this policy, as predict returns and an actor's state is"
    check_is("state", state, PolicyState, expected, MemoryInputError)
    given, right = _by_name(state), _by_name(like)
    if given.keys() != right.keys():
        raise MemoryInputError(
            f"The state is of another policy: it has {', '.join(given)}; expected "
            f"{', '.join(right)}. Pass a state of this policy."
        )
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


def _by_name(part: Any, name: str = "") -> dict[str, Any]:
    """The tensors of a state, by names that say in states of which types they are."""
    if not isinstance(part, tuple) or not hasattr(part, "_fields"):
        return {name: part}
    found: dict[str, Any] = {}
    for field, x in zip(part._fields, part, strict=True):
        found |= _by_name(x, f"{name}.{type(part).__name__}.{field}" if name else field)
    return found


def _kind(x: Tensor, axis: int) -> tuple[Any, ...]:
    """What a tensor is, whatever the number of streams, which are on this axis."""
    return x.dim(), x.shape[:axis], x.shape[axis + 1 :], x.dtype, x.device


def _shown(x: Any, axis: int) -> str:
    """`_kind` as a message says it."""
    if not isinstance(x, Tensor):
        return f"a {type(x).__name__}"
    sizes = ["B" if i == axis else str(size) for i, size in enumerate(x.shape)]
    return f"{x.dtype} [{', '.join(sizes)}] on {x.device}"
