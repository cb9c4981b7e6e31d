"""Training runs: iterate, log and save until the steps are taken or a signal asks to stop."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from recurrent_rl.agents.files import remove_leftovers, write_atomically
from recurrent_rl.agents.policy import load_policy
from recurrent_rl.agents.settings import shown
from recurrent_rl.checkpoint import FILE_NAME as CHECKPOINT
from recurrent_rl.checkpoint import Checkpoint, read_checkpoint, restore, save_checkpoint
from recurrent_rl.config import TrainConfig
from recurrent_rl.errors import UserError
from recurrent_rl.evaluation import (
    EVALUATION_COPIES,
    Evaluation,
    SavedEvaluation,
    evaluate_ways,
    is_evaluated,
)
from recurrent_rl.fields import folder_part
from recurrent_rl.monitor import Monitor
from recurrent_rl.progress import ProgressBar
from recurrent_rl.signals import StopSignals
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
    config: TrainConfig, *, progress: bool = True, on_iteration: OnIteration | None = None
) -> TrainResult:
    """Train an agent from its first step, in a new run folder, and evaluate it at the end.

    Args:
        config: the settings.
        progress: show a progress bar.
        on_iteration: called after each iteration.

    Raises:
        UserError: the settings, the environment or what it returns are at fault.
    """
    if not isinstance(config, TrainConfig):
        raise UserError(
            f"train was given {shown(config)}, not a TrainConfig: "
            'train(TrainConfig("CartPole-v1", total_timesteps=100_000)).'
        )
    trainer = Trainer(config)
    run_dir = new_run_dir(config)
    with locked(run_dir):
        save_config(trainer.config, run_dir)
        result = _run(trainer, run_dir, progress, on_iteration)
        return _evaluated(result, trainer.config, progress)


def resume(
    run_dir: str | Path,
    *,
    total_timesteps: int | None = None,
    device: str | None = None,
    compare: bool = False,
    progress: bool = True,
    on_iteration: OnIteration | None = None,
) -> TrainResult:
    """Go on with a run from its last checkpoint; from its first step where there is none yet.

    With our own environments the continued run equals the uninterrupted one, weight for weight.
    Others cannot tell their state: they are reset, and new episodes start. A run that has all its
    steps is left as it is, but for an evaluation that it lacks.

    Args:
        run_dir: the run folder.
        total_timesteps: train to this many steps in all instead of the run's own number.
        device: compute there instead of on the run's own device.
        compare: evaluate in all `evaluation.WAYS`, not in the first alone.
        progress: show a progress bar, and print the notes of the result before training.
        on_iteration: called after each iteration.

    Raises:
        UserError: the folder holds no run, another process is training it, its settings are not
            those of its checkpoint, or the run has more than `total_timesteps` steps. Its files
            are as they were then.
        PolicyFileError: the checkpoint is damaged, or of an older version.
    """
    run_dir = Path(run_dir)
    config = load_config(run_dir)
    if total_timesteps is not None:
        config = dataclasses.replace(config, total_timesteps=total_timesteps)
    if device is not None:
        config = dataclasses.replace(config, device=device)
    with locked(run_dir):
        remove_leftovers(run_dir)
        path = run_dir / CHECKPOINT
        checkpoint = read_checkpoint(path) if path.exists() else None
        trainer = Trainer(config)
        try:
            notes = _restored(trainer, checkpoint) if checkpoint else ()
        except BaseException:
            trainer.close()
            raise
        first = trainer.timesteps
        if trainer.done:
            result = _finished(trainer, run_dir)
        else:
            if progress:
                print(*notes, sep="\n", end="\n" if notes else "")
            save_config(trainer.config, run_dir)
            result = _run(trainer, run_dir, progress, on_iteration)
        result = dataclasses.replace(result, resumed_from=first, notes=notes)
        return _evaluated(result, trainer.config, progress, compare)


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
    with closing(trainer):
        if not (run_dir / POLICY).exists():
            trainer.policy().save(run_dir / POLICY)
        return TrainResult(run_dir, run_dir / POLICY, trainer.timesteps, 0.0, None)


def _evaluated(
    result: TrainResult, config: TrainConfig, progress: bool, compare: bool = False
) -> TrainResult:
    """The result with the evaluation of a run that has all its steps and lacks one."""
    run_dir, episodes = result.run_dir, config.eval_episodes
    if result.stopped_by is not None or not episodes or is_evaluated(run_dir, result.timesteps):
        return result
    policy = load_policy(result.policy_path)
    try:
        env = make_vector_env(config.env_id, min(EVALUATION_COPIES, episodes), config.env)
        with closing(env), StopSignals() as stop:
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
    trainer: Trainer, run_dir: Path, progress: bool, on_iteration: OnIteration | None
) -> TrainResult:
    """Iterate until the run is done or a signal asks to stop, and leave everything saved."""
    config = trainer.config
    began, first = time.monotonic(), trainer.timesteps
    with ExitStack() as stack:
        stack.callback(trainer.close)
        stop = stack.enter_context(StopSignals())
        monitor = stack.enter_context(Monitor(run_dir, config, first))
        bar = stack.enter_context(
            ProgressBar("Training", config.total_timesteps, "steps", first, progress)
        )
        save_due = every(config.checkpoint_interval)
        while not trainer.done and not stop:
            try:
                scalars = trainer.iterate()
            except UserError as error:
                raise UserError(f"{error}{_what_is_kept(run_dir)}") from error
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
        save(trainer, run_dir)
    return TrainResult(
        run_dir, run_dir / POLICY, trainer.timesteps, time.monotonic() - began, stop.received
    )


def _what_is_kept(run_dir: Path) -> str:
    if not (run_dir / CHECKPOINT).exists():
        return ""
    return f" The last checkpoint is kept: recurrent-rl train --resume {run_dir}"


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
