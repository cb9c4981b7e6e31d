"""Runs with seeds that a search has not seen: trained whole, evaluated, shared by processes.

The best of many trials was lucky too, so that its score there favours it. Fresh seeds do not.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recurrent_rl.config import TrainConfig
from recurrent_rl.experiments.job import Job
from recurrent_rl.experiments.results import learning_curve
from recurrent_rl.experiments.tuning.trials import WAIT_SECONDS, late_mean
from recurrent_rl.runs.callbacks import TrainingState
from recurrent_rl.runs.folder import RunHeldError
from recurrent_rl.runs.progress import ProgressBar
from recurrent_rl.runs.training import resume
from recurrent_rl.signals import StopSignals
from recurrent_rl.vector_env.sources import Environment


def train_fresh(
    settings: Mapping[str, TrainConfig],
    seeds: Sequence[int],
    folder: Path,
    label: str,
    env: Environment | None,
    stop: StopSignals,
    progress: bool,
    threads: int | None = None,
) -> dict[str, NDArray[np.float64]] | None:
    """Train all of these settings with each of the seeds, and evaluate them as they say.

    What is done is not done again. Processes that call this at the same time share the runs.

    Args:
        settings: by a name, which stands in those of the run folders.
        seeds: none of the search's.
        folder: of the run folders.
        label: what is under way, for the progress bar.
        env: what to train on, where the settings cannot name it.
        stop: notes the signals.
        progress: show a progress bar.
        threads: of each run; None leaves what the settings say.

    Returns:
        The mean return of each run, by name and in the order of the seeds; None where a signal
        ended it early.

    Raises:
        UserError: the folder holds a run of such a name with other settings.
    """
    runs = {
        name: [_job(config, folder, f"{name}__seed-{seed}", seed, threads) for seed in seeds]
        for name, config in settings.items()
    }
    for run in itertools.chain.from_iterable(runs.values()):
        run.check_same(f"Move or delete {folder}, or take another file with storage.")
    by_seed = [run for of_seed in zip(*runs.values(), strict=True) for run in of_seed]
    _do(by_seed, label, env, stop, progress)
    if stop:
        return None
    return {name: np.array([_figure(run) for run in of_name]) for name, of_name in runs.items()}


def _job(config: TrainConfig, folder: Path, name: str, seed: int, threads: int | None) -> Job:
    """One run of all its steps: where one ended early, they could not be compared."""
    config = dataclasses.replace(
        config.to_the_end(),
        seed=seed,
        log_dir=str(folder),
        threads=threads or config.threads,
    )
    return Job(folder / name, config)


def _figure(run: Job) -> float:
    """The mean return of a run that is done."""
    if run.config.eval_episodes:
        found = run.folder.load_evaluation()
        assert found is not None
        return found.deterministic.mean_return
    return late_mean(*learning_curve(run.run_dir), run.config.total_timesteps)


def _do(
    runs: Sequence[Job],
    label: str,
    env: Environment | None,
    stop: StopSignals,
    progress: bool,
) -> None:
    """Do what is not done, and wait for the runs that other processes hold."""
    waiting = deque(run for run in runs if not run.done)
    steps = runs[0].config.total_timesteps
    done = len(runs) - len(waiting)
    with ProgressBar(label, len(runs) * steps, "steps", done * steps, progress) as bar:

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
    run: Job, env: Environment | None, show: Callable[[TrainingState], None], stop: StopSignals
) -> None:
    """Train one run, from where it was stopped, and evaluate it.

    Raises:
        RunHeldError: another process is at it.
    """
    run.folder.begin(run.config)
    resume(
        run.run_dir,
        env=env,
        progress=False,
        callbacks=[show],
        seed_globals=True,
        stop=stop,
    )
