"""Training runs: iterate, log and save until the steps are taken or a signal asks to stop."""

from __future__ import annotations

import dataclasses
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from recurrent_rl.agents.files import write_atomically
from recurrent_rl.checkpoint import FILE_NAME as CHECKPOINT
from recurrent_rl.checkpoint import environment_state, load_checkpoint, save_checkpoint
from recurrent_rl.config import TrainConfig
from recurrent_rl.errors import UserError
from recurrent_rl.monitor import Monitor
from recurrent_rl.progress import ProgressBar
from recurrent_rl.seeding import seed_process
from recurrent_rl.signals import StopSignals, noting
from recurrent_rl.trainer import Trainer, computing

POLICY = "policy.safetensors"
CONFIG = "config.json"
LOCK = ".lock"


@dataclass(frozen=True)
class TrainResult:
    """What a call of `train` or `resume` leaves behind."""

    run_dir: Path
    policy_path: Path
    timesteps: int
    seconds: float
    stopped_by: int | None
    """The signal that ended the run early, or None."""


OnIteration = Callable[[int, dict[str, float]], None]
"""Called after each iteration with the steps taken so far and the iteration's scalars."""


def train(
    config: TrainConfig,
    *,
    progress: bool = True,
    on_iteration: OnIteration | None = None,
    seed_globals: bool = False,
    stop: StopSignals | None = None,
) -> TrainResult:
    """Train an agent from its first step, in a new run folder.

    Ctrl-C, SIGTERM and SIGHUP end the run early with everything saved, and then take their usual
    course: Ctrl-C raises KeyboardInterrupt. Any other error, of an environment perhaps, is raised
    as it is when the last whole iteration is saved; a note on it says what `resume` loses.

    Args:
        config: the settings.
        progress: show a progress bar.
        on_iteration: called after each iteration.
        seed_globals: for the time of the run seed Python's `random` and NumPy's global generator,
            from which some environments draw.
        stop: notes the signals for a caller who sees to them; the result says which one came.

    Raises:
        UserError: the settings, the environment or what it returns are at fault.
        KeyboardInterrupt: on Ctrl-C, unless `stop` is given.
    """
    with computing(config.threads, config.precision), _global_generators(seed_globals):
        if seed_globals:
            seed_process(config.seed)
        trainer = Trainer(config)
        with noting(stop) as stop, _closing(trainer.close):
            run_dir = new_run_dir(config)
            with locked(run_dir):
                save_config(trainer.config, run_dir)
                return _run(trainer, run_dir, progress, on_iteration, stop)


def resume(
    run_dir: str | Path,
    *,
    total_timesteps: int | None = None,
    progress: bool = True,
    on_iteration: OnIteration | None = None,
    seed_globals: bool = False,
    stop: StopSignals | None = None,
) -> TrainResult:
    """Go on with a run from its last checkpoint; from its first step where there is none yet.

    With our own environments the continued run equals the uninterrupted one, weight for weight.
    Others cannot tell their state: they are reset, and new episodes start. Signals and errors end
    it as they end `train`.

    Args:
        run_dir: the run folder.
        total_timesteps: train to this many steps in all instead of the run's own number.
        progress: show a progress bar.
        on_iteration: called after each iteration.
        seed_globals: as for `train`; seeded from the run's seed and the iteration it goes on from.
        stop: as for `train`.

    Raises:
        UserError: the folder holds no run, another process is training it, or its files do not
            fit together.
        PolicyFileError: the checkpoint is damaged.
        KeyboardInterrupt: on Ctrl-C, unless `stop` is given.
    """
    run_dir = Path(run_dir)
    config = load_config(run_dir)
    if total_timesteps is not None:
        config = dataclasses.replace(config, total_timesteps=total_timesteps)
    with (
        computing(config.threads, config.precision),
        _global_generators(seed_globals),
        locked(run_dir),
    ):
        if seed_globals:
            seed_process(config.seed)
        trainer = Trainer(config)
        with noting(stop) as stop, _closing(trainer.close):
            checkpoint = run_dir / CHECKPOINT
            if checkpoint.exists() and not load_checkpoint(trainer, checkpoint) and progress:
                print("These environments cannot tell their state: they start new episodes.")
            if seed_globals:
                seed_process(config.seed, trainer.iteration)
            save_config(trainer.config, run_dir)
            return _run(trainer, run_dir, progress, on_iteration, stop)


@contextmanager
def _global_generators(seeded: bool) -> Iterator[None]:
    """Have Python's and NumPy's global generators as before afterwards, where a run seeds them."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        if seeded:
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002


@contextmanager
def _closing(close: Callable[[], None]) -> Iterator[None]:
    """Close at the end. An error that is under way is told, and not one of closing after it."""
    try:
        yield
    except BaseException as error:
        try:
            close()
        except Exception as also:
            _note(error, f"Closing failed too: {also!r}.")
        raise
    close()


def locked(run_dir: Path) -> AbstractContextManager[object]:
    """Hold a run folder against other processes, whose steps and files would mix with ours.

    Returns:
        A context at whose end the folder is free again.

    Raises:
        UserError: another process holds it.
    """
    try:
        return FileLock(run_dir / LOCK).acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"Another process is training {run_dir}. Wait until it has ended, or stop it; then "
            f"recurrent-rl train --resume {run_dir} goes on from there."
        ) from None


def load_config(run_dir: Path) -> TrainConfig:
    """The settings of the run in this folder.

    Raises:
        UserError: the folder holds no run, or its settings cannot be read.
    """
    path = run_dir / CONFIG
    if not path.is_file():
        raise UserError(
            f"{run_dir} holds no run: there is no {CONFIG} in it. Name a run folder, such as one "
            "of those in runs/."
        )
    return TrainConfig.from_json(path.read_text())


def save_config(config: TrainConfig, run_dir: Path) -> None:
    """Write the settings into the run's folder: with them alone `resume` starts the run."""
    write_atomically(run_dir / CONFIG, config.to_json().encode())


