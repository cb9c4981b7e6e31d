"""The loop of a run: iterate, log and save until the steps are taken or a signal asks to stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from recurrent_rl.errors import ToldError, UserError, told_exit
from recurrent_rl.group import Agreed
from recurrent_rl.runs.callbacks import Callback, TrainingState
from recurrent_rl.runs.checkpoint import save
from recurrent_rl.runs.copies import Copies
from recurrent_rl.runs.evaluation_result import Evaluation
from recurrent_rl.runs.failures import closed_by, note, save_after_error, telling, to_resume
from recurrent_rl.runs.folder import RunFolder
from recurrent_rl.runs.monitor import Monitor
from recurrent_rl.runs.periodic import make_up, of_settings
from recurrent_rl.runs.progress import ProgressBar
from recurrent_rl.runs.unread_infos import notes_on_infos
from recurrent_rl.signals import StopSignals
from recurrent_rl.trainer import Trainer


class LoopResult(NamedTuple):
    """What came of the iterations."""

    seconds: float
    """That they took."""
    stop_reason: str | None
    """Why a callback has ended the run; None where none has."""
    evaluation: Evaluation | None
    """The latest during training, if there was one."""


def run_iterations(
    trainer: Trainer,
    folder: RunFolder,
    progress: bool,
    callbacks: Sequence[Callback],
    stop: StopSignals,
) -> LoopResult:
    """Iterate until the run is done or is asked to stop, and leave everything saved.

    Args:
        trainer: at the run's first step, or where its checkpoint was written.
        folder: of the run, held by this process.
        progress: show a progress bar.
        callbacks: told of what happens, after those that the settings ask for.
        stop: notes the signals.

    Raises:
        UserError: the environment or what it returns is at fault. The last whole iteration is saved
            then, as it is after any other error; the message or a note says what `resume` loses.
    """
    config, group = trainer.config, trainer.group
    began, first = time.monotonic(), trainer.timesteps
    resuming = to_resume(trainer, folder, bool(callbacks))
    kept = _Kept(trainer, folder, resuming)
    with ExitStack() as stack:
        monitor = Monitor(folder, config, first)
        stack.enter_context(closed_by(monitor.close))
        asked = of_settings(config)
        state = TrainingState(trainer, folder, monitor, stop, [*asked, *callbacks])
        stack.enter_context(closed_by(partial(_tell_of_end, state, resuming)))
        bar = stack.enter_context(
            ProgressBar("Training", config.total_timesteps, "steps", first, progress)
        )
        save_due = every(config.checkpoint_interval)
        trainer.on_rollout = state.tell_of
        show = _shower(state, monitor, bar)
        try:
            state.tell("on_start")
            make_up(asked, state)
            while not trainer.done and not agreed(trainer, stop, state.stop_reason).ends:
                kept.begin_iteration()
                state.metrics = trainer.iterate()
                show()
                state.tell("on_iteration")
                make_up(asked, state)
                if group.agree(save=save_due()).save:
                    kept.save(state.stop_reason)
                    group.agree()  # it is written
                    kept.copies.update()
            kept.over = True
            kept.save(state.stop_reason)
            kept.copies.update()
            group.exchange(None)  # none leaves before the last has its copy
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and stop:  # for the second time: at once
                error.args = (f"To go on from the last checkpoint: {resuming}",)
                raise
            told = kept.save_after_error(error)
            if isinstance(error, UserError):
                raise type(error)(f"{error} {told}") from error
            note(error, told)
            raise
    return LoopResult(time.monotonic() - began, state.stop_reason, state.evaluation)


class _Kept:
    """What is saved of a run, and of which iteration.

    Args:
        trainer: at the run's first step, or where its checkpoint was written.
        folder: of the run.
        resuming: how to go on with it.
    """

    def __init__(self, trainer: Trainer, folder: RunFolder, resuming: str) -> None:
        self.copies = Copies(trainer.group, folder, Path())
        self.over = False
        """The iterations are done: the other workers save, and ask no more what is next."""
        self._trainer, self._folder, self._resuming = trainer, folder, resuming
        self._iteration = trainer.iteration if folder.checkpoint.exists() else None
        self.begin_iteration()

    def begin_iteration(self) -> None:
        """Note how many steps each environment has taken before it."""
        self._steps = self._trainer.collector.environments.steps

    def save(self, stop_reason: str | None) -> None:
        """Write the checkpoint, with why a callback has ended the run, if one has."""
        save(self._trainer, self._folder, stop_reason)
        self._iteration = self._trainer.iteration

    def save_after_error(self, error: BaseException) -> str:
        """As the function of this name, where all workers save and leave; says what it says."""
        trainer, group = self._trainer, self._trainer.group
        is_saved = self._iteration == trainer.iteration and self._folder.checkpoint.exists()
        if self.over:  # the others no longer ask what is next, and will end
            group.fall_out()
        if not group.broken:  # they wait to hear it; one that has ended breaks the group
            with suppress(UserError, RuntimeError):
                group.agree(failed=True, save=not is_saved and trainer.iteration > 0)
                group.tell(ending(error), 0)
        return save_after_error(error, trainer, self._folder, is_saved, self._steps, self._resuming)


def _shower(state: TrainingState, monitor: Monitor, bar: ProgressBar) -> Callable[[], None]:
    """A function that logs the last iteration and shows how far the run is."""
    trainer, began, first = state.trainer, time.monotonic(), state.timesteps
    told_of_infos = False

    def show() -> None:
        nonlocal told_of_infos
        elapsed = time.monotonic() - began
        state.metrics["time/fps"] = (trainer.timesteps - first) / elapsed
        state.metrics["time/time_elapsed"] = elapsed
        if trainer.iteration % trainer.config.log_interval == 0 or trainer.done:
            monitor.log(state.metrics, trainer.timesteps)
        bar.update(trainer.timesteps, _figures(state))
        if trainer.ended.episodes and not told_of_infos:
            told_of_infos = True
            for told in notes_on_infos(trainer):
                bar.say(told)

    return show


def follow(trainer: Trainer, stop: StopSignals, here: Path) -> Path:
    """The loop of a worker that is not the first, which does what `run_iterations` does there.

    Args:
        trainer: at the run's first step, or where its checkpoint was written.
        stop: notes the signals that reach this worker.
        here: the working directory in which it began; an environment may have changed it.

    Returns:
        The run's folder, as an absolute path.

    Raises:
        ToldError: the first worker failed.
        KeyboardInterrupt: a callback has raised it there.
        SystemExit: a callback has called exit there.
    """
    group = trainer.group
    copies = Copies(group, None, here)
    failure: BaseException | None = None
    while not trainer.done and not (told := agreed(trainer, stop)).ends:
        if not told.failed:
            try:
                trainer.iterate()
            except BaseException as error:
                if group.broken:
                    raise
                failure = error  # the first has one too, and says so
            told = group.agree()
        if told.save and not told.failed:
            save(trainer, None)
            told = group.agree()
            if not told.failed:
                copies.update()
        if told.failed:
            ends = group.tell(ending(None), 0)
            if told.save:
                save(trainer, None)
            raise ends from failure
    save(trainer, None)
    copies.update()
    group.exchange(None)
    return copies.folder.path


def ending(error: BaseException | None) -> BaseException:
    """What the other workers raise where the first one ends by this error."""
    if isinstance(error, SystemExit):
        return told_exit(error)
    if isinstance(error, KeyboardInterrupt):
        return KeyboardInterrupt()
    return ToldError("The first worker failed.")


def agreed(trainer: Trainer, stop: StopSignals, enough: str | None = None) -> Agreed:
    """What all workers do next; a signal that reached one of them has reached all.

    `enough` is why a callback of the first worker has ended the run, if one has. What callbacks
    have set in its environments is set in those of all.
    """
    group, attributes = trainer.group, trainer.env_attributes
    told = group.agree(stop.received, enough=enough is not None, attributes=bool(attributes))
    if told.stop:  # one that comes meanwhile is heard the next time
        stop.received = told.stop
    if told.attributes:
        trainer.env_attributes = group.tell(attributes, 0)
    return told


def every(seconds: float) -> Callable[[], bool]:
    """A function that is true once per `seconds`, the first time after that long."""
    last = time.monotonic()

    def due() -> bool:
        nonlocal last
        if time.monotonic() - last < seconds:
            return False
        last = time.monotonic()
        return True

    return due


def _tell_of_end(state: TrainingState, resuming: str) -> None:
    saved = f"That was in on_end; all {state.timesteps:,} steps are saved. To resume: {resuming}"
    with telling(saved):
        state.tell("on_end")


def _figures(state: TrainingState) -> dict[str, str]:
    """What the progress bar shows."""
    mean = state.metrics.get("rollout/ep_rew_mean")
    shown = {"return": "-" if mean is None else f"{mean:.3g}"}
    return shown | ({"evaluation": f"{state.evaluation.mean:.3g}"} if state.evaluation else {})
