"""Beginning with what a trained policy has learnt."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.errors import UserError
from recurrent_rl.agents.memory.growth import cannot_grow, output_places, place, places
from recurrent_rl.agents.policy import Policy

MAY_DIFFER = ("horizon", "critic_keys", "actor_keys", "hidden_size")
"""Settings of an agent that its weights make up for, that its spaces tell, or that may grow."""


def begin_with(agent: ActorCritic, policy: Policy) -> None:
    """Give an agent the weights and normalisers of a policy of the same kind.

    Where one of the two has `critic_keys` the agent takes what acts, and its critic stays as it is:
    no policy file holds the critic of such a run. Where the agent's memory has more units, the
    policy's are among them, and the others begin untrained and unread: actions and values are the
    policy's, but for rounding.

    Args:
        agent: changed in place.
        policy: trained for the same spaces, with the same settings of the agent.

    Raises:
        UserError: it is for other spaces, or its settings are others; says what to set.
    """
    theirs, acting = policy.agent, agent.without_critic()
    for what, own, other in (
        ("observation space", acting.observation_space, theirs.observation_space),
        ("action space", acting.action_space, theirs.action_space),
        ("hide_indices", acting.reader.hide_indices, theirs.reader.hide_indices),
        ("scaling", acting.reader.scaling, theirs.reader.scaling),
    ):
        if own != other:
            raise UserError(
                f"The policy to begin with was trained with the {what} {other}, and this "
                f"environment's is {own}. Begin with a policy that was trained on this one."
            )
    if differing := _differing(agent, theirs):
        told = ", ".join(f"{name} {value!r}" for name, value in differing.items())
        raise UserError(
            f"The policy to begin with was trained with {told}: set the same for the agent (all by "
            "--config with the config.json of its run, or agent=load_policy(PATH).config), or "
            "begin with another."
        )
    fresh = acting.state_dict()
    weights = {name: x for name, x in theirs.state_dict().items() if name in fresh}
    if agent.config.hidden_size != theirs.config.hidden_size:
        weights = _grown(acting, theirs, weights)
    acting.load_state_dict(weights, strict=acting.has_critic == theirs.has_critic)


def _differing(agent: ActorCritic, theirs: ActorCritic) -> dict[str, Any]:
    """The settings of the other that are not this agent's."""
    own, others = (dataclasses.asdict(one.config) for one in (agent, theirs))
    return {
        name: value
        for name, value in others.items()
        if name not in MAY_DIFFER and value != own[name]
    }


def _grown(
    agent: ActorCritic, theirs: ActorCritic, weights: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Weights for an agent with more units that make it act as another does.

    Raises:
        UserError: its memory has fewer units, or is one that cannot grow, or a part of one's own
            cannot.
    """
    memories = list(zip(theirs.memories(), agent.memories(), strict=False))
    why = cannot_grow(memories[0][0])
    if agent.config.hidden_size < theirs.config.hidden_size:
        why = "it may only grow"
    fresh = agent.state_dict()
    # What reads a memory's output, unless layers stand between or the memory passes on what the
    # encoder says: then its shape stays.
    readers = {"head.linear.weight": memories[0], "critic.weight": memories[-1]}
    at: dict[str, tuple[Tensor, ...]] = {}
    if why is None:
        for i, (old, new) in enumerate(memories):
            found = places(old, new).items()
            at |= {f"trunks.{i}.memory.{name}": index for name, index in found}
        for name, read in readers.items():
            if name in weights and weights[name].shape != fresh[name].shape:
                at[name] = torch.arange(len(weights[name])), output_places(*read)
    others = [
        name for name, x in weights.items() if name not in at and x.shape != fresh[name].shape
    ]
    if why is None and others:
        why = f"there is more that goes by its size: {others[0]}"
    if why is not None:
        raise UserError(
            f"The policy to begin with was trained with hidden_size {theirs.config.hidden_size}, "
            f"and its memory, {theirs.config.memory}, cannot have {agent.config.hidden_size} units "
            f"instead: {why}. Set the same, or begin with another."
        )
    return {
        name: place(x, fresh[name].to(x.device), at[name]) if name in at else x
        for name, x in weights.items()
    }
