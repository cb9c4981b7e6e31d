"""Checkpoints: everything a run needs to go on as if it had never stopped."""

from __future__ import annotations

import json
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recurrent_rl.agents.files import load_tensors, save_tensors
from recurrent_rl.errors import UserError
from recurrent_rl.trainer import Trainer

FILE_NAME = "checkpoint.safetensors"
KIND = "recurrent_rl.checkpoint"
VERSION = 1


def save_checkpoint(trainer: Trainer, path: Path) -> None:
    """Write the trainer's whole state to one file, by a temporary name.

    Saved are weights, normalisers, optimiser, random generators, counters, the memory's state,
    the observation that comes next, the statistics of running episodes, and the exact state of
    an environment that offers `state_dict()`, as ours do. After an iteration that failed the
    environments are amid a rollout: their state is left out, and new episodes start from here.
    """
    collector = trainer.collector
    tensors: dict[str, Tensor] = {}
    tensors.update(_prefixed("agent", trainer.agent.state_dict()))
    tensors.update(_prefixed("advantages", trainer.advantage_normaliser.state_dict()))
    tensors.update(_prefixed("optimizer", _optimizer_tensors(trainer.optimizer)))
    tensors["generator/shuffle"] = trainer.generator.get_state()
    tensors["generator/sample"] = collector.generator.get_state()
    tensors.update(_prefixed("memory", dict(enumerate(collector.state))))
    tensors.update(_prefixed("next", collector.next_row()))
    env_state = None if trainer.mid_rollout else environment_state(trainer)
    if env_state is not None:
        tensors.update(_prefixed("env", {k: torch.as_tensor(v) for k, v in env_state.items()}))
    episodes = collector.episodes
    metadata = {
        "iteration": trainer.iteration,
        "steps_taken": collector.steps_taken,
        "env_state": env_state is not None,
        "episodes": {
            "running_return": episodes.running_return.tolist(),
            "running_length": episodes.running_length.tolist(),
            "returns": list(episodes.returns),
            "lengths": list(episodes.lengths),
            "successes": list(episodes.successes),
            "finished": episodes.finished,
        },
    }
    save_tensors(
        path,
        {name: x.detach().cpu().contiguous().clone() for name, x in tensors.items()},
        {"state": json.dumps(metadata)},
        KIND,
        VERSION,
    )


def load_checkpoint(trainer: Trainer, path: Path) -> bool:
    """Put a freshly made trainer of the same configuration into the saved state.

    Returns:
        Whether the environments too go on exactly where they were. Otherwise they were reset,
        and every copy starts a new episode with a fresh memory.

    Raises:
        PolicyFileError: the file is missing or damaged.
        UserError: the checkpoint does not fit the trainer's agent or environment.
    """
    tensors, text = load_tensors(path, KIND, VERSION)
    metadata = json.loads(text["state"])
    groups: dict[str, dict[str, Tensor]] = {}
    for name, x in tensors.items():
        group, _, rest = name.partition("/")
        groups.setdefault(group, {})[rest] = x
    collector = trainer.collector
    try:
        trainer.agent.load_state_dict(groups["agent"])
        trainer.advantage_normaliser.load_state_dict(groups["advantages"])
        _load_optimizer_tensors(trainer.optimizer, groups.get("optimizer", {}))
    except (RuntimeError, KeyError) as error:
        raise UserError(
            f"The checkpoint {path} does not fit the agent that config.json describes: {error}"
        ) from error
    trainer.generator.set_state(groups["generator"]["shuffle"])
    collector.generator.set_state(groups["generator"]["sample"])
    trainer.iteration = metadata["iteration"]
    collector.steps_taken = metadata["steps_taken"]
    saved, episodes = metadata["episodes"], collector.episodes
    for name in ("returns", "lengths", "successes"):
        setattr(episodes, name, deque(saved[name], maxlen=episodes.returns.maxlen))
    episodes.finished = saved["finished"]
    if not metadata["env_state"]:
        # The seed of the first reset would show the same first episodes again.
        collector.restart(seed=trainer.config.seed + 1_000_003 * (trainer.iteration + 1))
        return False
    trainer.env.unwrapped.load_state_dict(  # type: ignore[attr-defined]
        {name: x.numpy() for name, x in groups["env"].items()}
    )
    fields = groups.get("memory", {})
    collector.state = type(collector.state)(
        *(fields[str(i)].to(trainer.agent.device) for i in range(len(fields)))
    )
    for name, x in collector.next_row().items():
        x.copy_(groups["next"][name])
    episodes.running_return = np.array(saved["running_return"])
    episodes.running_length = np.array(saved["running_length"], dtype=np.int64)
    return True


def environment_state(trainer: Trainer) -> dict[str, Any] | None:
    """The exact state of the environments as arrays, or None where they cannot tell it."""
    env = trainer.env
    # A wrapper may hold a state of its own that the environment below does not know of.
    if env.unwrapped is env and hasattr(env, "state_dict"):
        state: dict[str, Any] = env.state_dict()
        return state
    return None


def _prefixed(group: str, tensors: dict[Any, Tensor]) -> dict[str, Tensor]:
    return {f"{group}/{name}": x for name, x in tensors.items()}


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    state = optimizer.state_dict()["state"]
    return {f"{i}/{name}": x for i, slots in state.items() for name, x in slots.items()}


def _load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, x in tensors.items():
        index, _, name = key.partition("/")
        state.setdefault(int(index), {})[name] = x
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
