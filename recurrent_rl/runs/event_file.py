"""TensorBoard's file of a run, written where it is called: what fails there is heard there.

TensorBoard's own writer has a thread, which a full disk ends without a word.
"""

from __future__ import annotations

import os
import socket
import time
from io import BytesIO
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import FileWriter, SummaryWriter

from recurrent_rl.agents.files import unwritable
from recurrent_rl.envs.drawing import Colours
from recurrent_rl.runs.folder import RunFolder


class EventFile:
    """What a `FileWriter` writes to, in the place of TensorBoard's EventFileWriter.

    Args:
        path: of a file that is not there.

    Raises:
        FileWriteError: here and in `flush`: the disk is full, or the folder is gone.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._unwritten = BytesIO()
        self.add_event(Event(wall_time=time.time(), file_version="brain.Event:2"))
        self.flush()

    def get_logdir(self) -> str:
        """The file's folder."""
        return str(self._path.parent)

    def add_event(self, event: Event) -> None:
        """Note a record, for the next `flush`."""
        RecordWriter(self._unwritten).write(event.SerializeToString())

    def flush(self) -> None:
        """Write what was noted since the last one; once: what fails is not tried again."""
        records, self._unwritten = self._unwritten.getvalue(), BytesIO()
        if not records:
            return
        try:
            with self._path.open("ab") as file:
                file.write(records)
        except OSError as error:
            raise unwritable(self._path, error) from error

    close = flush


class _FileWriter(FileWriter):
    def __init__(self, path: Path) -> None:
        self.event_writer: Any = EventFile(path)


class RunWriter(SummaryWriter):
    """TensorBoard's writer of a run's folder; it writes when it is flushed or closed.

    Args:
        folder: of the run.
        first_step: points of other files from this step on are not shown: an interrupted run may
            have written them past its last checkpoint.
    """

    file_writer: FileWriter | None  # type: ignore[assignment]

    def __init__(self, folder: RunFolder, first_step: int) -> None:
        self._folder = folder
        super().__init__(str(folder.path))
        begins = Event(session_log=SessionLog(status=SessionLog.START))
        self._get_file_writer().add_event(begins, first_step)

    def _get_file_writer(self) -> FileWriter:
        """As the method of the base class, which all others ask for the file; a new one if closed.

        TensorBoard reads a folder's files in the order of their names, which begin with the second.
        """
        if self.file_writer is None:
            second = max([int(time.time()), *(one + 1 for one in _seconds(self._folder))])
            name = f"events.out.tfevents.{second:010d}.{socket.gethostname()}.{os.getpid()}.0"
            self.file_writer = _FileWriter(self._folder.path / name)
            self.all_writers: Any = {self.log_dir: self.file_writer}
        return self.file_writer

    def add_summary(self, summary: Summary, step: int | None = None) -> None:
        """Write a summary that no other method makes."""
        self._get_file_writer().add_summary(summary, step)

    def add_film(self, tag: str, gif: bytes, frame: Colours, step: int) -> None:
        """Write a moving picture: TensorBoard plays a GIF that stands where pictures stand.

        `add_video` would ask for moviepy, of a version from before its 2.0.

        Args:
            tag: of the film.
            gif: its content.
            frame: one of its frames, for the size.
            step: environment steps so far.
        """
        height, width, colours = frame.shape
        image = Summary.Image(
            height=height, width=width, colorspace=colours, encoded_image_string=gif
        )
        self.add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), step)


def _seconds(folder: RunFolder) -> list[int]:
    """The seconds by which the event files of a folder are named."""
    parts = [path.name.split(".")[3] for path in folder.events()]
    return [int(second) for second in parts if second.isdecimal()]
