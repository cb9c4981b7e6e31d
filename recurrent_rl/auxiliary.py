"""Auxiliary losses: what a memory is taught beside getting rewards.

Rewards say little about what is worth remembering, and late. A second loss on what the memory gives
can teach it sooner, such as to predict what comes next (Jaderberg et al. 2017; Ni et al. 2024).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor, nn

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.distributions import MultiCategorical
from recurrent_rl.agents.features import ValueFeatures, VectorFeatures, make_features
from recurrent_rl.agents.importing import class_path
from recurrent_rl.agents.layers import dense_layers
from recurrent_rl.agents.parts import Own, Parts, form_of, takes
from recurrent_rl.agents.previous_step import fed_back
from recurrent_rl.agents.settings import SettingError
from recurrent_rl.agents.spaces import is_image
from recurrent_rl.sequences import Sequences


class AuxiliaryLoss(nn.Module):
    """A loss on what the memory gives, learnt from beside PPO's: the base of one's own.

    It is made once, of the agent that training begins with, and may have layers. They are learnt
    with the agent's weights and saved in checkpoints, and are no part of the policy. On resume it
    is made of a fresh agent, and gets its parameters and buffers back.

    A run repeats, and resumes bit for bit, where `forward` draws no random numbers (by dropout,
    say). Several workers then learn what one would, if a sequence's loss depends on it alone.
    """

    def __init__(self, agent: ActorCritic) -> None:
        super().__init__()

    def forward(self, agent: ActorCritic, features: Tensor, batch: Sequences) -> Tensor:
        """The loss of each step.

        Args:
            agent: as it is now.
            features: `[L, C, memory.output_size]`, what the actor's memory gives at each step; the
                gradient goes through them into memory and encoder.
            batch: the same steps of a minibatch: observation components, actions, returns and more.

        Returns:
            `[L, C]`, finite. The mean over the steps that an environment has taken
            (`batch.valid`) is added to PPO's loss, times `aux_coef`.
        """
        raise NotImplementedError


class NumbersToTell(VectorFeatures):
    """The entries of a Box or MultiBinary, as the encoder is shown them."""

    def __init__(self, space: gym.Space[Any], scaling: str) -> None:
        super().__init__(space, scaling)
        self.num_outputs = self.num_entries = self.output_size

    def error(self, told: Tensor, x: Tensor) -> Tensor:
        """The squared error of `[..., outputs]` about `[..., *shape]`, summed over the entries."""
        return (told - self.forward(x)).square().sum(dim=-1)


class ValuesToTell(ValueFeatures):
    """The values of a Discrete, or of the entries of a MultiDiscrete."""

    def __init__(self, space: gym.spaces.Discrete | gym.spaces.MultiDiscrete) -> None:
        super().__init__(space)
        self.num_outputs = self.num_values
        # Where all is certain there is nothing to tell, and the likelihood is 1.
        self.unit = sum(math.log(n) for n in self.sizes) / self.num_entries or 1.0

    def error(self, told: Tensor, x: Tensor) -> Tensor:
        """The negative log-likelihood, in units in which guessing costs 1 for each entry, `[...]`.

        Args:
            told: logits `[..., outputs]`.
            x: int64 `[..., *shape]`.
        """
        return -MultiCategorical(told, self.sizes).log_prob(self.values(x)) / self.unit


class NextObservation(AuxiliaryLoss):
    """How badly the memory's features and the action predict the next observation.

    The mean over the observation's entries: of numbers the squared error, as the encoder is shown
    them, so in standard deviations where they are normalised; of discrete values the negative
    log-likelihood, in units of what it costs to guess. Images are left out. What the next sequence
    or episode begins with is not predicted: the last step of each costs 0. So sequences of a few
    steps are taught less. Where an autoreset inserts a row (NEXT_STEP), an episode's last
    observation is predicted too.

    Ni et al. 2024, "Bridging State and History Representations", call this observation prediction.

    Raises:
        SettingError: the actor sees images alone.
    """

    def __init__(self, agent: ActorCritic) -> None:
        super().__init__(agent)
        reader = agent.reader
        spaces = {path: x for path, x in reader.component_spaces.items() if not is_image(x)}
        if not spaces:
            raise SettingError(
                "aux_loss is 'next-observation', which predicts numbers and discrete values, and "
                f"the observation {reader.observation_space} has images alone. Leave aux_loss out, "
                "or write one of your own (docs/your-parts.md)."
            )
        targets = [
            ValuesToTell(space)
            if isinstance(space, gym.spaces.Discrete | gym.spaces.MultiDiscrete)
            else NumbersToTell(space, reader.scaling[path])
            for path, space in spaces.items()
        ]
        self.targets = nn.ModuleList(targets)
        self._targets = list(zip(spaces, targets, strict=True))
        self.outputs = [target.num_outputs for target in targets]
        self.num_entries = sum(target.num_entries for target in targets)
        self.action = make_features(_actions(agent), "none", "tanh", one_hot=True, image_features=1)
        inputs = agent.memories()[0].output_size + self.action.output_size
        size = agent.config.encoder_size
        self.layers = nn.Sequential(
            *dense_layers(inputs, [size], "tanh"), nn.Linear(size, sum(self.outputs))
        )

    def forward(self, agent: ActorCritic, features: Tensor, batch: Sequences) -> Tensor:
        """`[L, C]`: what it costs not to know the next observation, about 1 for knowing nothing."""
        known = torch.cat([features[:-1], self.action(batch.actions[:-1])], dim=-1)
        told = self.layers(known).split(self.outputs, dim=-1)
        shown = agent.normalised(batch.components)
        errors = [
            target.error(one, shown[path][1:])
            for (path, target), one in zip(self._targets, told, strict=True)
        ]
        error = torch.stack(errors).sum(dim=0) / self.num_entries
        error = error.masked_fill(batch.episode_start[1:], 0.0)
        return torch.cat([error, torch.zeros_like(features[:1, :, 0])])


def _actions(agent: ActorCritic) -> gym.Space[Any]:
    """The space of the actions in a rollout; those of a head of one's own are taken as numbers."""
    if agent.config.head is None:
        return fed_back(agent.action_space)
    return gym.spaces.Box(-math.inf, math.inf, agent.head.action_shape)


