"""Experiment trackers: services that keep a run's metrics beside TensorBoard's files."""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from recurrent_rl.agents.extras import optional
from recurrent_rl.agents.files import write_atomically
from recurrent_rl.errors import UserError
from recurrent_rl.runs.folder import RunFolder

PROJECT = "recurrent-rl"
"""What runs are grouped under, where the tracker's own variable in the environment names nothing
else."""
STEPS = "timesteps"
"""The axis of all metrics."""


class Tracker(Protocol):
    """Where the metrics of one run go. A run that is resumed opens it again by its identity."""

    def log(self, scalars: dict[str, float], step: int) -> None:
        """Keep these metrics at `step` environment steps."""
        ...

    def finish(self) -> None:
        """Send what is left."""
        ...


class WeightsAndBiases:
    """`wandb`; WANDB_MODE=offline, WANDB_PROJECT and its other variables are its own."""

    def __init__(self, run_dir: Path, identity: str, settings: dict[str, Any]) -> None:
        wandb = _package("wandb")
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=run_dir.name,
            id=identity[-64:],  # as long as it may be
            resume="allow",
            dir=str(run_dir),
            config=settings,
            settings=wandb.Settings(silent=True),
        )
        # By our own steps: a resumed run goes back to those of its checkpoint.
        self.run.define_metric(STEPS)
        self.run.define_metric("*", step_metric=STEPS)

    def log(self, scalars: dict[str, float], step: int) -> None:
        """Keep these metrics."""
        self.run.log({STEPS: step, **scalars})

    def finish(self) -> None:
        """Send what is left."""
        self.run.finish()


class MLflow:
    """`mlflow`; MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME are its own."""

    TAG = "recurrent_rl.run"

    def __init__(self, run_dir: Path, identity: str, settings: dict[str, Any]) -> None:
        mlflow = _package("mlflow")
        self.entities = mlflow.entities
        try:
            self.client = mlflow.MlflowClient()
            self.run_id = self._begun(run_dir.name, identity, settings)
        except mlflow.exceptions.MlflowException as error:
            raise UserError(
                f"MLflow refuses to begin: {error} Where nothing is set up, MLFLOW_TRACKING_URI "
                "takes a server's address, or MLFLOW_ALLOW_FILE_STORE=true keeps files in mlruns/."
            ) from error

    def _begun(self, name: str, identity: str, settings: dict[str, Any]) -> str:
        """The run of this identity, new or as it is there."""
        group = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        experiment = self.client.get_experiment_by_name(group)
        number = experiment.experiment_id if experiment else self.client.create_experiment(group)
        identity = identity.replace("'", "_")  # which ends a text in a filter
        found = self.client.search_runs([number], f"tags.`{self.TAG}` = '{identity}'")
        if found:
            there = str(found[0].info.run_id)
            self.client.update_run(there, status="RUNNING")
            return there
        made = self.client.create_run(number, tags={self.TAG: identity}, run_name=name)
        for key, value in settings.items():
            self.client.log_param(made.info.run_id, _for_mlflow(key), value)
        return str(made.info.run_id)

    def log(self, scalars: dict[str, float], step: int) -> None:
        """Keep these metrics."""
        now = int(time.time() * 1000)
        metrics = [
            self.entities.Metric(_for_mlflow(tag), float(x), now, step)
            for tag, x in scalars.items()
        ]
        self.client.log_batch(self.run_id, metrics=metrics)

    def finish(self) -> None:
        """Say that the run has ended."""
        self.client.set_terminated(self.run_id)


def _for_mlflow(name: str) -> str:
    """The name as MLflow takes it: with `_` for what it refuses, and as a plain path."""
    parts = re.sub(r"[^/\w.\- :]", "_", name).split("/")
    return "/".join(part for part in parts if part not in ("", ".", "..")) or "_"


class Trackio:
    """`trackio`, which knows runs by their names; TRACKIO_DIR and TRACKIO_SPACE_ID are its own."""

    def __init__(self, run_dir: Path, identity: str, settings: dict[str, Any]) -> None:
        trackio = _package("trackio")
        name = run_dir.name if identity == run_dir.name else f"{run_dir.name}-{identity}"
        self.run = trackio.init(PROJECT, name=name, config=settings, resume="allow")

    def log(self, scalars: dict[str, float], step: int) -> None:
        """Keep these metrics."""
        self.run.log(scalars, step=step)

    def finish(self) -> None:
        """Send what is left."""
        self.run.finish()


TRACKERS: dict[str, Callable[[Path, str, dict[str, Any]], Tracker]] = {
    "wandb": WeightsAndBiases,
    "mlflow": MLflow,
    "trackio": Trackio,
}
"""Each is made from the run's folder, whose name is shown there, its identity and its settings."""


def identity_of(folder: RunFolder, is_new: bool) -> str:
    """What a tracker knows the run by: made once, and kept in the run's folder.

    Folders of several benchmarks may have the same name. A run that was begun before there were
    identities goes on under its name.

    Args:
        folder: of the run.
        is_new: it is at its first step.

    Raises:
        FileWriteError: the folder cannot be written to.
    """
    if folder.tracker.is_file():
        return folder.tracker.read_text(errors="replace")
    if not is_new:
        return folder.path.name
    identity = secrets.token_hex(5)
    write_atomically(folder.tracker, identity.encode())
    return identity


def check_installed(track: str | None) -> None:
    """Refuse a tracker whose package is missing, before a run begins.

    Raises:
        UserError: says how to install it.
    """
    if track is not None:
        _package(track)


def _package(name: str) -> Any:
    """The package of a tracker.

    Raises:
        UserError: it is not installed.
    """
    without = "leave track out: TensorBoard's files are always written"
    return optional(name, f"track={name!r}", without)
