"""Benchmarks: many runs, several at a time, resumable, each in a process of its own.

Several benchmarks may share a folder, on one machine or on many: a run is done by the one that
holds its folder's lock.
"""

from __future__ import annotations

import os
import time
import traceback
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from recurrent_rl.errors import UserError
from recurrent_rl.experiments.child import Child, Tell
from recurrent_rl.experiments.job import Job
from recurrent_rl.experiments.suites import Suite, change
from recurrent_rl.fields import folder_part
from recurrent_rl.runs.folder import RunHeldError, RunState
from recurrent_rl.runs.loop import every
from recurrent_rl.runs.progress import ProgressBar
from recurrent_rl.runs.training import resume
from recurrent_rl.signals import StopSignals

POLL_SECONDS = 0.2
ELSEWHERE_SECONDS = 5.0
"""Between two looks at the runs that other processes hold."""


def plan(
    suite: Suite,
    out: Path,
    *,
    memories: Iterable[str],
    seeds: int,
    episodes: int,
    settings: Mapping[str, Any],
    name: str | None = None,
    threads: int | None = 1,
    total_timesteps: int | None = None,
) -> list[Job]:
    """The runs of a suite, seeds outermost: cut short, it has every task with fewer seeds.

    Args:
        suite: the tasks.
        out: folder of the run folders.
        memories: each task is trained with each of them.
        seeds: 0, 1, ... for each.
        episodes: of the evaluation.
        settings: changes to the defaults, as for `suites.change`.
        name: of these settings, in the names of the folders beside the memory's.
        threads: of each run.
        total_timesteps: instead of each task's own.

    Raises:
        UserError: a setting makes no sense, or a folder holds a run with other settings.
    """
    jobs = []
    for seed in range(seeds):
        for task in suite.tasks:
            for memory in memories:
                label = memory if name is None else f"{name}-{memory}"
                config = task.config(
                    total_timesteps,
                    seed=seed,
                    name=label,
                    log_dir=str(out),
                    threads=threads,
                    eval_episodes=episodes,
                    agent={"memory": memory},
                )
                config = change(config, settings)
                if config != config.to_the_end():
                    raise UserError(
                        "stop_at_return and patience end a run early, and the runs of a benchmark "
                        "are compared after all their steps: leave them out of --settings."
                    )
                folder = f"{task.name}__{label}__{seed}".replace(", ", "-").replace(" ", "-")
                jobs.append(Job(out / folder_part(folder), config, compare=True))
    for job in jobs:
        job.check_same("Name these settings with --name, or take another folder with --out.")
    return jobs


@dataclass(frozen=True)
class Outcome:
    """How a benchmark ended."""

    failed: dict[Path, str]
    """The run folders whose runs failed, and why."""
    stopped_by: int | None
    """The signal that ended it early, or None."""


def run_all(jobs: list[Job], workers: int, progress: bool = True) -> Outcome:
    """Do what is not done yet, `workers` runs at a time; a run that was cut short is resumed.

    A run that fails is told of at the end; the others continue. What a run prints is in the log of
    its folder. Runs that other processes hold are waited for, and taken over where those end early.

    Args:
        jobs: the runs.
        workers: how many of them side by side.
        progress: show a progress bar.
    """
    runs = _Runs(jobs, workers)
    with (
        StopSignals() as stop,
        ProgressBar("Benchmark", runs.total, "steps", sum(runs.steps.values()), progress) as bar,
    ):
        try:
            while runs.running or ((runs.waiting or runs.elsewhere) and not stop):
                runs.begin(stop)
                if stop:
                    runs.end()
                runs.look(stop)
                bar.update(sum(runs.steps.values()), runs.metrics())
                time.sleep(POLL_SECONDS)
        finally:
            for worker in runs.running:  # a second Ctrl-C
                worker.process.kill()
    return Outcome(runs.failed, stop.received)


