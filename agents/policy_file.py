"""The file of a policy: its agent's spaces, settings and weights, as data alone.

A file may come from anyone. Nothing in it is executed, no module is imported because it names one,
and no more memory is taken for it than it has content.
"""

from __future__ import annotations

import dataclasses
import json
import math
import reprlib
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.files import (
    PolicyFileError,
    load_tensors,
    read_json,
    refuse_nonfinite,
    save_tensors,
)
from recurrent_rl.agents.generators import forked_torch_state
from recurrent_rl.agents.importing import is_class_path
from recurrent_rl.agents.named_parts import PARTS
from recurrent_rl.agents.preprocessing import scaling_of_format_1
from recurrent_rl.agents.settings import build
from recurrent_rl.agents.settings.values import read_str
from recurrent_rl.agents.space_json import space_from_json, space_to_json
from recurrent_rl.agents.spaces import component_spaces

KIND = "recurrent_rl.policy"
VERSION = 2
"""Format 2 records how observations are preprocessed. Files of format 1 keep their old way."""

MOST_IMAGE_ENTRIES = 2**24
"""Numbers in the images of an observation that a file may declare without as many weights:
2048 x 2048 x 4."""


def write_policy(path: str | Path, agent: ActorCritic, summary: dict[str, Any]) -> None:
    """Write an agent to one data-only `.safetensors` file.

    Args:
        path: of the file.
        agent: without a critic of `critic_keys`, which no policy file has.
        summary: of its training, JSON values by name.

    Raises:
        FileWriteError: the disk is full, or the folder cannot be written to.
        NonFiniteError: a weight is NaN or infinite. No file is written or changed.
    """
    refuse_nonfinite(agent.state_dict())
    text = {
        "observation_space": space_to_json(agent.observation_space),
        "action_space": space_to_json(agent.action_space),
        "agent": dataclasses.asdict(agent.config),
        "preprocessing": {
            "hide_indices": agent.reader.hide_indices,
            "scaling": agent.reader.scaling,
        },
        "training": summary,
        "library_version": library_version(),
    }
    save_tensors(
        path,
        dict(agent.state_dict()),
        {name: json.dumps(value) for name, value in text.items()},
        KIND,
        VERSION,
    )