def _fault(part: type) -> str | None:
    """What a class lacks to be an auxiliary loss."""
    if not issubclass(part, AuxiliaryLoss):
        return "it is no subclass of recurrent_rl.AuxiliaryLoss"
    if part.forward is AuxiliaryLoss.forward:
        return "it defines no forward"
    return takes(part, ("agent",))


AUX_LOSSES: Parts[AuxiliaryLoss] = Parts("aux_loss", {"next-observation": NextObservation}, _fault)
"""Each is made from the agent."""


def register_aux_loss(name: str) -> Callable[[Own], Own]:
    """Give an auxiliary loss of your own a name, by which settings know it.

    A decorator of a subclass of `AuxiliaryLoss`. A class that is not registered can be named as
    `module:Class`.

    Args:
        name: a letter, then letters, digits, dots, dashes and underscores.

    Raises:
        SettingError: the name is none, is the library's or another class's, or the class lacks the
            contract.
    """
    return AUX_LOSSES.register(name)


def make_aux_loss(name: str, agent: ActorCritic) -> AuxiliaryLoss:
    """The auxiliary loss of this name; the module of `module:Class` is imported.

    Raises:
        SettingError: there is none, or it does not fit the agent, or holds parts of it.
    """
    auxiliary = AUX_LOSSES.named(name)(agent)
    if set(auxiliary.parameters()) & set(agent.parameters()):
        raise SettingError(
            f"The aux_loss {class_path(type(auxiliary))} holds the agent or a part of it, whose "
            "weights would be learnt twice. Do not keep it in __init__: forward is given the agent."
        )
    return auxiliary


def aux_losses_of(
    auxiliary: AuxiliaryLoss, agent: ActorCritic, features: Tensor, batch: Sequences
) -> Tensor:
    """The auxiliary loss of each step, `[L, C]`; 0 on rows that an autoreset inserted.

    Raises:
        SettingError: it is of another shape, or no floats.
    """
    losses = auxiliary(agent, features, batch)
    expected = features.shape[:2]
    if not isinstance(losses, Tensor) or losses.shape != expected or not losses.is_floating_point():
        raise SettingError(
            f"The aux_loss {class_path(type(auxiliary))} gave {form_of(losses)}; expected floats, "
            f"one for each step: [L, C] = {list(expected)}."
        )
    return losses.masked_fill(~batch.valid, 0.0)
