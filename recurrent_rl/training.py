"""Training runs: iterate, log and save until the steps are taken or a signal asks to stop."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from recurrent_rl.agents.files import remove_leftovers, write_atomically
from recurrent_rl.checkpoint import FILE_NAME as CHECKPOINT
from recurrent_rl.checkpoint import load_checkpoint, save_checkpoint
from recurrent_rl.config import TrainConfig
from recurrent_rl.errors import UserError
from recurrent_rl.monitor import Monitor
from recurrent_rl.progress import ProgressBar
from recurrent_rl.signals import StopSignals
from recurrent_rl.trainer import Trainer

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
    config: TrainConfig, *, progress: bool = True, on_iteration: OnIteration | None = None
) -> TrainResult:
    """Train an agent from its first step, in a new run folder.

    Args:
        config: the settings.
        progress: show a progress bar.
        on_iteration: called after each iteration.

    Raises:
        UserError: the settings, the environment or what it returns are at fault.
    """
    trainer = Trainer(config)
    run_dir = new_run_dir(config)
    with locked(run_dir):
        save_config(trainer.config, run_dir)
        return _run(trainer, run_dir, progress, on_iteration)


def resume(
    run_dir: str | Path,
    *,
    total_timesteps: int | None = None,
    progress: bool = True,
    on_iteration: OnIteration | None = None,
) -> TrainResult:
    """Go on with a run from its last checkpoint; from its first step where there is none yet.

    With our own environments the continued run equals the uninterrupted one, weight for weight.
    Others cannot tell their state: they are reset, and new episodes start.

    Args:
        run_dir: the run folder.
        total_timesteps: train to this many steps in all instead of the run's own number.
        progress: show a progress bar.
        on_iteration: called after each iteration.

    Raises:
        UserError: the folder holds no run, another process is training it, or its files do not
            fit together.
        PolicyFileError: the checkpoint is damaged.
    """
    run_dir = Path(run_dir)
    config = load_config(run_dir)
    if total_timesteps is not None:
        config = dataclasses.replace(config, total_timesteps=total_timesteps)
    with locked(run_dir):
        remove_leftovers(run_dir)
        trainer = Trainer(config)
        checkpoint = run_dir / CHECKPOINT
        if checkpoint.exists() and not load_checkpoint(trainer, checkpoint) and progress:
            print("These environments cannot tell their state: they start new episodes.")
        save_config(trainer.config, run_dir)
        return _run(trainer, run_dir, progress, on_iteration)


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
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise UserError(
            f"{path} cannot be read ({error}); it should be UTF-8 text, as training writes it. "
            "Copy it from a backup, or train anew."
        ) from error
    return TrainConfig.from_json(text)


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
