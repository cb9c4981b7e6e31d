"""What a saved RecurrentPPO is made of, and the settings of an agent of ours that is the same."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NoReturn

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from torch import Tensor

from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.encoders import IMAGE_FEATURES
from recurrent_rl.agents.files import PolicyFileError
from recurrent_rl.agents.preprocessing import RUNNING, scaling_of
from recurrent_rl.agents.sb3.archive import SB3Zip
from recurrent_rl.agents.sb3.statistics import Statistics
from recurrent_rl.agents.spaces import is_image

POLICIES = "sb3_contrib.common.recurrent.policies"
EXTRACTORS = tuple(
    f"stable_baselines3.common.torch_layers.{name}"
    for name in ("FlattenExtractor", "NatureCNN", "CombinedExtractor")
)
ACTIVATIONS = {
    f"torch.nn.modules.activation.{theirs}": ours
    for theirs, ours in (("Tanh", "tanh"), ("ReLU", "relu"), ("SiLU", "silu"), ("ELU", "elu"))
}


class SB3Model:
    """A saved RecurrentPPO, and the spaces that it is said to be of.

    Args:
        saved: the content of its file.
        components: of its observation space, by path.

    Raises:
        PolicyFileError: it has something that has no counterpart here.
    """

    def __init__(self, saved: SB3Zip, components: Mapping[str, gym.Space[Any]]) -> None:
        self.saved, self.components = saved, components
        given = saved.data.get("policy_kwargs")
        self.given: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
        self._check_policy()
        self._check_keys()
        for path, space in components.items():
            self._check_image(path, space)

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """By name, float32."""
        return self.saved.weights

    def refuse(self, what: str) -> NoReturn:
        """Say what has no counterpart here."""
        raise PolicyFileError(f"{self.saved.path} cannot be converted: {what}")

    def _check_policy(self) -> None:
        """Refuse another algorithm's policy, and parts that are not sb3-contrib's."""
        if not {"lstm_actor.weight_ih_l0", "lstm_actor.weight_hh_l0"} <= self.weights.keys():
            self.refuse("it has no LSTM; only models of sb3-contrib's RecurrentPPO can be.")
        if odd := [n for n in self.weights if n.endswith("_reverse") or ".weight_hr_l" in n]:
            self.refuse(f"its LSTM has {odd[0]}; one with bidirectional or proj_size cannot be.")
        kind = self.saved.data.get("policy_class")
        module = kind.get("__module__") if isinstance(kind, Mapping) else None
        if module != POLICIES:
            self.refuse(f"its policy is a class of {module}; only those of {POLICIES} can be.")
        extractor = _class_name(self.given.get("features_extractor_class", EXTRACTORS[0]))
        if extractor not in EXTRACTORS:
            self.refuse(
                f"its features extractor is {extractor}; only {', '.join(EXTRACTORS)} can be."
            )
        for name, value in (
            ("use_sde", self.saved.data.get("use_sde")),
            ("squash_output", self.given.get("squash_output")),
        ):
            if value:
                self.refuse(f"it was trained with {name}, which this library does not have.")

    def _check_keys(self) -> None:
        """Refuse a Dict whose keys stand in another order than the model's, where it tells that."""
        told = self.saved.data.get("observation_space")
        text = told.get("spaces") if isinstance(told, Mapping) else None
        if not isinstance(text, str) or "" in self.components:
            return
        places = [text.find(repr(key)) for key in self.components]
        if places != sorted(places) or -1 in places:
            self.refuse(
                f"its observation space is {text}, and the one given has the keys "
                f"{', '.join(self.components)}. Give the same keys in the same order."
            )

    def _check_image(self, path: str, space: gym.Space[Any]) -> None:
        """Refuse what is an image here and a row of numbers there, or the other way round."""
        theirs = f"{self.extractor('pi', path)}cnn.0.weight" in self.weights
        if theirs != is_image(space):
            there, here = ("an image", "numbers") if theirs else ("numbers", "an image")
            self.refuse(f"it reads {space} as {there}, which is {here} here.")
        if theirs and space.shape and space.shape[0] == space.shape[-1]:
            self.refuse(f"whether the channels of {space} come first or last is not known.")

    def extractor(self, whose: str, path: str) -> str:
        """What the names of an extractor's weights for a component begin with.

        Args:
            whose: the actor's, "pi", or the critic's, "vf".
            path: of the component.
        """
        own = f"{whose}_features_extractor."
        has_own = any(name.startswith(own) for name in self.weights)
        return (own if has_own else "features_extractor.") + (f"extractors.{path}." if path else "")

    @property
    def has_memoryless_critic(self) -> bool:
        """Whether a linear layer stands in the place of the critic's LSTM."""
        return "critic.weight" in self.weights

    def config(self, is_normalised: bool) -> AgentConfig:
        """The settings with which an agent of ours computes the same.

        Raises:
            PolicyFileError: there are none.
            SettingError: a size is beyond what an agent may have.
        """
        of_images = [
            len(x)
            for name, x in self.weights.items()
            if "features_extractor." in name and name.endswith("linear.0.bias")
        ]
        activation = _class_name(self.given.get("activation_fn", next(iter(ACTIVATIONS))))
        if activation not in ACTIVATIONS:
            self.refuse(f"its activation is {activation}; only {', '.join(ACTIVATIONS)} can be.")
        return AgentConfig(
            "lstm",
            hidden_size=self.weights["lstm_actor.weight_hh_l0"].shape[1],
            num_layers=len(self._numbered("lstm_actor.weight_hh_l", "")),
            separate_memory=self.has_memoryless_critic or self._has("lstm_critic."),
            critic_memory=not self.has_memoryless_critic,
            encoder_layers=0,
            actor_layers=self._sizes("policy_net"),
            critic_layers=self._sizes("value_net"),
            layers_activation=ACTIVATIONS[activation],
            one_hot=True,
            activation="relu",  # NatureCNN's
            previous_action=False,
            normalize_observations=is_normalised,
            normalize_returns=False,
            image_features=of_images[0] if of_images else IMAGE_FEATURES,
        )

    def _has(self, beginning: str) -> bool:
        return any(name.startswith(beginning) for name in self.weights)

    def _numbered(self, before: str, after: str) -> list[Tensor]:
        """The weights whose names differ by a number alone, in its order."""
        pattern = re.compile(rf"{re.escape(before)}(\d+){re.escape(after)}")
        found = {m[1]: x for name, x in self.weights.items() if (m := pattern.fullmatch(name))}
        return [found[number] for number in sorted(found, key=int)]

    def _sizes(self, net: str) -> tuple[int, ...]:
        """Units of each layer behind an LSTM."""
        return tuple(map(len, self._numbered(f"mlp_extractor.{net}.", ".weight")))

    def scaling(self, path: str, statistics: Mapping[str, Statistics]) -> str:
        """How it scales a component, one of `preprocessing.SCALINGS`.

        Args:
            path: of the component.
            statistics: of the components that a VecNormalize scales.
        """
        space = self.components[path]
        if not isinstance(space, spaces.Box):
            return "none"
        if is_image(space):
            of_bytes = space.dtype == np.uint8 and (space.low == 0).all()
            of_bytes = of_bytes and (space.high == 255).all()
            return "bounds" if of_bytes and self.given.get("normalize_images", True) else "none"
        own = scaling_of(space)
        if path in statistics:
            return "centred" if statistics[path].is_far else own if own in RUNNING else "running"
        # Where nothing is normalised that scales nothing, and training can go on with it.
        return own if own in RUNNING and not statistics else "none"


def _class_name(text: Any) -> str:
    """The dotted name in the text of a class: "<class 'module.Class'>"."""
    found = re.fullmatch("<class '(.+)'>", str(text))
    return found[1] if found else str(text)
