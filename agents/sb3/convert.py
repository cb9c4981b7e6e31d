"""Policies that sb3-contrib's RecurrentPPO has trained, as policies of ours.

What they compute is what ours compute with some settings, so that weights are all that is moved:

    theirs                                              ours
    features_extractor: flat, NatureCNN, or by key      encoder without layers
    lstm_actor, lstm_critic                             memory lstm, one or two
    critic: a linear layer in the place of an LSTM      critic_memory=False; part of what follows
    mlp_extractor.policy_net, value_net                 actor_layers, critic_layers
    action_net, log_std, value_net                      head, critic
    VecNormalize, beside the model                      the normaliser inside the policy
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor
from torch.nn.functional import pad

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.arguments import PATH, check_is
from recurrent_rl.agents.generators import forked_torch_state
from recurrent_rl.agents.heads import LOG_STD_RANGE, BoxHead
from recurrent_rl.agents.normalisers import RunningMoments
from recurrent_rl.agents.policy import Policy
from recurrent_rl.agents.sb3.archive import read_sb3_zip
from recurrent_rl.agents.sb3.model import SB3Model
from recurrent_rl.agents.sb3.statistics import Statistics, statistics_of
from recurrent_rl.agents.settings import SettingError
from recurrent_rl.agents.spaces import (
    UnsupportedSpaceError,
    check_action_space,
    component_spaces,
    is_image,
)

_CONVOLUTIONS = {"cnn.0": 0, "cnn.2": 2, "cnn.4": 4, "linear.0": 7}
"""The layers of NatureCNN, and their places in `ImageFeatures`."""


def convert_sb3(
    path: str | Path,
    observation_space: gym.Space[Any],
    action_space: gym.Space[Any],
    normaliser: Any = None,
) -> Policy:
    """Make a policy of one that sb3-contrib's RecurrentPPO has saved.

    It gives the same actions, and the same values, in the unit in which it learnt them. Nothing in
    the file is executed: its weights are read as numbers, its pickles not at all.

    Args:
        path: of the zip that `model.save` wrote.
        observation_space: of the environment, before VecNormalize; images with their channels
            first or last.
        action_space: of the environment.
        normaliser: the VecNormalize that the model was trained behind; or a dict of its
            statistics `mean`, `var` and `count` (by key where observations are a Dict), and of its
            `epsilon` and `clip_obs` where they are not 1e-8 and 10.

    Raises:
        PolicyFileError: the file is missing, damaged or no RecurrentPPO's, its weights are not of
            these spaces, or the model has something that has no counterpart here.
        UnsupportedSpaceError: Stable-Baselines3 or this library has no such space.
        SettingError: an argument is of another type, or `normaliser` does not fit or is missing.
    """
    check_is("path", path, *PATH)
    check_action_space(action_space)
    components = component_spaces(observation_space)
    for space in (observation_space, *components.values(), action_space):
        _refuse_space(space)
    saved = read_sb3_zip(Path(path))
    if normaliser is None and saved.data.get("_last_original_obs") is not None:
        raise SettingError(
            f"normaliser is None, and {path} was trained behind a VecNormalize. Give that, as "
            "VecNormalize.load in Stable-Baselines3 reads it, or a dict of its statistics."
        )
    statistics = statistics_of(normaliser, components)
    model = SB3Model(saved, components)
    config = model.config(bool(statistics))
    scaling = {name: model.scaling(name, statistics) for name in components}
    with forked_torch_state():
        with torch.device("meta"):  # of no memory: a file may tell of any size
            like = ActorCritic(
                observation_space,
                action_space,
                dataclasses.replace(config, horizon=None),  # whose units are told by their numbers
                scaling=scaling,
            )
        moved = _moved(model, like)
        agent = ActorCritic(observation_space, action_space, config, scaling=scaling)
    agent.load_state_dict(agent.state_dict() | moved)
    for name, one in statistics.items():
        _normalise(agent, name, one)
    summary: dict[str, Any] = {"converted_from": "RecurrentPPO of sb3-contrib"}
    if type(steps := saved.data.get("num_timesteps")) is int:
        summary |= {"timesteps": steps}
    return Policy(agent.eval(), summary)


def _refuse_space(space: gym.Space[Any]) -> None:
    """Refuse what RecurrentPPO cannot have been trained on."""
    if isinstance(space, spaces.Tuple) or np.any(getattr(space, "start", 0) != 0):
        raise UnsupportedSpaceError(
            f"Stable-Baselines3 has no models for {space}: it takes no Tuple, and counts from 0. "
            "Give the spaces of the environment that the model was trained on."
        )


def _moved(model: SB3Model, agent: ActorCritic) -> dict[str, Tensor]:
    """The model's weights by their names in an agent of its settings, of which no number is read.

    Raises:
        PolicyFileError: they are not of these spaces, or one has no counterpart.
    """
    width = model.weights["lstm_actor.weight_ih_l0"].shape[1]
    if width != (seen := agent.memories()[0].input_size - 1):  # the last says where to start
        model.refuse(
            f"its LSTM reads {width:,} features, and {agent.observation_space} gives {seen:,}. "
            "Give the observation space that it was trained on."
        )
    theirs = dict(_names(model, agent))
    used = set(theirs.values())
    if model.has_memoryless_critic:
        used |= {"critic.weight", "critic.bias"}
    if absent := used - model.weights.keys():
        model.refuse(f"it has no {min(absent)}.")
    if left := {n for n in model.weights if "features_extractor." not in n} - used:
        model.refuse(f"there is no counterpart to its {min(left)}.")
    moved = {name: model.weights[their] for name, their in theirs.items()}
    _start_unread(moved)
    if model.has_memoryless_critic:
        _merge_critic(moved, model, width)
    expected = agent.state_dict()
    for name, x in moved.items():
        if x.shape != expected[name].shape:
            model.refuse(
                f"its {theirs[name]} is {list(x.shape)}, and these spaces need "
                f"{list(expected[name].shape)}. Give the spaces that it was trained on."
            )
    if isinstance(agent.head, BoxHead):
        _scale_actions(moved, agent.head, model)
    return moved


def _names(model: SB3Model, agent: ActorCritic) -> Iterator[tuple[str, str]]:
    """The name of each weight here, and there."""
    both = ("weight", "bias")
    for i, (who, whose) in enumerate(zip(("actor", "critic"), ("pi", "vf"), strict=True)):
        if i == len(agent.trunks):
            break
        for k, (path, space) in enumerate(agent.component_spaces.items()):
            if is_image(space):
                for layer, place in _CONVOLUTIONS.items():
                    ours = f"trunks.{i}.encoder.features.{k}.layers.{place}"
                    theirs = model.extractor(whose, path) + layer
                    yield from ((f"{ours}.{kind}", f"{theirs}.{kind}") for kind in both)
        memory = f"trunks.{i}.memory."
        for name in agent.state_dict():
            if name.startswith(memory):
                yield name, f"lstm_{who}." + name.removeprefix(f"{memory}torch_layer.")
    heads = {"head.linear": "action_net", "critic": "value_net"}
    for ours, net in (("actor_layers", "policy_net"), ("critic_layers", "value_net")):
        for k in range(0, len(getattr(agent, ours)), 2):  # each second one is an activation
            heads[f"{ours}.{k}"] = f"mlp_extractor.{net}.{k}"
    for ours, theirs in heads.items():
        yield from ((f"{ours}.{kind}", f"{theirs}.{kind}") for kind in both)
    if isinstance(agent.head, BoxHead):
        yield "head.log_std", "log_std"


def _start_unread(moved: dict[str, Tensor]) -> None:
    """Let no LSTM read the last feature, which says where episodes start: theirs has none."""
    for name, x in moved.items():
        if name.endswith("weight_ih_l0"):
            moved[name] = pad(x, (0, 1))


def _merge_critic(moved: dict[str, Tensor], model: SB3Model, width: int) -> None:
    """Let the first layer behind the critic's linear layer, which reads this many, do what both do.

    W (V x + c) + b = (W V) x + (W c + b), where x holds beside theirs the feature that says where
    episodes start, which is not read.
    """
    first = "critic_layers.0" if "critic_layers.0.weight" in moved else "critic"
    w, b = (moved[f"{first}.{kind}"].double() for kind in ("weight", "bias"))
    v, c = (model.weights[f"critic.{kind}"].double() for kind in ("weight", "bias"))
    if not len(v) == len(c) == w.shape[1]:
        model.refuse(f"its critic has {len(v)} outputs, and what follows reads {w.shape[1]}.")
    if v.shape[1] != width:
        model.refuse(f"its critic reads {v.shape[1]:,} features, and its LSTM {width:,}.")
    moved[f"{first}.weight"] = pad(w @ v, (0, 1)).float()
    moved[f"{first}.bias"] = (w @ c + b).float()


def _scale_actions(moved: dict[str, Tensor], head: BoxHead, model: SB3Model) -> None:
    """Bring the Gaussian from the environment's unit to ours, in which -1..1 spans the bounds."""
    half = torch.as_tensor(np.where(head.range_half > 0, head.range_half, 1.0))
    centre = torch.as_tensor(head.range_centre)
    moved["head.linear.weight"] = (moved["head.linear.weight"] / half.unsqueeze(-1)).float()
    moved["head.linear.bias"] = ((moved["head.linear.bias"] - centre) / half).float()
    log_std = (moved["head.log_std"] - half.log()).float()
    low, high = LOG_STD_RANGE
    if ((log_std < low) | (log_std > high)).any():
        stds = [f"{x:.3g}" for x in moved["head.log_std"].exp().tolist()]
        model.refuse(
            f"the standard deviations of its actions are {', '.join(stds)}. Here one lies between "
            f"{np.exp(low):.2g} and {np.exp(high):.2g} times half the distance of the bounds."
        )
    moved["head.log_std"] = log_std


def _normalise(agent: ActorCritic, path: str, statistics: Statistics) -> None:
    """Let the agent scale a component by these statistics."""
    normaliser, reader = agent.observation_normaliser, agent.reader
    mean = statistics.mean
    if path in reader.centred:  # the mean is taken away before float32 rounds it
        is_whole = np.issubdtype(agent.component_spaces[path].dtype, np.integer)
        centre = mean.round() if is_whole else mean
        reader.get_buffer(f"centre_{reader.centred.index(path)}").copy_(centre)
        mean = mean - centre
    moments = normaliser.moments[normaliser.paths.index(path)]
    assert isinstance(moments, RunningMoments)
    moments.take(mean, statistics.var, statistics.count)
