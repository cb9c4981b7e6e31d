"""A run's folder on machines that share no disk: the newest is found, and each keeps a copy.

The path is the same on all machines. The first worker writes the folder on its own machine; one
worker of each other machine that does not see it there keeps a copy, which it brings up to date
with each checkpoint. So a run is lost only with all its machines' disks.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from recurrent_rl.agents.files import write_atomically
from recurrent_rl.group import Group
from recurrent_rl.runs.checkpoint_file import read_timesteps
from recurrent_rl.runs.folder import RunFolder
from recurrent_rl.runs.torchrun import Launch


class _Held(NamedTuple):
    """A run's folder as a machine has it; the greater is the newer."""

    timesteps: int
    """Of its checkpoint; -1 where there is none yet."""
    digest: str
    """Of its checkpoint: two that are alike need no copying."""
    path: Path

    @classmethod
    def of(cls, folder: RunFolder) -> _Held:
        """What is in this folder.

        Raises:
            PolicyFileError: its checkpoint is damaged.
        """
        if not folder.checkpoint.exists():
            return cls(-1, "", folder.shown.path)
        digest = hashlib.sha256(folder.checkpoint.read_bytes()).hexdigest()
        return cls(read_timesteps(folder.checkpoint), digest, folder.shown.path)


def newest(group: Group, mine: RunFolder | None) -> RunFolder | None:
    """The newest state of a run that any machine holds, brought to all that hold another.

    All workers call it together, before the run goes on.

    Args:
        group: the workers.
        mine: the run's folder as this machine has it; None where it has none.

    Returns:
        The folder, which is there on this machine now; None where no machine has any.

    Raises:
        PolicyFileError: a checkpoint is damaged.
        FileWriteError: the folder cannot be written here.
    """
    held = None if mine is None or not _keeps_disk() else _Held.of(mine)
    all_held = group.exchange(held)
    there = [one for one in all_held if one is not None]
    if not there:
        return None
    best = max(there)
    source = all_held.index(best)
    lack = group.exchange(_keeps_disk() and held != best)
    if any(lack):
        files = _read(RunFolder(best.path).files()) if group.rank == source else {}
        files = group.tell(files, source)
        if lack[group.rank]:
            _write(files)
        group.agree()  # only now may all read it
    return RunFolder(best.path).fixed()


class Copies:
    """The copies of a run's folder; nothing where all workers see the first one's disk.

    All workers make it together, and call `update` together.

    Args:
        group: the workers.
        folder: of the run, in the first worker; None in the others.
        here: the working directory in which this worker began.

    Attributes:
        folder: of the run, in each worker.
    """

    def __init__(self, group: Group, folder: RunFolder | None, here: Path) -> None:
        self._group = group
        mark = secrets.token_hex()
        several = group.neighbours < group.size
        if folder is not None and several:
            folder.mark.write_text(mark)
        given = Path() if folder is None else folder.shown.path
        first, mark = group.exchange((given, mark))[0]
        self.folder = folder or RunFolder(here / first, first)
        sees = folder is not None or not several or _holds(self.folder.mark, mark)
        self._keeps = _keeps_disk() and not sees
        self._any = any(group.exchange(self._keeps))
        self._sent: dict[Path, tuple[int, int]] = {}
        self.update()

    def update(self) -> None:
        """Bring the copies to where the first worker's folder is.

        Raises:
            FileWriteError: this machine's copy cannot be written.
        """
        if not self._any:
            return
        with self._group.awaited():
            changed = self._changed() if self._group.rank == 0 else {}
        files = self._group.tell(changed, 0)
        if self._keeps:
            _write({self.folder.path / name: data for name, data in files.items()})

    def _changed(self) -> dict[Path, bytes]:
        """The files that are other than when they were sent, by their paths in the folder."""
        now = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in self.folder.files()}
        changed = [path for path, stamp in now.items() if self._sent.get(path) != stamp]
        self._sent = now
        return {path.relative_to(self.folder.path): x for path, x in _read(changed).items()}


def _keeps_disk() -> bool:
    """Whether this worker reads and writes for its machine, where torchrun has started it."""
    launch = Launch.of_this_process()
    return launch is not None and launch.place == 0


def _holds(file: Path, text: str) -> bool:
    return file.is_file() and file.read_text() == text


def _read(files: Iterable[Path]) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in files}


def _write(files: dict[Path, bytes]) -> None:
    """Write these, each whole or not at all."""
    for path, data in files.items():
        write_atomically(path, data)
