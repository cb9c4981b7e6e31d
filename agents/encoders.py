"""Encoders: from observation components to one feature vector, for any supported space."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Any

import gymnasium as gym
import torch
from gymnasium import spaces
from torch import Tensor, nn

from recurrent_rl.agents.arguments import argument, check_is
from recurrent_rl.agents.features import VectorFeatures, make_features
from recurrent_rl.agents.fixed_parts import FixedParts, FixedPartsList
from recurrent_rl.agents.importing import class_path
from recurrent_rl.agents.layers import ACTIVATIONS, dense_layers
from recurrent_rl.agents.normalisers import Rescaling
from recurrent_rl.agents.parts import Own, Parts, form_of, output_size_of, takes
from recurrent_rl.agents.preprocessing import scaling_of
from recurrent_rl.agents.settings import SettingError, at_least, check_choice
from recurrent_rl.agents.spaces import Components

IMAGE_FEATURES = 128
"""Of each image, where nothing else is said."""


def _fault(part: type) -> str | None:
    """What a class lacks to be an encoder."""
    if not issubclass(part, nn.Module):
        return "it is no subclass of torch.nn.Module"
    if part.forward is nn.Module.forward:
        return "it defines no forward"
    return takes(part, ("space",))


ENCODERS: Parts[nn.Module] = Parts("encoder", {}, _fault)
"""Encoders that were registered, each made from a space. The library's own go by the space."""


def register_encoder(name: str) -> Callable[[Own], Own]:
    """Give an encoder of your own a name, by which settings and files know it.

    A decorator of a `torch.nn.Module` that is made as `MyEncoder(space)`, says its `output_size`,
    and whose `forward` makes features `[N, output_size]` of observations `[N, *space.shape]`. A
    class that is not registered can be named as `module:Class`.

    Args:
        name: a letter, then letters, digits, dots, dashes and underscores.

    Raises:
        SettingError: the name is none or another class's, or the class lacks the contract.
    """
    return ENCODERS.register(name)


class OwnFeatures(nn.Module):
    """What an encoder of one's own makes of the environment's observation.

    Args:
        part: made from the component's space or, where there are several components, from a Dict
            of them by path.
        component_spaces: of the environment's observation, by path.
    """

    def __init__(
        self, part: Callable[..., nn.Module], component_spaces: dict[str, gym.Space[Any]]
    ) -> None:
        super().__init__()
        self.shapes = {path: space.shape or () for path, space in component_spaces.items()}
        several = len(component_spaces) > 1
        space = spaces.Dict(component_spaces) if several else next(iter(component_spaces.values()))
        self.module = part(space)
        self.output_size = output_size_of(self.module, "encoder")

    def forward(self, components: Components) -> Tensor:
        """Components `[..., *shape]` to `[..., features]`; the module sees one leading axis.

        Raises:
            SettingError: the features are of another shape than the module says.
        """
        lead = torch.Size()
        flat = {}
        for path, shape in self.shapes.items():
            x = components[path]
            lead = x.shape[: x.dim() - len(shape)]
            flat[path] = x.reshape(math.prod(lead), *shape)
        y: Tensor = self.module(flat if len(flat) > 1 else flat.popitem()[1])
        expected = (math.prod(lead), self.output_size)  # not numel(), which would fix an export's
        if not isinstance(y, Tensor) or y.shape != expected or not y.is_floating_point():
            raise SettingError(
                f"The encoder {class_path(type(self.module))} gave {form_of(y)}; expected floats "
                f"[N, output_size] = {list(expected)}."
            )
        return y.view(*lead, self.output_size)


