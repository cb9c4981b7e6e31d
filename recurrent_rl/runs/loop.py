"""The loop of a run: iterate, log and save until the steps are taken or a signal asks to stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

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
    config = trainer.config
    began, first = time.monotonic(), trainer.timesteps
    resuming = to_resume(trainer, folder, bool(callbacks))
    copies = Copies(trainer.group, folder, Path())
    with ExitStack() as stack:
        monitor = Monitor(folder, config, first)
        stack.enter_context(closed_by(monitor.close))
        asked = of_settings(config)
        state = TrainingState(trainer, folder, monitor, stop, [*asked, *callbacks])
        stack.enter_context(closed_by(partial(_tell_of_end, state, resuming)))
        bar = stack.enter_context(
            ProgressBar("Training", config.total_timesteps, "steps", first, progress)
        )
        trainer.on_rollout = state.tell_of
        trainer.interrupt_is_second = stop.__bool__
        worker = _FirstWorker(state, stop, copies, asked, _shower(state, monitor, bar))
        try:
            state.tell("on_start")
            make_up(asked, state)
            worker.run()
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and stop:  # for the second time: at once
                error.args = (f"To go on from the last checkpoint: {resuming}",)
                raise
            told = worker.save_after_error(error, resuming)
            if isinstance(error, UserError):
                raise type(error)(f"{error} {told}") from error
            note(error, told)
            raise
    return LoopResult(time.monotonic() - began, state.stop_reason, state.evaluation)


def follow(trainer: Trainer, stop: StopSignals, here: Path) -> Path:
    """Iterate as a worker that is not the first, along with its `run_iterations`.

    Args:
        trainer: at the run's first step, or where its checkpoint was written.
        stop: notes the signals that reach this worker.
        here: the working directory in which it began; an environment may have changed it.

    Returns:
        The run's folder.

    Raises:
        ToldError: the first worker failed.
        KeyboardInterrupt: a callback has raised it there.
        SystemExit: a callback has called exit there.
    """
    copies = Copies(trainer.group, None, here)
    _Worker(trainer, stop, copies).run()
    return copies.folder.path


class _Worker:
    """The loop of every worker. One that is not the first does its part in it, and nothing beside.

    Args:
        trainer: at the run's first step, or where its checkpoint was written.
        stop: notes the signals that reach this worker.
        copies: of the run's folder.
    """

    folder: RunFolder | None = None
    """Where this worker writes; None: nowhere."""

    def __init__(self, trainer: Trainer, stop: StopSignals, copies: Copies) -> None:
        self.trainer = trainer
        self.stop = stop
        self.copies = copies
        self.saved = trainer.iteration if copies.folder.checkpoint.exists() else None
        """The iteration that the checkpoint is of."""

    def run(self) -> None:
        """Iterate until the run is done or is asked to stop, and save it."""
        while self.goes_on():
            self.iterate()
            if self.agree(save=self.save_due()).save:
                self.save()
        self.save()
        self.trainer.group.exchange(None)  # none leaves before the last has its copy

    def goes_on(self) -> bool:
        """Whether another iteration is begun; a signal that reached one worker has reached all.

        What callbacks have set in the first worker's environments is set in those of all.
        """
        if self.trainer.done:
            return False
        attributes = self.trainer.env_attributes
        agreed = self.agree(
            stop=self.stop.received,
            enough=self.stop_reason is not None,
            attributes=bool(attributes),
        )
        if agreed.stop:  # one that comes meanwhile is heard the next time
            self.stop.received = agreed.stop
        if agreed.attributes:
            self.trainer.env_attributes = self.trainer.group.tell(attributes, 0)
        return not agreed.ends

    def agree(self, **asked: Any) -> Agreed:
        """What all workers do next, from what each asks for, as `Group.agree`.

        Raises:
            ToldError: the first worker failed, and all have saved; or as it ends, the other
                exceptions of `follow`.
        """
        agreed = self.trainer.group.agree(**asked)
        if agreed.failed:  # which the first one does not hear: it tells it
            ends = self.trainer.group.tell(ending(None), 0)
            if agreed.save:
                save(self.trainer, None)
            raise ends
        return agreed

    def save(self) -> None:
        """Save the run as it is now."""
        save(self.trainer, self.folder, self.stop_reason)
        self.saved = self.trainer.iteration
        self.agree()  # it is written
        self.copies.update()

    def iterate(self) -> None:
        """One iteration, and all that is to be done about it."""
        try:
            self.trainer.iterate()
        except BaseException:
            if not self.trainer.group.broken:
                self.agree()  # the first has failed too, and tells how all end
            raise

    def save_due(self) -> bool:
        """Whether it is time for a checkpoint."""
        return False

    @property
    def stop_reason(self) -> str | None:
        """Why a callback has ended the run; None: none has."""
        return None


class _FirstWorker(_Worker):
    """The one that shows what happens, tells callbacks and writes.

    Args:
        state: what callbacks see.
        stop: as for any.
        copies: as for any.
        asked: the callbacks that the settings ask for.
        show: logs the last iteration and shows how far the run is.
    """

    def __init__(
        self,
        state: TrainingState,
        stop: StopSignals,
        copies: Copies,
        asked: Sequence[Callback],
        show: Callable[[], None],
    ) -> None:
        super().__init__(state.trainer, stop, copies)
        self.state, self.asked, self.show = state, asked, show
        self.folder: RunFolder = copies.folder
        self.steps = self.trainer.collector.environments.steps
        """That each environment had taken when the last iteration began."""
        self._due = every(self.trainer.config.checkpoint_interval)

    def iterate(self) -> None:
        self.steps = self.trainer.collector.environments.steps
        self.state.metrics = self.trainer.iterate()
        self.show()
        self.state.tell("on_iteration")
        make_up(self.asked, self.state)

    def save_due(self) -> bool:
        return self._due()

    @property
    def stop_reason(self) -> str | None:
        return self.state.stop_reason

    def save_after_error(self, error: BaseException, resuming: str) -> str:
        """As the function of this name, where all workers save and leave; says what it says."""
        trainer, group = self.trainer, self.trainer.group
        is_saved = self.saved == trainer.iteration and self.folder.checkpoint.exists()
        if not group.broken:  # they wait to hear it; one that has ended breaks the group
            with suppress(UserError, RuntimeError):
                group.agree(failed=True, save=not is_saved and trainer.iteration > 0)
                group.tell(ending(error), 0)
        return save_after_error(error, trainer, self.folder, is_saved, self.steps, resuming)


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


def ending(error: BaseException | None) -> BaseException:
    """What the other workers raise where the first one ends by this error."""
    if isinstance(error, SystemExit):
        return told_exit(error)
    if isinstance(error, KeyboardInterrupt):
        return KeyboardInterrupt()
    return ToldError("The first worker failed.")


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
