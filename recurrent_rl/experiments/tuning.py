"""A search for settings: trials around given ones, then both confirmed with fresh seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Annotated

from recurrent_rl.agents.arguments import argument, check_is
from recurrent_rl.agents.files import write_atomically
from recurrent_rl.agents.settings import at_least
from recurrent_rl.blocks import block_of
from recurrent_rl.config import ResolvedConfig, TrainConfig
from recurrent_rl.errors import UserError
from recurrent_rl.experiments.confirmation import Confirmation, confirm
from recurrent_rl.experiments.extras import optional
from recurrent_rl.experiments.search_space import OPTUNA, Space, with_sizes
from recurrent_rl.experiments.tuning_figure import draw_tuning
from recurrent_rl.experiments.tuning_files import TrialRecord, TuneFiles, best_of
from recurrent_rl.experiments.tuning_study import TuningStudy, quiet_optuna
from recurrent_rl.experiments.tuning_trials import Tuner
from recurrent_rl.fields import FolderPath, folder_part
from recurrent_rl.runs.torchrun import Launch
from recurrent_rl.signals import StopSignals, noting
from recurrent_rl.sources import Environment, source_of
from recurrent_rl.trainer import resolved

FRESH_SEEDS = 1_000
"""From the settings' seed to the first seed of the confirmation."""

Count = Annotated[int, at_least(1)]


@dataclass(frozen=True)
class TuneResult:
    """What a search has found so far."""

    files: TuneFiles
    """Where all of it lies."""
    trials: tuple[TrialRecord, ...]
    best: TrialRecord | None
    """The trial with the highest score; None where none is complete."""
    config: TrainConfig | None
    """The settings of the best trial, which are in `files.best` too."""
    importances: dict[str, float]
    """By setting; empty where there are too few trials."""
    confirmation: Confirmation | None = None
    """The best settings and those given, with fresh seeds; None where the search is not done, or
    the given ones are the best."""
    stopped_by: int | None = None
    """The signal that ended it early, or None."""


def tune(
    config: TrainConfig,
    *,
    env: Environment | None = None,
    trials: int = 30,
    storage: str | Path | None = None,
    search: Sequence[str] = (),
    seeds_per_trial: int = 1,
    confirm_seeds: int = 5,
    prune: bool = True,
    keep_trials: bool = False,
    progress: bool = True,
    stop: StopSignals | None = None,
) -> TuneResult:
    """Search for settings that learn better than the given ones.

    The first trial is the settings as given. A trial's score is the mean of
    `rollout/ep_rew_mean` over the last quarter of its steps, averaged over its seeds; all trials
    have the same seeds. The best settings are then trained with fresh seeds, and beside them the
    given ones with the same seeds.

    A search that was stopped goes on where it was: call it again. Processes that call it with the
    same storage share its trials.

    Args:
        config: the settings around which is searched.
        env: what to train on, as for `train`.
        trials: in all, those of other processes and earlier calls counted.
        storage: the study's file, a journal of Optuna's; by default
            `log_dir/tune-ENVIRONMENT.journal`. What comes of it lies in the folder named like it.
        search: what is searched, of `search_space.SPACE`; by default `search_space.USUAL`.
        seeds_per_trial: runs of each trial, from the settings' seed on.
        confirm_seeds: runs of the best settings, and as many of the given ones; 0 for none.
        prune: end a trial early whose learning curve lies below the median of the others.
        keep_trials: keep the run folders of all trials, not only of the best and of failed ones.
        progress: show a progress bar, and what is searched.
        stop: notes the signals for a caller who sees to them, as for `train`.

    Raises:
        UserError: an argument or a setting is at fault, Optuna, SciPy or matplotlib is missing, the
            storage holds something else, or all trials have failed.
        KeyboardInterrupt: on Ctrl-C, unless `stop` is given. The trial under way is tried again
            when the search goes on.
    """
    check_is("config", config, TrainConfig, 'a TrainConfig: tune(TrainConfig("CartPole-v1"))')
    trials = argument("trials", trials, Count)
    search = argument("search", search, tuple[str, ...])
    seeds_per_trial = argument("seeds_per_trial", seeds_per_trial, Count)
    confirm_seeds = argument("confirm_seeds", confirm_seeds, Annotated[int, at_least(0)])
    for name, value in (("prune", prune), ("keep_trials", keep_trials), ("progress", progress)):
        argument(name, value, bool)
    check_is("stop", stop, (StopSignals, NoneType), "a StopSignals, or None")
    if Launch.of_this_process() is not None:
        raise UserError(
            "torchrun starts the workers of one training, and a search does many. Start it without "
            "torchrun, as often as trials are to run side by side."
        )
    optional(*OPTUNA)
    for module in ("matplotlib", "scipy"):  # before hours of training, not after
        optional(module, *OPTUNA[1:])
    source = source_of(config, env)
    base = resolved(config, source)
    source.check_workers(base.workers)
    block_of(base, 0, base.workers)  # refuses too many
    space = Space.around(base, search, fixed_envs=source.count is not None)
    files = TuneFiles.of(_storage(storage, base))
    with noting(stop) as stop, quiet_optuna():
        with TuningStudy(files, space, seeds_per_trial, prune) as study:
            if progress:
                print(space.text())
            Tuner(study, trials, seeds_per_trial, env, keep_trials, stop).run(progress)
            result = _found(study, stop)
        best = result.best
        if best is None or best.is_given or stop or not confirm_seeds:
            return result
        assert result.config is not None
        confirmation = confirm(
            with_sizes(base),
            result.config,
            f"trial-{best.number}",
            range(base.seed + FRESH_SEEDS, base.seed + FRESH_SEEDS + confirm_seeds),
            files.confirmation,
            env,
            stop,
            progress,
        )
        return dataclasses.replace(result, confirmation=confirmation, stopped_by=stop.received)


def _storage(storage: str | Path | None, base: ResolvedConfig) -> Path:
    """The study's file."""
    if storage is not None:
        return Path(argument("storage", storage, FolderPath))
    name = folder_part(base.environment.strip("<>"))
    return Path(base.log_dir) / f"tune-{name}.journal"


def _found(study: TuningStudy, stop: StopSignals) -> TuneResult:
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
        return TuneResult(files, records, None, None, {}, stopped_by=stop.received)
    config = study.config_of(best)
    write_atomically(files.best, config.to_json().encode())
    importances = study.importances()
    draw_tuning(files.figure, records, importances)
    return TuneResult(files, records, best, config, importances, stopped_by=stop.received)
