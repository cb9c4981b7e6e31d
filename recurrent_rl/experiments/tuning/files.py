"""What a search for settings leaves: the records of its trials, and its files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recurrent_rl.errors import UserError
from recurrent_rl.runs.folder import CONFIG

JOURNAL = ".journal"
"""The usual ending of a study's file."""


@dataclass(frozen=True)
class TrialRecord:
    """One trial of a study."""

    number: int
    state: str
    """complete, pruned, failed or running."""
    score: float | None
    """Of a complete trial; of a pruned one the last point of its learning curve."""
    settings: dict[str, Any] = field(hash=False)
    """What was searched, by name."""
    is_given: bool
    """Whether these are the settings that the search began with."""
    reason: str | None = None
    """Why it failed."""


def best_of(records: Iterable[TrialRecord]) -> TrialRecord | None:
    """The complete trial with the highest score, the first of several; None where there is none."""
    return next(iter(leaders(records, 1)), None)


def leaders(records: Iterable[TrialRecord], count: int) -> list[TrialRecord]:
    """The complete trials with the highest scores, at most so many, the best first."""
    scores = [(one.score, -one.number, one) for one in records if one.state == "complete"]
    return [one for *_, one in sorted(scores, reverse=True)[:count]]


def finalists_of(records: Sequence[TrialRecord], count: int) -> list[TrialRecord]:
    """The leading trials that are trained again, and the given settings where they are complete.

    One alone is decided by its score.
    """
    leading = leaders(records, count)
    if count == 1:
        return leading
    given = [one for one in records if one.is_given and one.state == "complete"]
    return [*leading, *(one for one in given if one not in leading)]


@dataclass(frozen=True)
class TuneFiles:
    """A study's file and, in the folder named like it, what comes of it."""

    storage: Path

    @classmethod
    def of(cls, storage: Path) -> TuneFiles:
        """Those of a study in this file; the folder is made.

        Raises:
            UserError: the file's name has no ending, or the folder cannot be made.
        """
        if not storage.suffix or storage.is_dir():
            raise UserError(
                f"storage is {str(storage)!r}; give a file whose name has an ending, such as "
                f"{storage.name or 'study'}{JOURNAL}. What comes of the search goes into a folder "
                "beside it that is named like it."
            )
        files = cls(storage)
        try:
            for folder in (files.processes, files.trials):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"The folder {files.folder} cannot be made ({error}); choose another storage."
            ) from error
        return files

    @property
    def folder(self) -> Path:
        """What comes of the search: each file has a folder of its own."""
        if self.storage.suffix == JOURNAL:
            return self.storage.with_suffix("")
        return self.storage.with_name(f"{self.storage.name}.d")

    def check_new(self) -> None:
        """Refuse a folder whose runs a new search would take for its own.

        Raises:
            UserError: there are runs in it.
        """
        if any(self.folder.rglob(CONFIG)):
            raise UserError(
                f"{self.folder} holds the runs of an earlier search, whose file {self.storage} is "
                "gone. Move or delete the folder, or take another file with storage."
            )

    @property
    def best(self) -> Path:
        """The best settings, as `train --config` takes them."""
        return self.folder / "best.json"

    @property
    def figure(self) -> Path:
        """The picture of trials and importances."""
        return self.folder / "tuning.png"

    @property
    def trials(self) -> Path:
        """The folder of the trials' run folders."""
        return self.folder / "trials"

    @property
    def finals(self) -> Path:
        """The folder of the runs that decide which of the leading trials is the best."""
        return self.folder / "finals"

    @property
    def confirmation(self) -> Path:
        """The folder of the runs with which the best settings are confirmed."""
        return self.folder / "confirmation"

    @property
    def processes(self) -> Path:
        """The folder of the locks that tell which processes live."""
        return self.folder / ".processes"

    def run_dir(self, trial: int, seed: int) -> Path:
        """The folder of one run of a trial."""
        return self.trials / f"{trial:04d}" / f"seed-{seed}"
