"""What learns: an agent, what its memory is taught beside, and the optimiser of both."""

from __future__ import annotations

from dataclasses import dataclass

from torch.optim import Optimizer

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.auxiliary import AuxiliaryLoss
from recurrent_rl.blocks import Block
from recurrent_rl.group import Group


@dataclass(frozen=True)
class Learner:
    """What an update changes, and with which workers it does so."""

    agent: ActorCritic
    auxiliary: AuxiliaryLoss | None
    """What the memory is taught beside; None: nothing."""
    optimizer: Optimizer
    """Of the parameters of both."""
    group: Group
    """The workers that learn together."""
    block: Block
    """The environments of this one."""