def read_policy(
    path: Path, parts: Mapping[str, type[nn.Module]]
) -> tuple[ActorCritic, dict[str, Any]]:
    """The agent that a file holds, on the CPU, and the summary of its training.

    The caller's random state stays as it is.

    Args:
        path: of the file.
        parts: classes by "memory", "encoder" or "head", in the place of those that the file names.

    Raises:
        PolicyFileError: the file is missing, damaged, of a newer format or no policy, or its
            weights are not those of its agent, or not finite; or a part of its agent is not known
            here.
    """
    tensors, text = load_tensors(path, KIND, VERSION)
    version = reprlib.repr(text.get("library_version", "?").strip('"'))
    written = f"written by recurrent-rl {version}, and this version ({library_version()})"
    try:
        names = ("observation_space", "action_space", "agent", "training")
        fields = {name: read_json(text[name]) for name in names}
        if not isinstance(fields["training"], dict):
            raise ValueError("the training summary is no JSON object")
        config = _config(path, written, fields["agent"], parts)
        entries = sum(x.numel() for x in tensors.values())
        most_of_images = max(MOST_IMAGE_ENTRIES, entries)
        # No agent reads or gives more numbers than it has weights, but for images, for what is
        # hidden, whose indices stand in the text, and for parts of one's own.
        most = entries + len(text.get("preprocessing", ""))
        if config.encoder is not None or config.head is not None:
            most = max(most, MOST_IMAGE_ENTRIES)
        observation_space, action_space = (
            space_from_json(fields[name], most, most_of_images)
            for name in ("observation_space", "action_space")
        )
        _check_layers(config, len(tensors))
        # Half of the entries that are allowed are for what building needs beside.
        with forked_torch_state(), _Frugal(2 * entries):
            agent = ActorCritic(
                *(observation_space, action_space, config),
                **_preprocessing(text, observation_space),
                parts=parts,
                critic=not config.critic_keys,
            )
        _check_weights(tensors, agent.state_dict())
        agent.load_state_dict(tensors)
    except PolicyFileError:
        raise
    except (LookupError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        raise PolicyFileError(f"{path} was {written} cannot build its agent: {error}") from error
    return agent, fields["training"]


def _config(path: Path, written: str, fields: Any, given: Mapping[str, Any]) -> AgentConfig:
    """The settings of a file's agent, whose parts are known here or given.

    Args:
        path: of the file.
        written: by which version, and which this is, for the message.
        fields: the settings.
        given: classes by "memory", "encoder" or "head".

    Raises:
        PolicyFileError: a part is not. Its module is not imported: a file may come from anyone.
        SettingError: a setting cannot be.
    """
    for kind, part in PARTS.items() if isinstance(fields, Mapping) else ():
        name = fields.get(kind)
        if isinstance(name, str) and kind not in given and part.find(name) is None:
            raise PolicyFileError(
                f"{path} needs the {kind} {reprlib.repr(name)}, which is not known in this "
                "process. What a file names is not imported by itself. "
                + _way_to(kind, name, written)
            )
    if not isinstance(fields, Mapping):
        return build(AgentConfig, fields)
    if fields.get("horizon") == 0:  # what None was in the first files
        fields = {**fields, "horizon": None}
    config = build(AgentConfig, {name: x for name, x in fields.items() if name not in given})
    for kind in given:  # its name need not be known here
        if (name := fields.get(kind)) is not None:
            object.__setattr__(config, kind, read_str(kind, name))
    return config


def _way_to(kind: str, name: str, written: str) -> str:
    """What makes a part of one's own known."""
    if is_class_path(name):
        module, _, part = name.partition(":")
        return (
            f"If you trust that module: `from {module} import {part}` and load_policy(path, "
            f"{kind}={part}), or at the command line --import {name}"
        )
    return (
        "Import the module that registers it, which at the command line is --import MODULE, or "
        f"load_policy(path, {kind}=CLASS). If it is not your own: the file was {written} lacks it."
    )


def _preprocessing(text: dict[str, str], observation_space: gym.Space[Any]) -> dict[str, Any]:
    """How the policy of a file sees: arguments of `ActorCritic`.

    Raises:
        LookupError, TypeError, ValueError: it is not what `Policy.save` writes.
    """
    components = component_spaces(observation_space)
    if text["format_version"] == "1":
        return {"scaling": {path: scaling_of_format_1(space) for path, space in components.items()}}
    found = read_json(text["preprocessing"])
    hidden, scaling = found["hide_indices"], found["scaling"]
    if not (isinstance(hidden, list) and all(type(index) is int for index in hidden)):
        raise TypeError(f"hide_indices is {reprlib.repr(hidden)}, not a list of integers")
    if not isinstance(scaling, dict) or scaling.keys() != components.keys():
        raise ValueError(f"scaling is {reprlib.repr(scaling)}, not of the observation's components")
    return {"hide_indices": hidden, "scaling": scaling}


def _check_layers(config: AgentConfig, count: int) -> None:
    """Refuse settings of more layers than there are tensors, before any layer is made.

    Raises:
        ValueError: says how many there are of both.
    """
    has_layers = config.memory != "none" and not PARTS["memory"].is_own(config.memory)
    layers = max(
        config.encoder_layers,
        config.num_layers if has_layers else 0,
        *map(len, (config.actor_layers, config.critic_layers)),
    )
    if layers > count:
        raise ValueError(f"{layers:,} layers are made of {count:,} tensors")


MAKERS = (torch.empty, torch.zeros, torch.ones, torch.full)
"""What makes the weights and statistics of an agent: each takes a size first, or numbers of one."""


class _Frugal(TorchFunctionMode):
    """Lets PyTorch make so many weights and no more.

    Args:
        entries: of all tensors together that `MAKERS` make, as they do every weight.
    """

    def __init__(self, entries: int) -> None:
        super().__init__()
        self.left = entries

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func in MAKERS:
            size = args or ((kwargs or {})["size"],)
            one_by_one = isinstance(size[0], int)
            self.left -= math.prod(size if one_by_one else size[0])
            if self.left < 0:
                raise ValueError("such an agent has more weights than the file")
        return func(*args, **(kwargs or {}))


def _check_weights(tensors: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Refuse tensors by name that are not of the expected names, shapes and types, or not finite.

    Raises:
        ValueError: says which tensor, and what is wrong with it.
    """
    for name in sorted(expected.keys() | tensors.keys()):
        if name not in tensors:
            raise ValueError(f"the tensor {name!r} is missing")
        if name not in expected:
            raise ValueError(f"there is no tensor {reprlib.repr(name)} in such an agent")
        x, right = tensors[name], expected[name]
        if (x.dtype, x.shape) != (right.dtype, right.shape):
            raise ValueError(
                f"{name} is of {x.dtype} and shape {list(x.shape)}; expected {right.dtype} and "
                f"{list(right.shape)}"
            )
        if not torch.isfinite(x).all():
            raise ValueError(f"{name} holds NaN or infinity; train the policy anew")


def library_version() -> str:
    """Of this package."""
    try:
        return version("recurrent-rl")
    except PackageNotFoundError:  # a checkout that is not installed
        return "unknown"
