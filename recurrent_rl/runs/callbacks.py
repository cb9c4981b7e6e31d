"""What is called while a run goes on, and what it is given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, TypeAlias

from recurrent_rl.agents.policy import Policy
from recurrent_rl.agents.settings import shown
from recurrent_rl.config import ResolvedConfig
from recurrent_rl.errors import UserError
from recurrent_rl.rollout import Rollout
from recurrent_rl.runs.evaluation_result import Evaluation
from recurrent_rl.runs.event_file import RunWriter
from recurrent_rl.runs.folder import RunFolder
from recurrent_rl.runs.monitor import Monitor
from recurrent_rl.signals import StopSignals
from recurrent_rl.trainer import Trainer


class Callback:
    """Code of yours that a run calls: derive a class and override the moments you need.

    An error in one ends the run like any other: what was learnt is saved first. Of several workers
    the first calls them, and what it stops all stop; the others wait meanwhile, for at most
    `worker_timeout` seconds.
    """

    def on_start(self, state: TrainingState) -> None:
        """Before the first iteration of this process, also of a run that is resumed."""

    def on_rollout(self, state: TrainingState) -> None:
        """After a rollout was collected, before the agent learns from it."""

    def on_iteration(self, state: TrainingState) -> None:
        """After an iteration: rollout, update and what is logged of them."""

    def on_evaluation(self, state: TrainingState) -> None:
        """After an evaluation during training (`eval_interval`); it is in `state.evaluation`."""

    def on_end(self, state: TrainingState) -> None:
        """When all is saved, whatever ended the run.

        With `eval_interval`, `state.evaluation` is of the last policy, unless a signal ended the
        run. Without it the policy is evaluated after `on_end`; `train` returns that evaluation.
        """


_EVENTS = frozenset(name for name in vars(Callback) if name.startswith("on_"))


class EachIteration(Callback):
    """A function as a callback: called after each iteration."""

    def __init__(self, function: Callable[[TrainingState], object]) -> None:
        self.function = function

    def on_iteration(self, state: TrainingState) -> None:
        """Call it."""
        self.function(state)


AnyCallback: TypeAlias = Callback | Callable[["TrainingState"], object]
"""A `Callback`, or a function that is called after each iteration."""


class TrainingState:
    """Where a run is, for its callbacks.

    Attributes:
        trainer: environments, agent and optimiser.
        run_dir: the run's folder.
        writer: TensorBoard's SummaryWriter; `log` is simpler.
        metrics: of the last iteration, under their TensorBoard tags.
        evaluation: the latest during training; None before the first.
        stop_reason: why a callback has ended the run; None where none has.
    """

    def __init__(
        self,
        trainer: Trainer,
        folder: RunFolder,
        monitor: Monitor,
        stop: StopSignals,
        callbacks: Iterable[Callback],
    ) -> None:
        self.trainer = trainer
        self.run_dir: Path = folder.path
        self.writer: RunWriter = monitor.writer
        self.metrics: dict[str, float] = {}
        self.evaluation: Evaluation | None = None
        self.stop_reason: str | None = None
        self._monitor = monitor
        self._stop = stop
        self._callbacks = tuple(callbacks)
        self._rollout: Rollout | None = None

    @property
    def config(self) -> ResolvedConfig:
        """The settings."""
        return self.trainer.config

    @property
    def timesteps(self) -> int:
        """Environment steps taken so far, of all environments together."""
        return self.trainer.timesteps

    @property
    def iteration(self) -> int:
        """Iterations done so far."""
        return self.trainer.iteration

    @property
    def policy(self) -> Policy:
        """The policy as it is now. It shares its weights with the agent that learns."""
        return self.trainer.policy()

    @property
    def rollout(self) -> Rollout:
        """The one that `on_rollout` is called for. The next overwrites it.

        Of several workers it is the first's, with the environments of that one.

        Raises:
            UserError: this is not within `on_rollout`.
        """
        if self._rollout is None:
            raise UserError(
                "state.rollout is there within on_rollout alone. Read it there, and keep what you "
                "need of it."
            )
        return self._rollout

    @property
    def ending(self) -> bool:
        """Whether the run ends after this iteration: it is done, or something asks it to stop."""
        return self.trainer.done or bool(self._stop) or self.stop_reason is not None

    def interrupted(self) -> bool:
        """Whether a signal asks the run to stop, so that nothing long should be begun."""
        return bool(self._stop)

    def stop(self, reason: str) -> None:
        """End the run after this iteration with everything saved; the reason is reported.

        Raises:
            UserError: the reason is no text.
        """
        if not isinstance(reason, str) or not reason.strip():
            raise UserError(f"stop() takes the reason as text, not {reason!r}.")
        self.stop_reason = self.stop_reason or reason

    def log(self, scalars: dict[str, float]) -> None:
        """Write scalars by their tags to TensorBoard, at the steps taken so far.

        Raises:
            UserError: one is no number.
        """
        for tag, x in scalars.items():
            try:
                float(x)
            except (RuntimeError, TypeError, ValueError) as error:
                raise UserError(
                    f"log() takes one number for each tag, and {tag!r} is {shown(x)}. Texts and "
                    "pictures go to TensorBoard by state.writer."
                ) from error
        self._monitor.log(scalars, self.timesteps)

    def set_env_attr(self, name: str, value: Any) -> None:
        """Set an attribute of all environments that are trained on, of all workers.

        It is set before the next rollout. A resumed run sets it again, if it is a number, text or
        what else JSON holds. Evaluations play in environments of their own, which keep theirs.

        Args:
            name: of an attribute that each environment has, or a wrapper around it.
            value: for every environment.

        Raises:
            UserError: the name is no text, or the value cannot be sent to other workers. Before the
                rollout: an environment has no such attribute, or they are in a vector environment
                without `set_attr`.
        """
        if not isinstance(name, str):
            raise UserError(f"set_env_attr() takes the attribute's name as text, not {name!r}.")
        if not self.trainer.group.alone:
            try:
                ForkingPickler.dumps(value)
            except Exception as error:
                raise UserError(
                    f"The value of {name!r} cannot be sent to the other workers ({error}). Set a "
                    "number or a text, from which the environment makes it, or train with "
                    "workers=1."
                ) from error
        self.trainer.env_attributes[name] = value

    def tell(self, event: str) -> None:
        """Call this method of all callbacks, such as `on_iteration`."""
        for callback in self._callbacks:
            getattr(callback, event)(self)

    def tell_of(self, rollout: Rollout) -> None:
        """Call `on_rollout` of all callbacks, which may read this rollout meanwhile."""
        self._rollout = rollout
        try:
            self.tell("on_rollout")
        finally:
            self._rollout = None


def as_callbacks(given: Any) -> list[Callback]:
    """The callbacks of a caller; functions are called after each iteration.

    Raises:
        UserError: it is no list of callbacks and functions, or one has a method of an event that
            there is not.
    """
    if isinstance(given, Sequence) and not isinstance(given, str):
        wrong = [one for one in given if isinstance(one, type) or not _fits(one)]
        if not wrong:
            for one in given:
                _check_events(one)
            return [one if isinstance(one, Callback) else EachIteration(one) for one in given]
        given = wrong[0]
        if isinstance(given, type):
            raise UserError(f"callbacks holds the class {given.__name__}; give an instance of it.")
        what = f"callbacks holds {given!r}"
    else:
        what = f"callbacks is {given!r}"
    raise UserError(f"{what}; give a list of Callback instances, or of functions of the state.")


def _check_events(callback: Any) -> None:
    """Refuse a method that is named like an event and would never be called.

    Raises:
        UserError: names it, and the events there are.
    """
    if not isinstance(callback, Callback):
        return
    for name in dir(type(callback)):
        if name.startswith(("on_", "_on_")) and name not in _EVENTS:
            raise UserError(
                f"{type(callback).__name__} has a method {name}, which nothing calls. The events "
                f"are {', '.join(sorted(_EVENTS))}; rename the method."
            )


def _fits(one: Any) -> bool:
    return isinstance(one, Callback) or callable(one)
