"""The trials of a search for settings: each one or more runs, scored by their learning curves."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from recurrent_rl.agents.extras import optional
from recurrent_rl.agents.raising import in_words
from recurrent_rl.config import TrainConfig
from recurrent_rl.errors import UserError
from recurrent_rl.experiments.tuning.files import best_of, leaders
from recurrent_rl.experiments.tuning.space import OPTUNA
from recurrent_rl.experiments.tuning.study import PARTS, TuningStudy
from recurrent_rl.runs.callbacks import Callback, TrainingState
from recurrent_rl.runs.folder import RunFolder
from recurrent_rl.runs.progress import ProgressBar
from recurrent_rl.runs.training import TrainResult, resume
from recurrent_rl.signals import StopSignals
from recurrent_rl.vector_env.sources import Environment

if TYPE_CHECKING:
    import optuna

LAST_PART = 0.25
"""Share of a run's steps, at its end, whose mean return is its score."""
PRUNED = "its learning curve lies below the median of the other trials"
WAIT_SECONDS = 1.0
"""Between two looks at the trials that other processes have under way."""


class LearningCurve(Callback):
    """Keeps the mean returns of a run, and shows them to a pruner at `PARTS` points.

    Args:
        report: given a point's number, from 1, and the return there; true ends the run.
        tell: given the steps so far, after each iteration.
    """

    def __init__(
        self, report: Callable[[int, float], bool] | None, tell: Callable[[int], None]
    ) -> None:
        self.steps: list[int] = []
        self.returns: list[float] = []
        self._report = report
        self._tell = tell
        self._part = 0

    def on_iteration(self, state: TrainingState) -> None:
        """Keep the mean return, where an episode has ended yet."""
        self._tell(state.timesteps)
        mean = state.metrics.get("rollout/ep_rew_mean")
        if mean is None:
            return
        self.steps.append(state.timesteps)
        self.returns.append(mean)
        part = PARTS * state.timesteps // state.config.total_timesteps
        if self._report is not None and self._part < part < PARTS:
            self._part = part
            if self._report(part, mean):
                state.stop(PRUNED)

    def score(self, total: int) -> float:
        """The mean over the last part of a run of so many steps.

        Raises:
            UserError: no episode has ended.
        """
        return late_mean(np.array(self.steps), np.array(self.returns), total)


def late_mean(steps: NDArray[np.int64], returns: NDArray[np.float64], total: int) -> float:
    """The mean over the last part of a learning curve, of a run of so many steps.

    Raises:
        UserError: there is nothing in it.
    """
    late = steps > (1 - LAST_PART) * total
    if not late.any():
        raise UserError(
            f"No episode ended in the {total:,} steps of a run, so there is nothing to compare by: "
            "raise total_timesteps."
        )
    return float(returns[late].mean())


class Tuner:
    """Does trials of a study until there are enough, or a signal comes.

    Args:
        study: asked for trials, and told what came of them.
        trials: there are to be in all, of all processes.
        seeds: runs of each trial.
        env: what to train on, where the settings cannot name it.
        keep: the run folders of so many leading trials, beside those failed; None keeps all.
        stop: notes the signals.
        threads: of each run; None leaves what the settings say.
        between: called between trials.
    """

    def __init__(
        self,
        study: TuningStudy,
        trials: int,
        seeds: int,
        env: Environment | None,
        keep: int | None,
        stop: StopSignals,
        threads: int | None,
        between: Callable[[], object],
    ) -> None:
        self.study = study
        self.trials = trials
        self.seeds = seeds
        self.env = env
        self.keep = keep
        self.stop = stop
        self.threads = threads
        self.between = between
        self.steps = study.space.base.total_timesteps
        self._records = study.records()

    def run(self, progress: bool) -> None:
        """Do what is missing, and wait for the trials that other processes have under way."""
        total, before = self.trials * self.seeds * self.steps, self._steps_done()
        with ProgressBar("Tuning", total, "steps", before, progress) as bar:
            while not self.stop:
                self.between()
                if (trial := self.study.take(self.trials)) is not None:
                    self._do(trial, bar)
                elif any(one.state == "running" for one in self._records):
                    time.sleep(WAIT_SECONDS)
                else:
                    break
                self._records = self.study.records()
                self._show(bar)

    def _do(self, trial: optuna.Trial, bar: ProgressBar) -> None:
        """Do one trial, and tell the study what came of it."""
        try:
            score = self._score(trial, bar)
        except optional(*OPTUNA).TrialPruned:
            self.study.prune(trial)
        except Exception as error:  # whatever it is, other settings may do better
            reason = in_words(error)
            self.study.fail(trial, reason)
            bar.say(f"Trial {trial.number} failed: {reason}")
        else:
            if score is None:
                self.study.give_back(trial, "a signal stopped it")
            else:
                self.study.complete(trial, score)
        if self.keep is not None:
            self._tidy(self.keep)

    def _score(self, trial: optuna.Trial, bar: ProgressBar) -> float | None:
        """The mean of its runs' scores; None where a signal came.

        Raises:
            optuna.TrialPruned: its first run did worse than those of other trials.
        """

        def report(part: int, mean: float) -> bool:
            trial.report(mean, part)
            return trial.should_prune()

        config = self.study.space.config(trial.params)
        scores: list[float] = []
        for i in range(self.seeds):
            show = partial(self._show, bar, i * self.steps)
            curve = LearningCurve(report if i == 0 else None, show)
            ended = self._train(config, trial.number, config.seed + i, curve)
            if ended.stopped_by is not None:
                return None
            if ended.stop_reason == PRUNED:
                raise optional(*OPTUNA).TrialPruned
            scores.append(curve.score(self.steps))
        return float(np.mean(scores))

    def _train(
        self, config: TrainConfig, trial: int, seed: int, curve: LearningCurve
    ) -> TrainResult:
        """One run, without what adds nothing to its learning curve."""
        folder = RunFolder(self.study.files.run_dir(trial, seed))
        config = dataclasses.replace(
            config.to_the_end(),
            seed=seed,
            threads=self.threads or config.threads,
            log_dir=str(folder.path.parent),
            eval_episodes=0,
            eval_interval=None,
            video_interval=None,
            save_interval=None,
            track=None,
        )
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.save_config(config)
        return resume(
            folder.path,
            env=self.env,
            progress=False,
            callbacks=[curve],
            seed_globals=True,
            stop=self.stop,
        )

    def _tidy(self, leading: int) -> None:
        """Delete the run folders of trials that have ended, but for the leading and failed ones."""
        records = self.study.records()
        kept = {one.number for one in records if one.state in ("running", "failed")}
        kept |= {one.number for one in leaders(records, leading)}
        for folder in self.study.files.trials.iterdir():
            if folder.name.isdigit() and int(folder.name) not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    def _steps_done(self) -> int:
        """Of the trials that have ended, in whichever process; a pruned one counts whole."""
        ended = [one for one in self._records if one.state != "running"]
        return len(ended) * self.seeds * self.steps

    def _show(self, bar: ProgressBar, before: int = 0, steps: int = 0) -> None:
        """Show how far the search is, with the steps of the trial under way.

        Args:
            bar: shows it.
            before: steps of the trial's earlier runs.
            steps: of the run under way.
        """
        ended = [one for one in self._records if one.state != "running"]
        metrics = {"trials": f"{len(ended)}/{self.trials}"}
        for state in ("pruned", "failed"):
            if count := sum(one.state == state for one in ended):
                metrics[state] = str(count)
        if (best := best_of(ended)) is not None:
            metrics["best"] = f"{best.score:.4g}"
        bar.update(self._steps_done() + before + steps, metrics)