class _Runs:
    """The runs of a benchmark: which wait, which are done here or elsewhere, and how far they are.

    Args:
        jobs: the runs.
        workers: how many of them side by side.
    """

    def __init__(self, jobs: list[Job], workers: int) -> None:
        self.waiting = deque(job for job in jobs if not job.done)
        self.running: list[_Worker] = []
        self.elsewhere: list[Job] = []
        """Those that other processes hold."""
        self.failed: dict[Path, str] = {}
        self.steps = {job.run_dir: job.config.total_timesteps if job.done else 0 for job in jobs}
        self.total = sum(job.config.total_timesteps for job in jobs)
        self._count, self._workers = len(jobs), workers
        self._finished = len(jobs) - len(self.waiting)
        self._due = every(ELSEWHERE_SECONDS)
        self._ends = False

    def begin(self, stop: StopSignals) -> None:
        """Give the free workers something to do, until a signal comes."""
        if self.elsewhere and not self.waiting and self._due():
            self.waiting.extend(self.elsewhere)
            self.elsewhere.clear()
        while self.waiting and len(self.running) < self._workers and not stop:
            job = self.waiting.popleft()
            state = job.state
            if job.is_done(state):  # by another process, meanwhile
                self.steps[job.run_dir] = job.config.total_timesteps
                self._finished += 1
            elif state is RunState.RUNNING:
                self.elsewhere.append(job)
            else:
                self.running.append(_Worker(job))

    def end(self) -> None:
        """Tell those that run to save and end, once."""
        if not self._ends:
            self._ends = True
            for worker in self.running:
                worker.process.terminate()  # SIGTERM

    def look(self, stop: StopSignals) -> None:
        """See how far each worker is, and which have ended. One that was stopped has not failed."""
        for worker in list(self.running):
            self.steps[worker.job.run_dir] = worker.steps()
            if worker.process.is_alive():
                continue
            self.running.remove(worker)
            reason = worker.failure()
            if worker.held_elsewhere:
                self.elsewhere.append(worker.job)
                continue
            self._finished += worker.job.done
            if reason is not None and not stop:
                self.failed[worker.job.run_dir] = reason

    def metrics(self) -> dict[str, str]:
        """What the progress bar tells beside the steps."""
        metrics = {"runs": f"{self._finished}/{self._count}"}
        if evaluating := sum(worker.evaluates for worker in self.running):
            metrics["evaluating"] = str(evaluating)
        if self.elsewhere:
            metrics["elsewhere"] = str(len(self.elsewhere))
        if self.failed:
            metrics["failed"] = str(len(self.failed))
        return metrics


class _Worker(Child):
    """A process that does one job, and tells of each iteration."""

    def __init__(self, job: Job) -> None:
        super().__init__(partial(_train, job))
        self.job = job
        self.held_elsewhere = False
        """Whether it found that another process holds the run."""
        self._steps = 0
        self._failure: str | None = None

    def steps(self) -> int:
        """Steps taken, as last told."""
        for told in self.told():
            if isinstance(told, int):
                self._steps = told
            elif told is RunState.RUNNING:
                self.held_elsewhere = True
            else:
                self._failure = told
        return self._steps

    @property
    def evaluates(self) -> bool:
        """Whether all steps are taken, as last told."""
        return self._steps >= self.job.config.total_timesteps

    def failure(self) -> str | None:
        """Why the job is not done although the process has ended.

        None where it is done, or held elsewhere.
        """
        self.process.join()
        self.steps()
        if self._failure is None and not self.held_elsewhere and not self.job.done:
            return f"the process ended with status {self.process.exitcode}"
        return self._failure


def _train(job: Job, stop: StopSignals, tell: Tell) -> None:
    """Train and evaluate; what is printed goes to the log of the run's folder."""
    job.run_dir.mkdir(parents=True, exist_ok=True)
    with job.folder.log.open("a") as log:
        for descriptor in (1, 2):
            os.dup2(log.fileno(), descriptor)
    try:
        job.folder.begin(job.config)
        resume(
            job.run_dir,
            compare=job.compare,
            callbacks=[lambda state: tell(state.timesteps)],
            seed_globals=True,
            stop=stop,
        )
    except RunHeldError:
        tell(RunState.RUNNING)
    except Exception:
        traceback.print_exc()
        raise
