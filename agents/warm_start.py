"""Beginning with what a trained policy has learnt."""

from __future__ import annotations

import dataclasses
from typing import Any

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.errors import UserError
from recurrent_rl.agents.policy import Policy

ONLY_AT_THE_START = ("horizon",)
"""Settings of an agent that its weights make up for."""


def begin_with(agent: ActorCritic, policy: Policy) -> None:
    """Give an agent the weights and normalisers of a policy of the same kind.

    Args:
        agent: changed in place.
        policy: trained for the same spaces, with the same settings of the agent.

    Raises:
        UserError: it is for other spaces, or its settings are others; says what to set.
    """
    theirs = policy.agent
    for what, own, other in (
        ("observation space", agent.observation_space, theirs.observation_space),
        ("action space", agent.action_space, theirs.action_space),
        ("hide_indices", agent.reader.hide_indices, theirs.reader.hide_indices),
        ("scaling", agent.reader.scaling, theirs.reader.scaling),
    ):
        if own != other:
            raise UserError(
                f"The policy to begin with was trained with the {what} {other}, and this "
                f"environment's is {own}. Begin with a policy that was trained on this one."
            )
    if differing := _differing(agent, theirs):
        told = ", ".join(f"{name} {value!r}" for name, value in differing.items())
        raise UserError(
            f"The policy to begin with was trained with {told}: set the same, or begin with "
            "another."
        )
    agent.load_state_dict(theirs.state_dict())


def _differing(agent: ActorCritic, theirs: ActorCritic) -> dict[str, Any]:
    """The settings of the other that are not this agent's."""
    own, others = (dataclasses.asdict(one.config) for one in (agent, theirs))
    return {
        name: value
        for name, value in others.items()
        if name not in ONLY_AT_THE_START and value != own[name]
    }
