"""The file of a checkpoint: read, and checked as far as that needs no trainer."""

from __future__ import annotations

import reprlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from recurrent_rl.agents.files import PolicyFileError, load_tensors, load_text, read_json
from recurrent_rl.episodes import Info
from recurrent_rl.vector_env.infos import SUCCESS

KIND = "recurrent_rl.checkpoint"
VERSION = 4
BEFORE_PAIRS = 2
BEFORE_COMPOSITES = 3
"""Older formats that are read; the memory's state has changed since."""
_VERSIONS = {str(version): version for version in (BEFORE_PAIRS, BEFORE_COMPOSITES, VERSION)}
SPACES = ("observation_space", "action_space")
_NEEDED = ("env_id", "num_envs", "num_steps", "seq_len", *SPACES)
_UNFIT = (KeyError, TypeError, ValueError, OverflowError, RecursionError)
"""What reading metadata of the wrong form raises."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint as read from its file, which fits no trainer yet."""

    path: Path
    needs: dict[str, Any]
    """The settings that a trainer must have to take it, by name, as JSON values."""
    total_timesteps: int
    """Of the run, when it was written: what the schedules stretched over."""
    iteration: int
    timesteps: int
    """Environment steps taken, all environments counted."""
    steps_taken: int
    """Environment steps taken by each environment."""
    env_state: bool
    """Whether it holds the exact state of the environments."""
    episodes: dict[str, Any]
    """The fields of `EpisodeStatistics`; arrays `[num_envs]`, and lists."""
    tensors: dict[str, Tensor]
    """By group and name, `agent/...`."""

    def group(self, name: str) -> dict[str, Tensor]:
        """The tensors of a group, by their names in it."""
        start = f"{name}/"
        return {
            key.removeprefix(start): x for key, x in self.tensors.items() if key.startswith(start)
        }


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint, and check all that can be checked without a trainer.

    Raises:
        PolicyFileError: the file is missing, damaged or of another version.
    """
    tensors, text = load_tensors(path, KIND, VERSION)
    version = _VERSIONS.get(text.get("format_version", ""))
    if version is None:
        raise PolicyFileError(
            f"{path} was written by an older version of recurrent-rl; its random numbers were "
            "drawn otherwise. Train anew, or install the version that wrote it. The run's policy "
            "can still be loaded and evaluated."
        )
    try:
        fields = read_json(text["state"])
        needs = dict(fields["needs"])
        if needs.get("agent.horizon") == 0:  # what None was in version 0.1
            needs["agent.horizon"] = None
        if missing := [name for name in _NEEDED if name not in needs]:
            raise ValueError(f"without {', '.join(missing)}")
        if type(fields["env_state"]) is not bool:
            raise TypeError("env_state is neither true nor false")
        if fields["total_timesteps"] == 0:
            raise ValueError("total_timesteps is 0")
        return Checkpoint(
            path=path,
            needs=needs,
            env_state=fields["env_state"],
            episodes=_episodes(fields, _count(needs["num_envs"])),
            tensors=_with_state_of_today(tensors, needs, version),
            **{
                name: _count(fields[name])
                for name in ("total_timesteps", "iteration", "timesteps", "steps_taken")
            },
        )
    except _UNFIT as error:
        raise forged(path, reprlib.repr(str(error))) from error


def read_timesteps(path: Path) -> int:
    """The steps that a checkpoint is of, all environments counted; its tensors stay unread.

    Raises:
        PolicyFileError: the file is missing, of a newer version, or what is read is damaged.
    """
    text = load_text(path, KIND, VERSION)
    try:
        return _count(read_json(text["state"])["timesteps"])
    except _UNFIT as error:
        raise forged(path, reprlib.repr(str(error))) from error


def _with_state_of_today(
    tensors: dict[str, Tensor], needs: dict[str, Any], version: int
) -> dict[str, Tensor]:
    """Bring the memory's state of a file in an older format to today's form."""
    count = sum(name.startswith("memory/") for name in tensors)
    fields = [tensors[f"memory/{i}"] for i in range(count)]
    if any(field.dim() < 2 for field in fields):
        raise ValueError("a memory's state without environments")
    if version == BEFORE_PAIRS and needs.get("agent.separate_memory") is True:
        # The critic's layers stood behind the actor's.
        halves = [field.chunk(2) for field in fields]
        fields = [half[part] for part in (0, 1) for half in halves]
    if version <= BEFORE_COMPOSITES and needs.get("agent.memory") == "gru-rotor":
        # The rotor's units stood behind the GRU's.
        units = _count(needs["agent.hidden_size"])
        fields = [part for field in fields for part in field.tensor_split([units], -1)]
    return tensors | {f"memory/{i}": field for i, field in enumerate(fields)}


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**53:
        raise ValueError(f"{reprlib.repr(value)} is no count")
    return value


RUNNING = "running_"
"""How the names begin under which a checkpoint has the episodes under way."""
ENDED = {
    "steps": "step",
    "environments": "environment",
    "returns": "total",
    "lengths": "length",
    "successes": "success",
    "infos": "infos",
}
"""Under which names it has the fields of each `Episode` that ended."""
_COLUMNS: dict[str, type] = {
    "running_return": float,
    "running_length": int,
    "running_success": bool,
    "steps": int,
    "environments": int,
    "returns": float,
    "lengths": int,
    "successes": bool,
}


def _episodes(whole: Any, num_envs: int) -> dict[str, Any]:
    """The episodes' statistics, of the right types and lengths."""
    fields = dict(whole["episodes"])
    if "told" not in fields:  # older files tell of success alone
        if type(fields["tells_success"]) is not bool:
            raise TypeError("tells_success is neither true nor false")
        fields["told"] = [SUCCESS] * fields["tells_success"]
    if not (isinstance(fields["told"], list) and all(type(x) is str for x in fields["told"])):
        raise TypeError("told is no list of text")
    ended = len(fields["returns"])
    # Older files do not say which environments ended them, and when, and nothing of infos.
    fields = {
        "steps": [whole["steps_taken"]] * ended,
        "environments": [0] * ended,
        "infos": [{} for _ in range(ended)],
    } | fields
    if any(len(fields[name]) != ended for name in ENDED):
        raise ValueError("columns of episodes of different lengths")
    found: dict[str, Any] = {"told": fields["told"], "infos": [*map(_infos, fields["infos"])]}
    columns = _COLUMNS | {
        name: kind
        for start, kind in (("running_sum/", float), ("running_count/", int))
        for name in fields
        if name.startswith(start)
    }
    for name, kind in columns.items():
        values = fields[name]
        fits = (int, float) if kind is float else (kind,)
        if not (isinstance(values, list) and all(type(x) in fits for x in values)):
            raise TypeError(f"{name} is no list of {kind.__name__}")
        found[name] = [kind(x) for x in values]
        if name.startswith(RUNNING):
            if len(values) != num_envs:
                raise ValueError(f"{name} is of {len(values)} environments, not {num_envs}")
            found[name] = np.array(found[name], dtype=np.dtype(kind))
    return found


def _infos(fields: Any) -> dict[str, Info]:
    """What infos said in an episode, by key."""
    infos = {}
    for key, (mean, final) in dict(fields).items():
        if type(mean) not in (int, float) or type(final) not in (int, float, type(None)):
            raise TypeError(f"the info {key} is no pair of numbers")
        infos[key] = Info(float(mean), None if final is None else float(final))
    return infos


def forged(path: Path, why: str) -> PolicyFileError:
    """The error for a file that holds what no trainer has saved."""
    return PolicyFileError(
        f"{path} is no checkpoint that this version of recurrent-rl writes: {why}. Train anew, or "
        "use another checkpoint."
    )
