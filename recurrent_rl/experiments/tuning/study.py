"""The study of a search for settings: an Optuna journal file that several processes share.

A process holds a lock of its own as long as it lives, which the operating system frees however it
ends. So a trial whose process was killed is known for certain, at once and without a heartbeat; its
settings are tried again.
"""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from recurrent_rl.agents.extras import optional
from recurrent_rl.config import TrainConfig
from recurrent_rl.errors import UserError
from recurrent_rl.experiments.tuning.files import TrialRecord, TuneFiles
from recurrent_rl.experiments.tuning.space import OPTUNA, Space
from recurrent_rl.seeding import Stream, number

if TYPE_CHECKING:
    import optuna

NAME = "recurrent-rl tune"
"""Of the study in its file."""
PARTS = 20
"""Points of a learning curve that the pruner sees."""
UNPRUNED_TRIALS, UNPRUNED_PARTS = 5, 8
"""Before so many trials are complete, and before this point of its curve, no trial is pruned."""

_IS_GIVEN, _PROCESS, _REASON, _AGAIN = "is_given", "process", "reason", "again"
_SEARCH = "search"


class TuningStudy:
    """One process's hand in a study; a context, in which its trials count as under way.

    Args:
        files: of the study.
        space: what it searches, around which settings.
        seeds_per_trial: runs of each trial.
        prune: end trials early whose learning curve lies below the median.

    Raises:
        UserError: the file holds something else, or a study of other settings, or it is new and
            its folder holds runs.
    """

    def __init__(self, files: TuneFiles, space: Space, seeds_per_trial: int, prune: bool) -> None:
        self.files = files
        self.space = space
        self._optuna = optional(*OPTUNA)
        self._process = uuid.uuid4().hex
        self._alive = FileLock(files.processes / self._process)
        self._lock = FileLock(files.folder / ".lock")
        with self._lock:
            self._storage = self._opened()
            self._study = self._begun(seeds_per_trial, prune)

    def __enter__(self) -> TuningStudy:
        self._alive.acquire(timeout=0)
        return self

    def __exit__(self, *_: object) -> None:
        self._alive.release()
        Path(self._alive.lock_file).unlink(missing_ok=True)

    def take(self, trials: int) -> optuna.Trial | None:
        """A new trial, unless so many have ended or are under way, in whichever process.

        Those whose process has ended are given back first.
        """
        with self._lock:
            for one in self._all(running=True):
                process = one.user_attrs.get(_PROCESS)
                if process is None or self._is_dead(process):  # None: it ended while it asked
                    self._give_back(one, "its process ended")
            taken = len(self.records())
            if taken >= trials:
                return None
            self._study.sampler = self._optuna.samplers.TPESampler(
                seed=number(self.space.base.seed, Stream.SEARCH, taken), constant_liar=True
            )
            trial: optuna.Trial = self._study.ask(self.space.distributions())
            trial.set_user_attr(_PROCESS, self._process)
            return trial

    def complete(self, trial: optuna.Trial, score: float) -> None:
        """End a trial with its score."""
        self._study.tell(trial, score)

    def prune(self, trial: optuna.Trial) -> None:
        """End a trial that was stopped early, since it did worse than the others."""
        self._study.tell(trial, state=self._optuna.trial.TrialState.PRUNED)

    def fail(self, trial: optuna.Trial, reason: str) -> None:
        """End a trial that raised an error."""
        trial.set_user_attr(_REASON, reason)
        self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)

    def give_back(self, trial: optuna.Trial, reason: str) -> None:
        """End a trial that was stopped from outside; its settings are the next to be tried."""
        with self._lock:
            (frozen,) = (one for one in self._all(running=True) if one.number == trial.number)
            self._give_back(frozen, reason)

    def records(self) -> list[TrialRecord]:
        """All trials, without those given back and those that wait."""
        states = self._optuna.trial.TrialState
        words = {
            states.COMPLETE: "complete",
            states.PRUNED: "pruned",
            states.FAIL: "failed",
            states.RUNNING: "running",
        }
        return [
            TrialRecord(
                number=one.number,
                state=words[one.state],
                score=one.value,
                settings=self.space.decoded(one.params),
                is_given=bool(one.user_attrs.get(_IS_GIVEN)),
                reason=one.user_attrs.get(_REASON),
            )
            for one in self._all()
            if one.state in words and not one.user_attrs.get(_AGAIN)
        ]

    def importances(self) -> dict[str, float]:
        """The share of each setting in what tells the best quarter of the trials from the rest.

        PED-ANOVA (Watanabe, Bansal and Hutter, IJCAI 2023), over complete trials; empty with fewer
        than eight, of which a quarter says nothing.
        """
        complete = [one for one in self.records() if one.state == "complete"]
        if len(complete) < 8 or len({one.score for one in complete}) < 2:
            return {}
        module = self._optuna.importance
        found = module.get_param_importances(
            self._study, evaluator=module.PedAnovaImportanceEvaluator(target_quantile=0.25)
        )
        return {name: float(share) for name, share in found.items()}

    def config_of(self, record: TrialRecord) -> TrainConfig:
        """The settings of a trial's runs, but for the seed."""
        (drawn,) = (one.params for one in self._all() if one.number == record.number)
        return self.space.config(drawn)

    def _all(self, running: bool = False) -> list[Any]:
        states = (self._optuna.trial.TrialState.RUNNING,) if running else None
        found: list[Any] = self._study.get_trials(deepcopy=False, states=states)
        return found

    def _is_dead(self, process: str) -> bool:
        path = self.files.processes / process
        if not path.exists():
            return True
        try:
            with FileLock(path).acquire(timeout=0):
                path.unlink()
                return True
        except Timeout:
            return False

    def _give_back(self, trial: Any, reason: str) -> None:
        """End a trial that does not count, and put its settings into the queue."""
        study = self._storage.get_study_id_from_name(NAME)
        known = self._storage.get_trial_id_from_study_id_trial_number(study, trial.number)
        for key, value in ((_REASON, reason), (_AGAIN, True)):
            self._storage.set_trial_user_attr(known, key, value)
        drawn = trial.system_attrs.get("fixed_params", {}) | trial.params
        given = {_IS_GIVEN: True} if trial.user_attrs.get(_IS_GIVEN) else None
        self._study.enqueue_trial(drawn, user_attrs=given)
        self._study.tell(trial.number, state=self._optuna.trial.TrialState.FAIL)

    def _opened(self) -> Any:
        """Optuna's storage in the file."""
        path, module = self.files.storage, self._optuna.storages
        _check_journal(path)
        try:
            return module.JournalStorage(module.journal.JournalFileBackend(str(path)))
        except ValueError as error:  # json.JSONDecodeError among them
            raise UserError(
                f"{path} is damaged ({error}), perhaps since the disk was full. Take another file "
                "with storage, or remove the line that is cut off."
            ) from error

    def _begun(self, seeds_per_trial: int, prune: bool) -> Any:
        """The study, new or as it is there, of which the first trial is the settings as given."""
        pruners = self._optuna.pruners
        names = [one.study_name for one in self._storage.get_all_studies()]
        if names not in ([], [NAME]):
            raise UserError(
                f"{self.files.storage} holds the study {names[0]!r}, which is none of this "
                "library's. Take another file with storage."
            )
        if not names:
            self.files.check_new()
        study = self._optuna.create_study(
            storage=self._storage,
            study_name=NAME,
            direction="maximize",
            load_if_exists=True,
            pruner=pruners.MedianPruner(UNPRUNED_TRIALS, UNPRUNED_PARTS)
            if prune
            else pruners.NopPruner(),
        )
        search = _description(self.space, seeds_per_trial)
        if _SEARCH not in study.user_attrs:
            study.enqueue_trial(self.space.encoded(), user_attrs={_IS_GIVEN: True})
            study.set_user_attr(_SEARCH, search)
        elif different := _differences(study.user_attrs[_SEARCH], search):
            raise UserError(
                f"{self.files.storage} holds a search with other settings "
                f"({', '.join(different)}). Give the same ones to go on with it, or take another "
                "file with storage."
            )
        return study


