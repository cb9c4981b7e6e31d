"""What learns: an agent, what its memory is taught beside, and the optimiser of both."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from torch.optim import Optimizer

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.auxiliary import AuxiliaryLoss
from recurrent_rl.blocks import Block
from recurrent_rl.config import ResolvedConfig
from recurrent_rl.group import Group
from recurrent_rl.optimizer import Adam


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

    @classmethod
    def of(
        cls,
        agent: ActorCritic,
        config: ResolvedConfig,
        auxiliary: AuxiliaryLoss | None,
        group: Group,
        block: Block,
    ) -> Learner:
        """With a fresh optimiser."""
        parameters = named_parameters(agent, auxiliary).values()
        optimizer = Adam(parameters, lr=config.learning_rate, eps=config.adam_eps, fused=True)
        return cls(agent, auxiliary, optimizer, group, block)

    @property
    def modules(self) -> dict[str, nn.Module]:
        """What is learnt, by the names that checkpoints have for it."""
        own: dict[str, nn.Module] = {"agent": self.agent}
        return own if self.auxiliary is None else own | {"auxiliary": self.auxiliary}


def named_parameters(
    agent: ActorCritic, auxiliary: AuxiliaryLoss | None
) -> dict[str, nn.Parameter]:
    """What the optimiser changes: the agent's parameters, then those of an auxiliary loss."""
    beside = () if auxiliary is None else auxiliary.named_parameters()
    return dict(agent.named_parameters()) | {f"aux_loss.{name}": x for name, x in beside}
