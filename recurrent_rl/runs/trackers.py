"""Experiment trackers: services that keep a run's figures beside TensorBoard's files."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from recurrent_rl.agents.extras import optional

PROJECT = "recurrent-rl"
"""What runs are grouped under, where the tracker's own variable in the environment names nothing
else."""
STEPS = "timesteps"
"""The axis of all figures."""


class Tracker(Protocol):
    """Where the figures of one run go. A run that is resumed opens it again by the same name."""

    def log(self, scalars: dict[str, float], step: int) -> None:
        """Keep these figures at `step` environment steps."""
        ...

    def finish(self) -> None:
        """Send what is left."""
        ...


class WeightsAndBiases:
    """`wandb`; WANDB_MODE=offline, WANDB_PROJECT and its other variables are its own."""

    def __init__(self, run_dir: Path, settings: dict[str, Any]) -> None:
        wandb = _package("wandb")
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=run_dir.name,
            id=run_dir.name[-64:],
            resume="allow",
            dir=str(run_dir),
            config=settings,
            settings=wandb.Settings(silent=True),
        )
        # By our own steps: a resumed run goes back to those of its checkpoint.
        self.run.define_metric(STEPS)
        self.run.define_metric("*", step_metric=STEPS)

    def log(self, scalars: dict[str, float], step: int) -> None:
        """Keep these figures."""
        self.run.log({STEPS: step, **scalars})

    def finish(self) -> None:
        """Send what is left."""
        self.run.finish()


class MLflow:
    """`mlflow`; MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME are its own."""

    TAG = "recurrent_rl.run"

    def __init__(self, run_dir: Path, settings: dict[str, Any]) -> None:
        mlflow = _package("mlflow")
        self.entities = mlflow.entities
        self.client = mlflow.MlflowClient()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        experiment = self.client.get_experiment_by_name(name)
        number = experiment.experiment_id if experiment else self.client.create_experiment(name)
        found = self.client.search_runs([number], f"tags.`{self.TAG}` = '{run_dir.name}'")
        if found:
            self.run_id = found[0].info.run_id
            self.client.update_run(self.run_id, status="RUNNING")
            return
        made = self.client.create_run(number, tags={self.TAG: run_dir.name}, run_name=run_dir.name)
        self.run_id = made.info.run_id
        for key, value in settings.items():
            self.client.log_param(self.run_id, key, value)

    def log(self, scalars: dict[str, float], step: int) -> None:
        """Keep these figures."""
        now = int(time.time() * 1000)
        metrics = [self.entities.Metric(k, float(x), now, step) for k, x in scalars.items()]
        self.client.log_batch(self.run_id, metrics=metrics)

    def finish(self) -> None:
        """Say that the run has ended."""
        self.client.set_terminated(self.run_id)


class Trackio:
    """`trackio`; TRACKIO_DIR and TRACKIO_SPACE_ID are its own."""

    def __init__(self, run_dir: Path, settings: dict[str, Any]) -> None:
        trackio = _package("trackio")
        self.run = trackio.init(PROJECT, name=run_dir.name, config=settings, resume="allow")

    def log(self, scalars: dict[str, float], step: int) -> None:
        """Keep these figures."""
        self.run.log(scalars, step=step)

    def finish(self) -> None:
        """Send what is left."""
        self.run.finish()


TRACKERS: dict[str, Callable[[Path, dict[str, Any]], Tracker]] = {
    "wandb": WeightsAndBiases,
    "mlflow": MLflow,
    "trackio": Trackio,
}
"""Each is made from the run's folder, whose name is the run's there, and its settings."""


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