@contextlib.contextmanager
def quiet_optuna() -> Iterator[None]:
    """Have Optuna's log say nothing but errors; afterwards it is as before."""
    logging = optional(*OPTUNA).logging
    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _description(space: Space, seeds_per_trial: int) -> dict[str, Any]:
    """What makes two searches the same, in the types that JSON has."""
    to_json = optional(*OPTUNA).distributions.distribution_to_json
    return {
        "settings": space.base.as_chosen().to_json(),
        "space": {name: to_json(one) for name, one in space.distributions().items()},
        "seeds_per_trial": seeds_per_trial,
    }


def _differences(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """The names of what differs between two searches."""
    old, new = (TrainConfig.from_json(one["settings"]) for one in (there, wanted))
    names = old.differences(new)
    if there["space"] != wanted["space"] and not names:
        names.append("search")
    if there["seeds_per_trial"] != wanted["seeds_per_trial"]:
        names.append("seeds_per_trial")
    return names


def _check_journal(path: Path) -> None:
    """Refuse a file that is no journal of Optuna's, which would be written into.

    Raises:
        UserError: it is something else.
    """
    try:
        with path.open("rb") as file:
            first = file.readline()
        if not first or "op_code" in json.loads(first):
            return
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(f"storage {str(path)!r} cannot be read: {error}") from error
    except (ValueError, TypeError):
        pass
    raise UserError(f"{path} is no study: it holds something else. Take another file with storage.")
