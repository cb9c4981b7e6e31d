"""The file of a checkpoint: read, and checked as far as that needs no trainer."""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from recurrent_rl.agents.files import PolicyFileError, load_tensors, load_text, read_json
from recurrent_rl.episodes import Info

T = TypeVar("T")

KIND = "recurrent_rl.checkpoint"
VERSION = 4
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
    settings: dict[str, Any]
    """All that was requested, by flat names; empty in older files."""
    env_attributes: dict[str, Any]
    """What callbacks have set in the environments; empty in older files."""
    env_attributes_lost: list[str]
    """What else they have set, by its names: JSON cannot hold it. Empty in older files."""

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
    if text["format_version"] != str(VERSION):
        raise PolicyFileError(
            f"{path} was written by an older version of recurrent-rl. Train anew, or install the "
            "version that wrote it. The run's policy can still be loaded and evaluated."
        )
    try:
        fields = read_json(text["state"])
        needs = dict(fields["needs"])
        if missing := [name for name in _NEEDED if name not in needs]:
            raise ValueError(f"without {', '.join(missing)}")
        if type(fields["env_state"]) is not bool:
            raise TypeError("env_state is neither true nor false")
        if fields["total_timesteps"] == 0:
            raise ValueError("total_timesteps is 0")
        lost = fields.get("env_attributes_lost", [])
        if not _is_texts(lost):
            raise TypeError("env_attributes_lost is no list of text")
        return Checkpoint(
            path=path,
            needs=needs,
            env_state=fields["env_state"],
            episodes=_episodes(fields["episodes"], count("num_envs", needs["num_envs"])),
            tensors=tensors,
            settings=dict(fields.get("settings", {})),
            env_attributes=dict(fields.get("env_attributes", {})),
            env_attributes_lost=lost,
            **{
                name: count(name, fields[name])
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
    return _of_state(path, lambda state: count("timesteps", state["timesteps"]))


def read_stop_reason(path: Path) -> str | None:
    """Why a callback, or the settings, had ended the run when a checkpoint was written, if one had.

    Raises:
        PolicyFileError: as `read_timesteps`.
    """

    def read(state: dict[str, Any]) -> str | None:
        reason = state.get("stop_reason")  # older files have none
        if not isinstance(reason, str | None):
            raise TypeError(f"stop_reason is {reprlib.repr(reason)}, no text")
        return reason

    return _of_state(path, read)


def _of_state(path: Path, read: Callable[[dict[str, Any]], T]) -> T:
    """What this reads of a checkpoint's text, without its tensors."""
    text = load_text(path, KIND, VERSION)
    try:
        return read(dict(read_json(text["state"])))
    except _UNFIT as error:
        raise forged(path, reprlib.repr(str(error))) from error


def count(name: str, value: Any) -> int:
    """The number, if it can be one of steps, episodes or environments.

    Raises:
        ValueError: it cannot.
    """
    if type(value) is not int or not 0 <= value < 2**53:
        raise ValueError(f"{name}: {reprlib.repr(value)} is no count")
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


def _episodes(fields: dict[str, Any], num_envs: int) -> dict[str, Any]:
    """The episodes' statistics, of the right types and lengths."""
    if not _is_texts(fields["told"]):
        raise TypeError("told is no list of text")
    ended = len(fields["returns"])
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
        found[name] = [count(name, x) if kind is int else kind(x) for x in values]
        if name.startswith(RUNNING):
            if len(values) != num_envs:
                raise ValueError(f"{name} is of {len(values)} environments, not {num_envs}")
            found[name] = np.array(found[name], dtype=np.dtype(kind))
    return found


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(type(x) is str for x in value)


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
