"""A run's folder: the names of its files, its lock, its state, its settings and its evaluation."""

from __future__ import annotations

import json
import os
import shlex
import stat
import tempfile
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from filelock import FileLock, Timeout

from recurrent_rl.agents.files import (
    UNREADABLE,
    PolicyFileError,
    read_json,
    write_atomically,
)
from recurrent_rl.agents.policy import POLICY as POLICY
from recurrent_rl.config import TrainConfig
from recurrent_rl.errors import UserError
from recurrent_rl.fields import folder_part, is_description
from recurrent_rl.runs.checkpoint_file import read_stop_reason, read_timesteps
from recurrent_rl.runs.evaluation_result import SavedEvaluation

CONFIG = "config.json"
CHECKPOINT = "checkpoint.safetensors"
BEST_POLICY = "best_policy.safetensors"
POLICIES = "policies"
EVALUATION = "evaluation.json"
LOG = "log.txt"
LOCK = ".lock"
LAUNCH = ".launch"
"""Holds the id of the launch of torchrun that began the run."""
TRACKER = ".tracker"
"""Holds what a tracker knows the run by."""
MARK = ".machine"
"""By what it holds a worker knows whether it sees the first worker's disk."""
EVENTS = "events.out.tfevents.*"

PATIENCE = 0.2
"""Seconds to wait for the lock: longer than another process holds it to see whether it is free."""


class RunHeldError(UserError):
    """Another process is training the run."""


class RunState(Enum):
    """How far a run is."""

    NEW = "new"
    """It has its settings, and nothing learnt yet."""
    RUNNING = "running"
    """A process holds its folder."""
    STOPPED = "stopped"
    """It has a checkpoint, but not all its steps."""
    FINISHED = "finished"
    """It has all its steps."""
    EVALUATED = "evaluated"
    """It has all its steps, and an evaluation of the policy after them."""


