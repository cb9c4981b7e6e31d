"""TensorBoard: one run folder, Stable-Baselines3's tags, and the group `memory/*`."""

from __future__ import annotations

import math
from typing import Any

from torch.utils.tensorboard.summary import hparams

from recurrent_rl.config import TrainConfig
from recurrent_rl.runs.event_file import RunWriter
from recurrent_rl.runs.folder import RunFolder
from recurrent_rl.runs.overview import layout
from recurrent_rl.runs.trackers import TRACKERS, Tracker, identity_of

RESULTS = ("eval/mean_reward", "rollout/ep_rew_mean", "rollout/ep_len_mean")
"""The metrics of the HParams tab: of a finished run the return of its evaluation, first."""
HYPERPARAMETERS = (
    "env_id",
    "name",
    "seed",
    "total_timesteps",
    "num_envs",
    "learning_rate",
    "gamma",
    "gae_lambda",
    "ent_coef",
    "agent.memory",
    "agent.hidden_size",
    "agent.num_layers",
)
"""The settings of the HParams tab: those that people compare. The text shows all."""


class Monitor:
    """Writes a run's scalars and hyperparameters, to TensorBoard's files and to its tracker.

    Args:
        folder: of the run.
        config: shown as text, and the most compared settings in the HParams tab.
        start_step: where a resumed run continues. Points after it, which an interrupted run may
            have written past its last checkpoint, are dropped.

    Raises:
        FileWriteError: here, when it logs or when it closes: the disk is full, or the folder is
            gone.
    """

    def __init__(self, folder: RunFolder, config: TrainConfig, start_step: int = 0) -> None:
        self.writer = RunWriter(folder, start_step + 1)
        if start_step == 0:
            self._write_hyperparameters(config)
            self.writer.add_custom_scalars(layout())
        self.writer.flush()
        self._tracker: Tracker | None = None
        if config.track is not None:
            settings = {name: _plain(x) for name, x in config.flat().items()}
            identity = identity_of(folder, is_new=start_step == 0)
            self._tracker = TRACKERS[config.track](folder.path, identity, settings)

    def _write_hyperparameters(self, config: TrainConfig) -> None:
        values = config.flat()
        rows = "\n".join(f"|{name}|{value}|" for name, value in values.items())
        self.writer.add_text("hyperparameters", f"|name|value|\n|-|-|\n{rows}")
        shown = {name: _plain(values[name]) for name in HYPERPARAMETERS}
        # Written into this run's own event file; add_hparams would make a second run of it.
        for summary in hparams(shown, dict.fromkeys(RESULTS, 0.0)):
            self.writer.add_summary(summary)

    def log(self, scalars: dict[str, float], step: int) -> None:
        """Write scalars at `step` environment steps; NaN, which stands for no data, is left out."""
        known = {tag: value for tag, value in scalars.items() if not math.isnan(value)}
        for tag, value in known.items():
            self.writer.add_scalar(tag, value, step)
        self.writer.flush()
        if self._tracker is not None:
            self._tracker.log(known, step)

    def close(self) -> None:
        """Write what is left."""
        self.writer.close()
        if self._tracker is not None:
            self._tracker.finish()

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _plain(value: Any) -> bool | int | float | str:
    """The value as the HParams tab can show it."""
    return value if isinstance(value, (bool, int, float, str)) else str(value)
