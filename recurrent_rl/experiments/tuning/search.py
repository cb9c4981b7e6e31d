"""A search for settings: trials around given ones, then both confirmed with fresh seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import NoneType
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from recurrent_rl.agents.arguments import argument, check_is
from recurrent_rl.agents.extras import optional
from recurrent_rl.agents.files import write_atomically
from recurrent_rl.agents.settings import at_least, validated
from recurrent_rl.blocks import block_of
from recurrent_rl.config import ResolvedConfig, TrainConfig
from recurrent_rl.errors import UserError
from recurrent_rl.experiments.tuning.figure import draw_tuning
from recurrent_rl.experiments.tuning.files import TrialRecord, TuneFiles, best_of, finalists_of
from recurrent_rl.experiments.tuning.fresh_runs import train_fresh
from recurrent_rl.experiments.tuning.processes import Helpers
from recurrent_rl.experiments.tuning.space import OPTUNA, SEARCH, Space
from recurrent_rl.experiments.tuning.study import TuningStudy, quiet_optuna
from recurrent_rl.experiments.tuning.trials import Tuner
from recurrent_rl.fields import FolderPath, folder_part
from recurrent_rl.process import available_cores
from recurrent_rl.resolve import resolved, source_of
from recurrent_rl.runs.torchrun import Launch
from recurrent_rl.signals import StopSignals, noting
from recurrent_rl.vector_env.sources import Environment

FINAL_SEEDS = range(500, 503)
"""Of the finals, counted from the settings' seed."""
FRESH_SEEDS = 1_000
"""From the settings' seed to the first seed of the confirmation."""

Count = Annotated[int, at_least(1)]


@dataclass(frozen=True, eq=False)
class Finalist:
    """A leading trial or the given settings, with what they did with seeds new to the search."""

    trial: TrialRecord
    config: TrainConfig
    returns: NDArray[np.float64]
    """Mean return of each run, as in a `Confirmation`."""


@dataclass(frozen=True, eq=False)
class Confirmation:
    """Returns of the settings given and of the best ones, seed by seed."""

    seeds: tuple[int, ...]
    given: NDArray[np.float64]
    """Mean return of each run: of its evaluation, or where there is none its score in training."""
    best: NDArray[np.float64]

    @property
    def difference(self) -> NDArray[np.float64]:
        """How much better the best settings are, seed by seed."""
        return self.best - self.given


@dataclass(frozen=True)
class TuneResult:
    """What a search has found so far."""

    files: TuneFiles
    """Where all of it lies."""
    trials: tuple[TrialRecord, ...]
    best: TrialRecord | None
    """The finalist with the highest mean return or, before the finals, the trial with the highest
    score; None where none is complete."""
    config: TrainConfig | None
    """The settings of the best trial, which are in `files.best` too."""
    importances: dict[str, float] = field(hash=False)
    """By setting; empty where there are too few trials."""
    finalists: tuple[Finalist, ...] = ()
    """The best first; empty where there were no finals, or they are not done."""
    confirmation: Confirmation | None = None
    """The best settings and those given, with fresh seeds; None where the search is not done, or
    the given ones are the best."""
    lost: tuple[str, ...] = ()
    """Why other processes of this search ended before it, one sentence each."""
    stopped_by: int | None = None
    """The signal that ended it early, or None."""


