"""TensorBoard: one run folder, Stable-Baselines3's tags, and the group `memory/*`."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from typing import Any

from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from recurrent_rl.agents.files import unwritable
from recurrent_rl.config import TrainConfig
from recurrent_rl.envs.drawing import Colours
from recurrent_rl.runs.folder import EVENTS, RunFolder
from recurrent_rl.runs.overview import layout
from recurrent_rl.runs.trackers import TRACKERS, Tracker

RESULTS = ("eval/mean_reward", "rollout/ep_rew_mean", "rollout/ep_len_mean")
"""The figures of the HParams tab: of a finished run the return of its evaluation, first."""
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
            gone. TensorBoard writes in a thread of its own, so that it may be told a log later.
    """

    def __init__(self, folder: RunFolder, config: TrainConfig, start_step: int = 0) -> None:
        _let_a_later_name_follow(folder)
        self._path = folder.path / EVENTS
        self._failures: list[OSError] = []
        with self._writing():
            self.writer = SummaryWriter(str(folder.path), purge_step=start_step + 1, flush_secs=10)
            records = self.writer._get_file_writer().event_writer._async_writer._writer
            records.write = self._noting(records.write)
            records.flush = self._noting(records.flush)
            if start_step == 0:
                self._write_hyperparameters(config)
                self.writer.add_custom_scalars(layout())
        self._tracker: Tracker | None = None
        if config.track is not None:
            settings = {name: _plain(x) for name, x in flat(dataclasses.asdict(config)).items()}
            self._tracker = TRACKERS[config.track](folder.path, settings)

    def _write_hyperparameters(self, config: TrainConfig) -> None:
        values = flat(dataclasses.asdict(config))
        rows = "\n".join(f"|{name}|{value}|" for name, value in values.items())
        self.writer.add_text("hyperparameters", f"|name|value|\n|-|-|\n{rows}")
        shown = {name: _plain(values[name]) for name in HYPERPARAMETERS}
        # Written into this run's own event file; add_hparams would make a second run of it.
        file_writer = self.writer._get_file_writer()
        for summary in hparams(shown, dict.fromkeys(RESULTS, 0.0)):
            file_writer.add_summary(summary)

    def log(self, scalars: dict[str, float], step: int) -> None:
        """Write scalars at `step` environment steps; NaN, which stands for no data, is left out."""
        known = {tag: value for tag, value in scalars.items() if not math.isnan(value)}
        with self._writing():
            for tag, value in known.items():
                self.writer.add_scalar(tag, value, step)
        if self._tracker is not None:
            self._tracker.log(known, step)

    def close(self) -> None:
        """Write what is left; a failure that was told before is not told again."""
        if self._failures:
            with suppress(OSError):
                self.writer.close()
        else:
            with self._writing():
                self.writer.close()
        if self._tracker is not None:
            self._tracker.finish()

    def _noting(self, write: Callable[..., None]) -> Callable[..., None]:
        """The same, but an error is noted: TensorBoard's thread would print it and end."""

        @wraps(write)
        def noted(*record: bytes) -> None:
            try:
                write(*record)
            except OSError as error:
                self._failures.append(error)

        return noted

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Say which file cannot be written where that has shown itself."""
        try:
            yield
            if self._failures:
                raise self._failures[0]
        except OSError as error:
            self._failures.append(error)
            raise unwritable(self._path, error) from error

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def write_film(writer: SummaryWriter, tag: str, gif: bytes, frame: Colours, step: int) -> None:
    """Write a moving picture: TensorBoard plays a GIF that stands where pictures stand.

    `SummaryWriter.add_video` would ask for moviepy, of a version from before its 2.0.

    Args:
        writer: of the run.
        tag: of the film.
        gif: its content.
        frame: one of its frames, for the size.
        step: environment steps so far.
    """
    height, width, colours = frame.shape
    image = Summary.Image(height=height, width=width, colorspace=colours, encoded_image_string=gif)
    summary = Summary(value=[Summary.Value(tag=tag, image=image)])
    writer._get_file_writer().add_summary(summary, step)


def _let_a_later_name_follow(folder: RunFolder) -> None:
    """See that the folder's event files have names before that of a file that is made now.

    TensorBoard reads a folder's files in the order of their names, which begin with the second and
    end with a number that counts from 9 to 10: of two files of one second, the later may come first
    and what it holds is never read. So the second passes first in which the newest was made. Names
    of a clock that was ahead, perhaps another machine's, are set back.
    """
    seconds = {path: path.name.split(".")[3] for path in folder.events()}
    files = sorted(path for path, second in seconds.items() if second.isdecimal())
    newest = int(seconds[files[-1]]) if files else 0
    while newest - 2 < (now := time.time()) < newest + 1:
        time.sleep(newest + 1 - now if now > newest else 0.1)
    following = int(now)
    for path in reversed(files):
        if int(seconds[path]) < following:
            break
        following -= 1
        path.rename(path.with_name(path.name.replace(seconds[path], f"{following:010}", 1)))


def _plain(value: Any) -> bool | int | float | str:
    """The value as the HParams tab can show it."""
    return value if isinstance(value, (bool, int, float, str)) else str(value)


def flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Nested settings as one level, `agent.memory` and so on."""
    result: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            result |= {f"{name}.{key}": inner for key, inner in flat(value).items()}
        else:
            result[name] = value
    return result