class Encoder(FixedParts):
    """Features of all components side by side, then a multilayer perceptron.

    The last feature says where episodes start: 1 at the first step, else 0.

    Args:
        component_spaces: of each component by path, from `spaces.component_spaces`.
        size: units of each layer; of the last, with that last feature.
        num_layers: layers; with 0 the features are passed on as they are.
        activation: one of `ACTIVATIONS`.
        silenced: components whose features are zero at an episode's first step.
        scaling: of each component; by default that of `preprocessing.scaling_of`.
        own: a class of one's own that encodes components.
        own_sees: which; None: all that are not silenced.
        one_hot: show what is discrete as one-hot vectors, not as learnt ones.
        image_features: of each image.

    Raises:
        SettingError: names the argument that is of another type, or out of its range.
    """

    def __init__(
        self,
        component_spaces: dict[str, gym.Space[Any]],
        size: int,
        num_layers: int,
        activation: str,
        silenced: frozenset[str] = frozenset(),
        scaling: Mapping[str, str] | None = None,
        own: Callable[..., nn.Module] | None = None,
        own_sees: Collection[str] | None = None,
        one_hot: bool = False,
        image_features: int = IMAGE_FEATURES,
    ) -> None:
        check_is("component_spaces", component_spaces, dict, "spaces by path: component_spaces(s)")
        size = argument("size", size, Annotated[int, at_least(2)])
        num_layers = argument("num_layers", num_layers, Annotated[int, at_least(0)])
        check_choice("activation", activation, ACTIVATIONS)
        one_hot = argument("one_hot", one_hot, bool)
        image_features = argument("image_features", image_features, Annotated[int, at_least(1)])
        super().__init__()
        self.silenced = silenced
        self.own: OwnFeatures | None = None
        if own is not None:
            sees = component_spaces.keys() - silenced if own_sees is None else own_sees
            self.own = OwnFeatures(own, {p: s for p, s in component_spaces.items() if p in sees})
            component_spaces = {p: s for p, s in component_spaces.items() if p not in sees}
        self.paths = list(component_spaces)
        if scaling is None:
            scaling = {path: scaling_of(space) for path, space in component_spaces.items()}
        features = [
            make_features(space, scaling[path], activation, one_hot, image_features)
            for path, space in component_spaces.items()
        ]
        self.features = FixedPartsList(features)
        width = sum(module.output_size for module in features)
        width += 0 if self.own is None else self.own.output_size
        sizes = [size] * (num_layers - 1) + [size - 1] * (num_layers > 0)
        layers = dense_layers(width, sizes, activation)
        width = sizes[-1] if sizes else width
        self.layers = FixedPartsList(layers)
        # The same as plain lists: a call through nn.Module costs as much as a small layer.
        self._features = list(zip(self.paths, features, strict=True))
        self._layers = layers
        self._own = [] if self.own is None else [self.own]
        self.output_size = width + 1
        for module in (self, self.features, self.layers):
            module.fix_parts()

    @torch.no_grad()
    def keep_outputs(self, rescalings: Mapping[str, Rescaling]) -> None:
        """Change the first layer so that vectors that are normalised anew give what they gave.

        Inputs beyond the normaliser's clip, and the first step of an episode where a component is
        silenced, can give something else. So can images and encoders of one's own; and without
        layers nothing is changed.

        Args:
            rescalings: of the components that are normalised anew, by path.
        """
        if not self._layers:
            return
        first = self._layers[0]
        assert isinstance(first, nn.Linear)
        begin = 0 if self.own is None else self.own.output_size
        for path, module in self._features:
            weights = first.weight[:, begin : begin + module.output_size]
            begin += module.output_size
            if isinstance(module, VectorFeatures) and (rescaling := rescalings.get(path)):
                # W (f x + s) + b = (W f) x + (b + W s)
                first.bias.add_(weights @ rescaling.summand.flatten())
                weights.mul_(rescaling.factor.flatten())

    def forward(self, components: Components, episode_start: Tensor | None = None) -> Tensor:
        """Encode components `[..., *shape]` to `[..., output_size]`; any leading dimensions.

        Args:
            components: by path.
            episode_start: bool `[...]`; None: all false.
        """
        parts = [own.forward(components) for own in self._own]
        for path, module in self._features:
            part = module.forward(components[path])
            if episode_start is not None and path in self.silenced:
                part = part.masked_fill(episode_start.unsqueeze(-1), 0.0)
            parts.append(part)
        x = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
        for layer in self._layers:
            x = layer.forward(x)
        start = x.new_zeros(x.shape[:-1]) if episode_start is None else episode_start.to(x.dtype)
        return torch.cat([x, start.unsqueeze(-1)], dim=-1)
