"""Whether the best settings of a search are better: both trained with seeds it has not seen.

The best of many trials was lucky too, so that its score there favours it. Fresh seeds do not.
"""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recurrent_rl.config import TrainConfig
from recurrent_rl.experiments.results import learning_curve
from recurrent_rl.experiments.statistics import student_half_interval
from recurrent_rl.experiments.tuning_trials import WAIT_SECONDS, late_mean
from recurrent_rl.runs.callbacks import TrainingState
from recurrent_rl.runs.folder import RunFolder, RunHeldError, RunState
from recurrent_rl.runs.progress import ProgressBar
from recurrent_rl.runs.training import resume
from recurrent_rl.signals import StopSignals
from recurrent_rl.sources import Environment


@dataclass(frozen=True)
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


def half_interval(values: NDArray[np.float64]) -> float | None:
    """Half of the 95 % interval of the mean, by Student's t; None of one value."""
    return None if len(values) == 1 else student_half_interval(values)


def shown_mean(values: NDArray[np.float64]) -> str:
    """The mean ± half of its 95 % interval, rounded to two figures; of one value itself."""
    half = half_interval(values)
    return f"{values.mean():.4g}" + ("" if half is None else f" ± {float(f'{half:.2g}'):g}")


@dataclass(frozen=True)
class _Run:
    """One run of the confirmation."""

    folder: RunFolder
    config: TrainConfig

    @property
    def done(self) -> bool:
        """Whether it has all that it is asked for."""
        if not self.folder.exists():
            return False
        last = RunState.EVALUATED if self.config.eval_episodes else RunState.FINISHED
        return self.folder.state() is last

    def figure(self) -> float:
        """Its mean return."""
        if self.config.eval_episodes:
            found = self.folder.load_evaluation()
            assert found is not None
            return found.deterministic.mean_return
        return late_mean(*learning_curve(self.folder.path), self.config.total_timesteps)


def confirm(
    given: TrainConfig,
    best: TrainConfig,
    name: str,
    seeds: Sequence[int],
    folder: Path,
    env: Environment | None,
    stop: StopSignals,
    progress: bool,
) -> Confirmation | None:
    """Train both with each of the seeds, and evaluate them as their settings say.

    What is done is not done again. Processes that call this at the same time share the runs.

    Args:
        given: the settings that the search began with.
        best: those it has found.
        name: of the best in the names of the run folders.
        seeds: none of the search's.
        folder: of the run folders.
        env: what to train on, where the settings cannot name it.
        stop: notes the signals.
        progress: show a progress bar.

    Returns:
        What came of it; None where a signal ended it early.
    """
    runs = {
        label: [_run(config, folder, f"{label}__seed-{seed}", seed) for seed in seeds]
        for label, config in (("given", given), (name, best))
    }
    pairs = [run for pair in zip(*runs.values(), strict=True) for run in pair]
    _do(pairs, env, stop, progress)
    if stop:
        return None
    figures = [np.array([run.figure() for run in of_way]) for of_way in runs.values()]
    return Confirmation(tuple(seeds), *figures)


def _run(config: TrainConfig, folder: Path, name: str, seed: int) -> _Run:
    """One run of all its steps: where one of the two ended early, they could not be compared."""
    config = dataclasses.replace(
        config, seed=seed, log_dir=str(folder), stop_at_return=None, patience=None
    )
    return _Run(RunFolder(folder / name), config)


def _do(runs: Sequence[_Run], env: Environment | None, stop: StopSignals, progress: bool) -> None:
    """Do what is not done, and wait for the runs that other processes hold."""
    waiting = deque(run for run in runs if not run.done)
    steps = runs[0].config.total_timesteps
    done = len(runs) - len(waiting)
    with ProgressBar("Confirming", len(runs) * steps, "steps", done * steps, progress) as bar:

        def show(state: TrainingState | None = None) -> None:
            within = 0 if state is None else state.timesteps
            bar.update(done * steps + within, {"runs": f"{done}/{len(runs)}"})

        while waiting and not stop:
            run = waiting.popleft()
            try:
                if not run.done:
                    _train(run, env, show, stop)
            except RunHeldError:
                waiting.append(run)
                time.sleep(WAIT_SECONDS)
            else:
                done += run.done
                show()


def _train(
    run: _Run, env: Environment | None, show: Callable[[TrainingState], None], stop: StopSignals
) -> None:
    """Train one run, from where it was stopped, and evaluate it.

    Raises:
        RunHeldError: another process is at it.
    """
    run.folder.begin(run.config)
    resume(
        run.folder.path,
        env=env,
        progress=False,
        callbacks=[show],
        seed_globals=True,
        stop=stop,
    )