def tune(
    config: TrainConfig,
    env: Environment | None = None,
    *,
    trials: int = 30,
    storage: str | Path | None = None,
    search: Sequence[str] = (),
    seeds_per_trial: int = 1,
    finalists: int = 3,
    confirm_seeds: int = 5,
    processes: int = 1,
    prune: bool = True,
    keep_trials: bool = False,
    progress: bool = True,
    stop: StopSignals | None = None,
) -> TuneResult:
    """Search for settings that learn better than the given ones.

    The first trial is the settings as given. A trial's score is the mean of
    `rollout/ep_rew_mean` over the last quarter of its steps, averaged over its seeds; all trials
    have the same seeds. The trials with the highest scores and the given settings are then trained
    with three fresh seeds, and the best of these is the search's best. Where it is none of the
    given settings, it is confirmed by training both with fresh seeds again.

    A search that was stopped goes on where it was: call it again. Processes that call it with the
    same storage share its trials.

    Args:
        config: the settings around which is searched.
        env: what to train on, as for `train`, where the settings have no env_id.
        trials: in all, those of other processes and earlier calls counted.
        storage: the study's file, a journal of Optuna's; by default
            `log_dir/tune-ENVIRONMENT.journal`. What comes of it lies in the folder of that name
            without its ending or, with another ending than `.journal`, in `NAME.d`.
        search: the settings to vary, of those in docs/tuning.md; by default the first eight there.
        seeds_per_trial: runs of each trial, from the settings' seed on.
        finalists: leading trials that are trained again, beside the given settings; 1 lets the
            score decide.
        confirm_seeds: runs of the best settings, and as many of the given ones; 0 for none.
        processes: that do trials side by side, each on its share of the cores. Where `stop` is not
            given, a signal to this one ends all.
        prune: end a trial early whose learning curve lies below the median of the others.
        keep_trials: keep the run folders of all trials, not only of leading and of failed ones.
        progress: show a progress bar, and what is searched.
        stop: notes the signals for a caller who sees to them, as for `train`.

    Raises:
        UserError: an argument or a setting is at fault, Optuna, SciPy or matplotlib is missing, the
            storage holds something else, or all trials have failed.
        KeyboardInterrupt: on Ctrl-C, unless `stop` is given. The trial under way is tried again
            when the search goes on.
    """
    check_is("config", config, TrainConfig, 'a TrainConfig: tune(TrainConfig("CartPole-v1"))')
    searched: tuple[str, ...] = argument("search", search, tuple[str, ...])
    extent = Extent(
        trials, searched, seeds_per_trial, finalists, confirm_seeds, processes, prune, keep_trials
    )
    progress = argument("progress", progress, bool)
    check_is("stop", stop, (StopSignals, NoneType), "a StopSignals, or None")
    _check_can_search()
    source = source_of(config, env)
    base = resolved(config, source)
    source.check_workers(base.workers)
    source.check_workers(extent.processes, setting="processes")
    block_of(base, 0, base.workers)  # refuses too many
    space = Space.around(base, extent.search, fixed_envs=source.count is not None)
    threads = config.threads
    if extent.processes > 1 and threads is None:
        threads = max(1, available_cores() // (extent.processes * base.workers))
    plan = Search(space, TuneFiles.of(_storage(storage, base)), extent, threads)
    with noting(stop) as stop:
        with Helpers(plan.run, base, extent.processes - 1, stop, progress) as helpers:
            result = plan.run(stop, env, progress, helpers.check)
        stop.outcome = "Stopped early; what has ended is kept, and the same call goes on."
        return dataclasses.replace(result, lost=tuple(helpers.lost), stopped_by=stop.received)


def _check_can_search() -> None:
    """Refuse a search in one of torchrun's workers, or without the packages that it needs.

    Raises:
        UserError: says how to start it, or what to install.
    """
    if Launch.of_this_process() is not None:
        raise UserError(
            "torchrun starts the workers of one training, and a search does many. Start it without "
            "torchrun, as often as trials are to run side by side."
        )
    optional(*OPTUNA)
    for module in ("matplotlib", "scipy"):  # before hours of training, not after
        optional(module, SEARCH, extra="tune")


@validated
@dataclass(frozen=True)
class Extent:
    """How much is searched, and with how many processes: the arguments of `tune`, read."""

    trials: Count
    search: tuple[str, ...]
    seeds_per_trial: Count
    finalists: Count
    confirm_seeds: Annotated[int, at_least(0)]
    processes: Count
    prune: bool
    keep_trials: bool


@dataclass(frozen=True)
class Search:
    """What is searched and how: the same in all processes that do it together."""

    space: Space
    files: TuneFiles
    extent: Extent
    threads: int | None
    """Of each run; None leaves what the settings say."""

    def run(
        self,
        stop: StopSignals,
        env: Environment | None = None,
        progress: bool = False,
        between: Callable[[], object] = lambda: None,
    ) -> TuneResult:
        """Do what is not done yet, or wait until other processes have done it.

        Args:
            stop: notes the signals.
            env: what to train on, where the settings cannot name it.
            progress: show a progress bar.
            between: called between trials.

        Raises:
            UserError: all trials have failed, or the storage holds something else.
        """
        base, extent = self.space.base, self.extent
        with (
            quiet_optuna(),
            TuningStudy(self.files, self.space, extent.seeds_per_trial, extent.prune) as study,
        ):
            if progress:
                print(self.space.text())
            kept = None if extent.keep_trials else extent.finalists
            tuner = Tuner(
                study, extent.trials, extent.seeds_per_trial, env, kept, stop, self.threads, between
            )
            tuner.run(progress)
            result = _found(study)
            ranked = finalists_of(result.trials, extent.finalists)
            leading = [(one, study.config_of(one)) for one in ranked]
        fresh = partial(train_fresh, env=env, stop=stop, progress=progress, threads=self.threads)
        if len(leading) > 1 and not stop:
            result = _decided(result, leading, base.seed, fresh)
        best = result.best
        if not stop and extent.confirm_seeds and best is not None and not best.is_given:
            first = base.seed + FRESH_SEEDS
            seeds = range(first, first + extent.confirm_seeds)
            result = _confirmed(result, base.as_chosen(), seeds, fresh)
        return result


def _decided(
    result: TuneResult,
    leading: Sequence[tuple[TrialRecord, TrainConfig]],
    seed: int,
    fresh: Callable[..., dict[str, NDArray[np.float64]] | None],
) -> TuneResult:
    """The result with the best of the leading trials, by runs with fresh seeds.

    The score of a trial is of one seed or of few, so that the highest one is luck in part. The
    given settings are among them: the highest of twenty scores is seldom theirs, also where no
    others are better.
    """
    settings = {f"trial-{trial.number}": config for trial, config in leading}
    seeds = [seed + one for one in FINAL_SEEDS]
    returns = fresh(settings, seeds, result.files.finals, "Deciding")
    if returns is None:
        return result
    finalists = [
        Finalist(trial, config, of_runs)
        for (trial, config), of_runs in zip(leading, returns.values(), strict=True)
    ]
    # Stable: of equal ones the higher score. NaN of a policy whose episodes do not end is last.
    finalists.sort(key=lambda one: -np.nan_to_num(one.returns.mean(), nan=-np.inf))
    best = finalists[0]
    write_atomically(result.files.best, best.config.to_json().encode())
    return dataclasses.replace(
        result, best=best.trial, config=best.config, finalists=tuple(finalists)
    )


def _confirmed(
    result: TuneResult,
    given: TrainConfig,
    seeds: Sequence[int],
    fresh: Callable[..., dict[str, NDArray[np.float64]] | None],
) -> TuneResult:
    """The result with the best settings and those given, trained with fresh seeds."""
    assert result.best is not None
    name = f"trial-{result.best.number}"
    settings = {"given": given, name: result.config}
    returns = fresh(settings, seeds, result.files.confirmation, "Confirming")
    if returns is None:
        return result
    confirmation = Confirmation(tuple(seeds), returns["given"], returns[name])
    return dataclasses.replace(result, confirmation=confirmation)


def _storage(storage: str | Path | None, base: ResolvedConfig) -> Path:
    """The study's file."""
    if storage is not None:
        return Path(argument("storage", storage, FolderPath))
    name = folder_part(base.environment.strip("<>"))
    return Path(base.log_dir) / f"tune-{name}.journal"


def _found(study: TuningStudy) -> TuneResult:
    """What the study holds, with the best settings and the picture saved.

    Raises:
        UserError: all trials have failed; says why the last one did.
    """
    records, files = tuple(study.records()), study.files
    if records and all(one.state == "failed" for one in records):
        raise UserError(
            f"All {len(records)} trials have failed, the last one so: {records[-1].reason}"
        )
    if (best := best_of(records)) is None:
        return TuneResult(files, records, None, None, {})
    config = study.config_of(best)
    write_atomically(files.best, config.to_json().encode())
    importances = study.importances()
    draw_tuning(files.figure, records, importances)
    return TuneResult(files, records, best, config, importances)