def _run(
    trainer: Trainer,
    run_dir: Path,
    progress: bool,
    on_iteration: OnIteration | None,
    stop: StopSignals,
) -> TrainResult:
    """Iterate until the run is done or a signal asks to stop, and leave everything saved."""
    config = trainer.config
    began, first = time.monotonic(), trainer.timesteps
    saved = trainer.iteration if (run_dir / CHECKPOINT).exists() else None
    steps = trainer.collector.steps_taken
    with ExitStack() as stack:
        monitor = Monitor(run_dir, config, first)
        stack.enter_context(_closing(monitor.writer.close))
        bar = stack.enter_context(
            ProgressBar("Training", config.total_timesteps, "steps", first, progress)
        )
        save_due = every(config.checkpoint_interval)
        try:
            while not trainer.done and not stop:
                steps = trainer.collector.steps_taken
                scalars = trainer.iterate()
                elapsed = time.monotonic() - began
                scalars["time/fps"] = (trainer.timesteps - first) / elapsed
                scalars["time/time_elapsed"] = elapsed
                if trainer.iteration % config.log_interval == 0 or trainer.done:
                    monitor.log(scalars, trainer.timesteps)
                bar.update(trainer.timesteps, {"return": _show(scalars.get("rollout/ep_rew_mean"))})
                if on_iteration is not None:
                    on_iteration(trainer.timesteps, scalars)
                if save_due():
                    save(trainer, run_dir)
                    saved = trainer.iteration
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and stop:
                raise  # Ctrl-C for the second time: at once
            told = _save_after_error(trainer, run_dir, saved == trainer.iteration, steps)
            if isinstance(error, UserError):
                raise UserError(f"{error} {told}") from error
            _note(error, told)
            raise
        save(trainer, run_dir)
    return TrainResult(
        run_dir, run_dir / POLICY, trainer.timesteps, time.monotonic() - began, stop.received
    )


def _save_after_error(trainer: Trainer, run_dir: Path, is_saved: bool, steps_before: int) -> str:
    """Save the last whole iteration; says what is saved, what resuming loses, and how to.

    Args:
        trainer: whose iteration failed, or what came after it.
        run_dir: of the run.
        is_saved: whether the checkpoint there is of this iteration, environments included.
        steps_before: that each environment had taken when the last iteration began.
    """
    steps = trainer.collector.steps_taken
    where = f"in iteration {trainer.iteration + 1}" if trainer.mid_rollout else "after iteration"
    where += "" if trainer.mid_rollout else f" {trainer.iteration}"
    told = f"The run on {trainer.config.env_id} failed {where}, after step {steps:,} of each copy."
    go_on = f"recurrent-rl train --resume {run_dir}"
    if trainer.iteration == 0:
        return f"{told} Nothing was learnt yet, so nothing is lost. From its first step: {go_on}"
    lost = []
    if environment_state(trainer) is None or (trainer.mid_rollout and not is_saved):
        lost.append("the episodes under way")
    if trainer.mid_rollout:
        unfinished = (steps - steps_before) * trainer.config.num_envs
        lost.append(f"the {unfinished:,} steps of the unfinished rollout")
    if not is_saved:
        try:
            save(trainer, run_dir)
        except Exception as error:
            kept = (run_dir / CHECKPOINT).exists()
            return (
                f"{told} Saving it failed too ({error!r}). "
                + ("From the last checkpoint" if kept else "From its first step")
                + f": {go_on}"
            )
    return (
        f"{told} Its {trainer.iteration:,} whole iterations ({trainer.timesteps:,} steps) are "
        f"saved; to resume loses {' and '.join(lost) or 'nothing'}: {go_on}"
    )


def _note(error: BaseException, text: str) -> None:
    """Have the error's traceback end in this text; where Python is too old, print it before."""
    if sys.version_info >= (3, 11):
        error.add_note(text)
    else:
        print(text, file=sys.stderr)


def save(trainer: Trainer, run_dir: Path) -> None:
    """Write the policy and the checkpoint of this moment."""
    trainer.policy().save(run_dir / POLICY)
    save_checkpoint(trainer, run_dir / CHECKPOINT)


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


def new_run_dir(config: TrainConfig) -> Path:
    """Make the folder `log_dir/{env}__{name}__{seed}__{time}`."""
    env = config.env_id.replace("/", "-").replace(":", "-")
    stamp = time.strftime("%Y%m%d-%H%M%S")
    name = config.name or config.agent.memory
    path = Path(config.log_dir) / f"{env}__{name}__{config.seed}__{stamp}"
    for attempt in range(1, 1000):
        candidate = path if attempt == 1 else path.with_name(f"{path.name}-{attempt}")
        try:
            candidate.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise UserError(
                f"The run folder {candidate} cannot be made ({error}); choose another log_dir."
            ) from error
        return candidate
    raise UserError(f"There are too many runs named {path}; choose another name.")


def _show(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
