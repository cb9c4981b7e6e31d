"""Beginning with what a trained policy has learnt."""

from __future__ import annotations

import dataclasses
from typing import Any

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.errors import UserError
from recurrent_rl.agents.policy import Policy

MAY_DIFFER = ("horizon", "critic_keys", "actor_keys")
"""Settings of an agent that its weights make up for, or that its spaces tell."""


def begin_with(agent: ActorCritic, policy: Policy) -> None:
    """Give an agent the weights and normalisers of a policy of the same kind.

    Where one of the two has `critic_keys` the agent takes what acts, and its critic stays as it is:
    no policy file holds the critic of such a run.

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
    weights, needed = theirs.state_dict(), acting.state_dict().keys()
    acting.load_state_dict(
        {name: x for name, x in weights.items() if name in needed},
        strict=acting.has_critic == theirs.has_critic,
    )


def _differing(agent: ActorCritic, theirs: ActorCritic) -> dict[str, Any]:
    """The settings of the other that are not this agent's."""
    own, others = (dataclasses.asdict(one.config) for one in (agent, theirs))
    return {
        name: value
        for name, value in others.items()
        if name not in MAY_DIFFER and value != own[name]
    }