def short(path: Path) -> Path:
    """A path as messages and commands name it: from the working directory, where it is below."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run, and what its files are named."""

    path: Path
    given: Path | None = None
    """What the user calls it, where `path` is the same folder as an absolute path."""

    def fixed(self) -> RunFolder:
        """The same folder, which stays it when an environment changes the working directory."""
        return RunFolder(self.path.absolute(), self.shown.path)

    @property
    def shown(self) -> RunFolder:
        """The folder by the path that messages and commands name."""
        return RunFolder(self.given or self.path)

    @classmethod
    def make(cls, config: TrainConfig, here: Path | None = None) -> RunFolder:
        """Make the folder `log_dir/{env}__{name}__{seed}__{time}`.

        Args:
            config: the settings.
            here: the working directory in which the run began; by default the one there is now.

        Raises:
            UserError: it cannot be made.
        """
        stamp = time.strftime("%Y%m%d-%H%M%S")
        name = config.name or config.agent.memory
        folder = folder_part(f"{config.environment.strip('<>')}__{name}__{config.seed}__{stamp}")
        path, here = Path(config.log_dir) / folder, here or Path.cwd()
        for attempt in range(1, 1000):
            candidate = path if attempt == 1 else path.with_name(f"{path.name}-{attempt}")
            try:
                (here / candidate).mkdir(parents=True)
            except FileExistsError:
                continue
            except OSError as error:
                raise UserError(
                    f"The run folder {candidate} cannot be made ({error}); "
                    "choose another log_dir or name."
                ) from error
            return cls(here / candidate, candidate)
        raise UserError(f"There are too many runs named {path}; choose another name.")

    @classmethod
    def find(cls, paths: Iterable[Path]) -> list[RunFolder]:
        """The run folders among these paths and directly or deeper below them, in order.

        Files beside folders are passed over: `runs/*` of a shell names them too. A folder that may
        not be read counts: what it holds is asked next, and that is told.

        Raises:
            UserError: there is none below one of them.
        """
        found: dict[Path, None] = {}
        paths = list(paths)
        for path in [path for path in paths if not os.path.isfile(path)] or paths:
            folders = _run_folders(path)
            if not folders:
                raise UserError(
                    f"There is no run in {str(path)!r}: no folder with a {CONFIG}. Name run "
                    "folders, or a folder that holds some."
                )
            found |= dict.fromkeys(folders)
        return list(map(cls, found))

    @property
    def config(self) -> Path:
        """The file of the settings: with them alone `resume` starts the run."""
        return self.path / CONFIG

    @property
    def policy(self) -> Path:
        """The file of the policy, as it is loaded anywhere."""
        return self.path / POLICY

    @property
    def best_policy(self) -> Path:
        """The file of the policy that did best in an evaluation during training."""
        return self.path / BEST_POLICY

    @property
    def earlier_policy(self) -> Path:
        """The policy that was there when the run began anew, for want of its checkpoint."""
        return self.path / POLICIES / "earlier.safetensors"

    @property
    def earlier_best_policy(self) -> Path:
        """The best policy that was there then."""
        return self.path / POLICIES / "earlier_best.safetensors"

    @property
    def earlier_evaluation(self) -> Path:
        """What an evaluation had found of the policy that was there then."""
        return self.path / POLICIES / "earlier_evaluation.json"

    def numbered_policy(self, timesteps: int) -> Path:
        """The file of the policy as it was after so many steps."""
        return self.path / POLICIES / f"policy_{timesteps:012d}.safetensors"

    @property
    def checkpoint(self) -> Path:
        """The file that `resume` reads."""
        return self.path / CHECKPOINT

    @property
    def evaluation(self) -> Path:
        """The file of what an evaluation has found."""
        return self.path / EVALUATION

    @property
    def log(self) -> Path:
        """The file of what a run of a benchmark has printed."""
        return self.path / LOG

    @property
    def launch(self) -> Path:
        """The file that says which launch of torchrun began it."""
        return self.path / LAUNCH

    @property
    def tracker(self) -> Path:
        """The file of what a tracker knows the run by."""
        return self.path / TRACKER

    @property
    def mark(self) -> Path:
        """The file by which a worker knows whether it sees the first worker's disk."""
        return self.path / MARK

    def files(self) -> list[Path]:
        """All that belongs to the run, the checkpoint last: what it goes with is there before."""
        found = [*self.path.glob("*"), *self.path.glob(f"{POLICIES}/*")]
        own = [path for path in found if path.is_file() and path.name not in (LOCK, MARK)]
        return sorted(own, key=lambda path: (path == self.checkpoint, path))

    def events(self) -> list[Path]:
        """TensorBoard's files."""
        return list(self.path.glob(EVENTS))

    def exists(self) -> bool:
        """Whether there is a run: its settings.

        Raises:
            UserError: that cannot be told.
        """
        try:
            return stat.S_ISREG(os.stat(self.config).st_mode)
        except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a null character
            return False
        except OSError as error:
            raise self._unreadable(error) from error

    def state(self) -> RunState:
        """How far the run is, by its settings, its lock and the beginning of its checkpoint.

        A checkpoint that cannot be read counts as one without all steps; `resume` tells what ails
        it.

        Raises:
            UserError: as `load_config`.
        """
        total = self.load_config().total_timesteps
        trained, evaluated = self.trained_timesteps(), self.evaluated_timesteps()
        if not self.checkpoint.exists() and self.policy.exists():
            trained = evaluated  # it was deleted: the evaluation tells
        if trained is not None and trained >= total and trained == evaluated:
            return RunState.EVALUATED
        if self._is_held():
            return RunState.RUNNING
        if not self.checkpoint.exists():
            return RunState.NEW
        return RunState.FINISHED if (trained or 0) >= total else RunState.STOPPED

    def locked(self) -> AbstractContextManager[object]:
        """Hold the folder against other processes, whose steps and files would mix with ours.

        Returns:
            A context at whose end the folder is free again.

        Raises:
            RunHeldError: another process holds it.
            UserError: the folder cannot be written to, or its file system refuses locks.
        """
        try:
            return FileLock(self.path / LOCK).acquire(timeout=PATIENCE)
        except Timeout:
            raise RunHeldError(
                f"Another process is training {self.shown.path}. Wait until it has ended, or stop "
                f"it; then {self.to_resume()} resumes from there."
            ) from None
        except OSError as error:
            raise UserError(
                f"{self.shown.path} cannot be written to ({error}). See that it is a folder that "
                "you may write to, and that its file system has room, and locks."
            ) from error

    def _is_held(self) -> bool:
        lock = self.path / LOCK
        if not lock.exists():
            return False
        try:
            with FileLock(lock).acquire(timeout=0):
                return False
        except Timeout:
            return True
        except OSError:  # a folder that cannot be written to, where nothing is trained
            return False

    def load_config(self) -> TrainConfig:
        """The run's settings.

        Raises:
            UserError: the folder holds no run, or its settings cannot be read.
        """
        if not self.exists():
            raise UserError(
                f"{self.shown.path} holds no run: there is no {CONFIG} in it. Name a run folder, "
                "such as one of those in runs/."
            )
        try:
            content = self.config.read_bytes()
        except OSError as error:
            raise self._unreadable(error) from error
        return TrainConfig.from_json(content)

    def _unreadable(self, error: OSError) -> UserError:
        return UserError(f"{self.shown.config} cannot be read: {error.strerror}.")

    def save_config(self, config: TrainConfig) -> None:
        """Write the run's settings.

        Raises:
            FileWriteError: the disk is full, or the folder cannot be written to.
        """
        write_atomically(self.config, config.to_json().encode())

    def begin(self, config: TrainConfig) -> None:
        """Make the folder of a run that is to be resumed from its settings; a run there stays.

        Two processes that begin it write no settings over each other's.

        Raises:
            RunHeldError: another process holds it.
            FileWriteError, UserError: as `save_config` and `locked`.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with self.locked():
            if not self.exists():
                self.save_config(config)

    def trained_timesteps(self) -> int | None:
        """The steps of the run's checkpoint; None where none can be read."""
        try:
            return read_timesteps(self.checkpoint)
        except PolicyFileError:
            return None

    def stop_reason(self) -> str | None:
        """Why a callback, or the settings, had ended the run at its checkpoint; None where none."""
        try:
            return read_stop_reason(self.checkpoint)
        except PolicyFileError:
            return None

    def to_resume(self) -> str:
        """The command that resumes the run."""
        return f"recurrent-rl train --resume {shlex.quote(str(self.shown.path))}"

    def to_evaluate(self, config: TrainConfig) -> str:
        """The command that evaluates the run; or the call, where it cannot name the environment."""
        if is_description(config.environment):
            return f"recurrent_rl.evaluate_run({str(self.shown.path)!r}, env=...)"
        return f"recurrent-rl evaluate {shlex.quote(str(self.shown.path))}"

    def evaluated_timesteps(self) -> int | None:
        """The steps of the policy that the run's evaluation is of; None where none can be read."""
        saved = self._evaluation_if_readable()
        return None if saved is None else saved.timesteps

    def has_evaluation(self, timesteps: int, compare: bool) -> bool:
        """Whether there is one of the policy after so many steps, with `compare` in all ways."""
        saved = self._evaluation_if_readable()
        if saved is None or saved.timesteps != timesteps:
            return False
        return not compare or saved.stochastic is not None

    def load_evaluation(self) -> SavedEvaluation | None:
        """What the run's evaluation found; None where there is none.

        Raises:
            UserError: the file cannot be read.
        """
        if not self.evaluation.is_file():
            return None
        try:
            text = self.evaluation.read_text(encoding="utf-8")
            return SavedEvaluation.from_json(read_json(text))
        except (OSError, *UNREADABLE) as error:
            raise UserError(
                f"{self.evaluation} cannot be read ({error}); write it anew: "
                f"recurrent-rl evaluate {self.path}"
            ) from error

    def _evaluation_if_readable(self) -> SavedEvaluation | None:
        """As `load_evaluation`; a file that cannot be read is as good as none: it is replaced."""
        try:
            return self.load_evaluation()
        except UserError:
            return None

    def save_evaluation(self, found: SavedEvaluation) -> SavedEvaluation:
        """Write what an evaluation found, unless that would lose what is there.

        Returns:
            What the folder holds now: this one or, where the one there is of the same policy and
            of more episodes or of a way of playing that this one lacks, the one there.

        Raises:
            FileWriteError: the disk is full, or the folder cannot be written to.
        """
        there = self._evaluation_if_readable()
        if there is not None and found.would_lose(there):
            return there
        text = json.dumps(found.to_json(), indent=2, allow_nan=False)
        write_atomically(self.evaluation, text.encode())
        return found

    def check_writable(self) -> None:
        """Refuse a folder in which no file can be written, before hours of playing are lost.

        Raises:
            UserError: says why, and how to evaluate without saving.
        """
        try:
            with tempfile.NamedTemporaryFile(dir=self.path) as file:
                file.write(bytes(10_000))  # more than an evaluation holds: a full disk takes none
        except OSError as error:
            raise UserError(
                f"{EVALUATION} cannot be written into {self.shown.path}: {error}. Make the folder "
                "writable, or evaluate its policy file, which saves nothing: recurrent-rl evaluate "
                f"{self.shown.policy}"
            ) from error


def _run_folders(path: Path) -> list[Path]:
    """The folders at a path and below it that hold settings, or may not be read."""
    refused: list[Path] = []

    def refuse(error: OSError) -> None:
        if isinstance(error, PermissionError):
            refused.append(Path(error.filename))

    walk = os.walk(path, onerror=refuse)
    return sorted([Path(folder) for folder, _, files in walk if CONFIG in files] + refused)
