"""Training runs: iterate, log and save until the steps are taken or a signal asks to stop."""

from __future__ import annotations

import dataclasses
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from recurrent_rl.agents.files import remove_leftovers, write_atomically
from recurrent_rl.agents.policy import load_policy
from recurrent_rl.agents.settings import shown
from recurrent_rl.config import TrainConfig
from recurrent_rl.errors import UserError
from recurrent_rl.fields import folder_part
from recurrent_rl.process import computing, seed_process
from recurrent_rl.runs.checkpoint import FILE_NAME as CHECKPOINT
from recurrent_rl.runs.checkpoint import (
    Checkpoint,
    environment_state,
    read_checkpoint,
    restore,
    save_checkpoint,
)
from recurrent_rl.runs.evaluation import (
    EVALUATION_COPIES,
    Evaluation,
    SavedEvaluation,
    evaluate_ways,
    is_evaluated,
)
from recurrent_rl.runs.monitor import Monitor
from recurrent_rl.runs.progress import ProgressBar
from recurrent_rl.signals import StopSignals, noting
from recurrent_rl.trainer import Trainer
from recurrent_rl.vectorize import make_vector_env

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
    resumed_from: int = 0
    """Steps that were taken before this call."""
    evaluation: Evaluation | None = None
    """Episodes played after the last step; None without `eval_episodes`, after an early end, and
    where the run's folder had its evaluation before."""
    notes: tuple[str, ...] = ()
    """What is not as one may think after `resume`: new episodes, other learning rates."""


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
    """Train an agent from its first step, in a new run folder, and evaluate it at the end.

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
    if not isinstance(config, TrainConfig):
        raise UserError(
            f"train was given {shown(config)}, not a TrainConfig: "
            'train(TrainConfig("CartPole-v1", total_timesteps=100_000)).'
        )
    with (
        computing(config.threads, config.precision),
        _global_generators(seed_globals),
        noting(stop) as stop,
    ):
        if seed_globals:
            seed_process(config.seed)
        trainer = Trainer(config)
        with ExitStack() as folder:
            with _closing(trainer.close):
                run_dir = new_run_dir(config)
                folder.enter_context(locked(run_dir))
                save_config(trainer.config, run_dir)
                result = _run(trainer, run_dir, progress, on_iteration, stop)
            return _evaluated(result, trainer.config, progress, stop)


def resume(
    run_dir: str | Path,
    *,
    total_timesteps: int | None = None,
    device: str | None = None,
    compare: bool = False,
    progress: bool = True,
    on_iteration: OnIteration | None = None,
    seed_globals: bool = False,
    stop: StopSignals | None = None,
) -> TrainResult:
    """Go on with a run from its last checkpoint; from its first step where there is none yet.

    With our own environments the continued run equals the uninterrupted one, weight for weight.
    Others cannot tell their state: they are reset, and new episodes start. A run that has all its
    steps is left as it is, but for an evaluation that it lacks. Signals and errors end it as they
    end `train`.

    Args:
        run_dir: the run folder.
        total_timesteps: train to this many steps in all instead of the run's own number.
        device: compute there instead of on the run's own device.
        compare: evaluate in all `evaluation.WAYS`, not in the first alone.
        progress: show a progress bar, and print the notes of the result before training.
        on_iteration: called after each iteration.
        seed_globals: as for `train`; seeded from the run's seed and the iteration it goes on from.
        stop: as for `train`.

    Raises:
        UserError: the folder holds no run, another process is training it, its settings are not
            those of its checkpoint, or the run has more than `total_timesteps` steps. Its files
            are as they were then.
        PolicyFileError: the checkpoint is damaged, or of an older version.
        KeyboardInterrupt: on Ctrl-C, unless `stop` is given.
    """
    run_dir = Path(run_dir)
    config = load_config(run_dir)
    if total_timesteps is not None:
        config = dataclasses.replace(config, total_timesteps=total_timesteps)
    if device is not None:
        config = dataclasses.replace(config, device=device)
    with (
        computing(config.threads, config.precision),
        _global_generators(seed_globals),
        locked(run_dir),
        noting(stop) as stop,
    ):
        remove_leftovers(run_dir)
        path = run_dir / CHECKPOINT
        checkpoint = read_checkpoint(path) if path.exists() else None
        if seed_globals:
            seed_process(config.seed, checkpoint.iteration if checkpoint else 0)
        trainer = Trainer(config)
        with _closing(trainer.close):
            notes = _restored(trainer, checkpoint) if checkpoint else ()
            first = trainer.timesteps
            if trainer.done:
                result = _finished(trainer, run_dir)
            else:
                if progress:
                    print(*notes, sep="\n", end="\n" if notes else "")
                save_config(trainer.config, run_dir)
                result = _run(trainer, run_dir, progress, on_iteration, stop)
        result = dataclasses.replace(result, resumed_from=first, notes=notes)
        return _evaluated(result, trainer.config, progress, stop, compare)


def _restored(trainer: Trainer, checkpoint: Checkpoint) -> tuple[str, ...]:
    """Bring the trainer to where the checkpoint was written; what to note of it."""
    exact = restore(trainer, checkpoint)
    config, done = trainer.config, trainer.iteration
    if done > config.num_iterations:
        raise UserError(
            f"The run has {trainer.timesteps:,} steps already, more than total_timesteps "
            f"{config.total_timesteps:,}. Give at least as many; to train for fewer, train anew."
        )
    if trainer.done:
        return ()
    notes = []
    if not exact:
        notes.append("These environments cannot tell their state: they start new episodes.")
    then = dataclasses.replace(config, total_timesteps=checkpoint.total_timesteps)
    if then.num_iterations != config.num_iterations:
        last, now = then.at(max(done - 1, 0)), config.at(done)
        moved = [
            f"the {what} goes from {getattr(last, name):.3g} to {getattr(now, name):.3g}"
            for name, what, schedule in (
                ("learning_rate", "learning rate", config.lr_schedule),
                ("ent_coef", "entropy bonus", config.ent_schedule),
            )
            if schedule == "linear"
        ]
        if moved:
            notes.append(
                f"The schedules stretch over the new total of {config.total_timesteps:,} steps: "
                f"{' and '.join(moved)}."
            )
    return tuple(notes)


def _finished(trainer: Trainer, run_dir: Path) -> TrainResult:
    """What there is to say of a run that has all its steps."""
    if not (run_dir / POLICY).exists():
        trainer.policy().save(run_dir / POLICY)
    return TrainResult(run_dir, run_dir / POLICY, trainer.timesteps, 0.0, None)


def _evaluated(
    result: TrainResult,
    config: TrainConfig,
    progress: bool,
    stop: StopSignals,
    compare: bool = False,
) -> TrainResult:
    """The result with the evaluation of a run that has all its steps and lacks one."""
    run_dir, episodes = result.run_dir, config.eval_episodes
    if result.stopped_by is not None or not episodes or is_evaluated(run_dir, result.timesteps):
        return result
    policy = load_policy(result.policy_path)
    try:
        env = make_vector_env(config.env_id, min(EVALUATION_COPIES, episodes), config.env)
        with closing(env):
            played = evaluate_ways(
                policy, env, episodes, config.seed, stop, compare=compare, progress=progress
            )
    except UserError as error:
        raise UserError(
            f"The run is trained and saved in {run_dir}, but could not be evaluated: {error}"
        ) from error
    if stop:
        return dataclasses.replace(result, stopped_by=stop.received)
    SavedEvaluation.of(policy, played).save(run_dir)
    with Monitor(run_dir, config, result.timesteps) as monitor:
        monitor.log(played["greedy"].scalars(), result.timesteps)
    return dataclasses.replace(result, evaluation=played["greedy"])


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
        UserError: another process holds it, or the folder cannot be written to.
    """
    try:
        return FileLock(run_dir / LOCK).acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"Another process is training {run_dir}. Wait until it has ended, or stop it; then "
            f"recurrent-rl train --resume {run_dir} goes on from there."
        ) from None
    except OSError as error:
        raise UserError(
            f"{run_dir} cannot be written to ({error}). See that it is a folder that you may write "
            "to, and that there is room on its disk."
        ) from error


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
    return TrainConfig.from_json(path.read_bytes())


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
    steps = trainer.collector.environments.steps
    with ExitStack() as stack:
        monitor = Monitor(run_dir, config, first)
        stack.enter_context(_closing(monitor.writer.close))
        bar = stack.enter_context(
            ProgressBar("Training", config.total_timesteps, "steps", first, progress)
        )
        save_due = every(config.checkpoint_interval)
        try:
            while not trainer.done and not stop:
                steps = trainer.collector.environments.steps
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
    steps = trainer.collector.environments.steps
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
    stamp = time.strftime("%Y%m%d-%H%M%S")
    name = config.name or config.agent.memory
    folder = folder_part(f"{config.env_id}__{name}__{config.seed}__{stamp}")
    path = Path(config.log_dir) / folder
    for attempt in range(1, 1000):
        candidate = path if attempt == 1 else path.with_name(f"{path.name}-{attempt}")
        try:
            candidate.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise UserError(
                f"The run folder {candidate} cannot be made ({error}); "
                "choose another log_dir or name."
            ) from error
        return candidate
    raise UserError(f"There are too many runs named {path}; choose another name.")


def _show(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
