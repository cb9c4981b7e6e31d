"""Videos as files: GIF by Pillow, MP4 by the ffmpeg that the extra `video` brings."""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import GifImagePlugin, Image

from recurrent_rl.agents.extras import optional
from recurrent_rl.agents.files import FileWriteError
from recurrent_rl.envs.drawing import Colours
from recurrent_rl.errors import UserError

ENDINGS = (".gif", ".mp4")


class Video(Protocol):
    """Takes frames, one after the other; all become as large as the first."""

    def add(self, frame: Colours) -> None:
        """The next frame, uint8 `[H, W, 3]`."""
        ...

    def finish(self) -> None:
        """Write what is left."""
        ...


_SAME = 255
"""The index of a pixel that stays as it was."""


class Gif:
    """An animated GIF that repeats, written frame by frame: of each only what has changed.

    Args:
        file: takes the bytes.
        fps: frames per second; the format counts in hundredths of a second.
    """

    def __init__(self, file: IO[bytes], fps: float) -> None:
        self._file = file
        self._milliseconds = 10 * max(2, round(100 / fps))
        self._before: Colours | None = None

    def add(self, frame: Colours) -> None:
        """The next frame."""
        if self._before is None:
            height, width = frame.shape[:2]
            # The canvas without colours of its own, then Netscape's block: repeat for ever.
            self._file.write(struct.pack("<6sHHBBB", b"GIF89a", width, height, 0x70, 0, 0))
            self._file.write(b"!\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00")
            changed = np.ones(frame.shape[:2], dtype=bool)
        else:
            frame = _as_large(frame, self._before.shape)
            red, green, blue = np.moveaxis(frame != self._before, 2, 0)
            changed = red | green | blue
            changed[0, 0] |= not changed.any()
        rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
        box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        part = _indexed(frame[box], changed[box])
        blocks = GifImagePlugin.getdata(
            part,
            (int(columns[0]), int(rows[0])),
            duration=self._milliseconds,
            disposal=1,  # the next frame is drawn over this one
            transparency=_SAME,
            include_color_table=True,
        )
        self._file.write(b"".join(blocks))
        self._before = frame

    def finish(self) -> None:
        """Write the end."""
        self._file.write(b";")


def _indexed(pixels: Colours, changed: NDArray[np.bool_]) -> Image.Image:
    """The pixels with a table of the colours of those that have changed."""
    of_changed = Image.fromarray(pixels[changed][None]).quantize(_SAME, dither=Image.Dither.NONE)
    indices = np.full(changed.shape, _SAME, dtype=np.uint8)
    indices[changed] = np.asarray(of_changed)[0]
    image = Image.fromarray(indices)
    palette = of_changed.getpalette() or []
    image.putpalette(palette + [0] * (3 * 256 - len(palette)))
    return image


class Mp4:
    """H.264 in an MP4, which every browser plays.

    Args:
        path: of the file.
        fps: frames per second.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self._ffmpeg = _ffmpeg()
        self._path, self._fps = path, fps
        self._writer: Any = None

    def add(self, frame: Colours) -> None:
        """The next frame; its sides are made even, as the format needs."""
        if self._writer is None:
            height, width = frame.shape[:2]
            self._shape = (height + height % 2, width + width % 2, 3)
            self._writer = self._ffmpeg.write_frames(
                str(self._path),
                self._shape[1::-1],
                fps=self._fps,
                codec="libx264",
                quality=7,
                macro_block_size=2,
                ffmpeg_log_level="error",
            )
            self._writer.send(None)
        try:
            self._writer.send(_as_large(frame, self._shape))
        except OSError as error:  # the package tells no cause but what ffmpeg printed
            raise FileWriteError(f"{self._path.name} cannot be encoded: {error}") from error

    def finish(self) -> None:
        """Wait until all is encoded."""
        if self._writer is not None:
            self._writer.close()


def _as_large(frame: Colours, shape: tuple[int, ...]) -> Colours:
    """The frame with white around it, or cut, where it is of another size."""
    canvas: Colours = np.full(shape, 255, dtype=np.uint8)
    shown = frame[: shape[0], : shape[1]]
    canvas[: len(shown), : shown.shape[1]] = shown
    return canvas


def check_video(path: Path) -> None:
    """Refuse a file that no video can become, before anything is played.

    Raises:
        UserError: its name ends in none of `ENDINGS`, it is a folder, or what writes it is not
            installed.
        FileWriteError: its folder cannot be written to.
    """
    if path.suffix.lower() not in ENDINGS:
        raise UserError(
            f"The name of the video is {path}; let it end in {' or '.join(ENDINGS)}, which says "
            "what kind of file it is."
        )
    if path.is_dir():
        raise UserError(f"The video is to be {path}, which is a folder. Name a file in it.")
    if path.suffix.lower() == ".mp4":
        _ffmpeg()
    with _folder_beside(path):
        pass


@contextmanager
def video_file(path: Path, fps: float, is_whole: Callable[[], bool]) -> Iterator[Video]:
    """A video that is there under its name once it is whole; else, and after an error, nothing is.

    Args:
        path: of the file, which `check_video` lets pass.
        fps: frames per second.
        is_whole: asked at the end; false where it was cut short.

    Raises:
        FileWriteError: the folder cannot be written to.
    """
    with _folder_beside(path) as folder:
        unfinished = folder / f"video{path.suffix.lower()}"
        if unfinished.suffix == ".gif":
            with unfinished.open("wb") as file:
                gif = Gif(file, fps)
                yield gif
                if is_whole():
                    gif.finish()
        else:
            mp4 = Mp4(unfinished, fps)
            try:
                yield mp4
            finally:
                mp4.finish()
        if is_whole():
            os.replace(unfinished, path)


def gif_of(frames: list[Colours], fps: float) -> bytes:
    """The frames as the content of a GIF."""
    content = BytesIO()
    gif = Gif(content, fps)
    for frame in frames:
        gif.add(frame)
    gif.finish()
    return content.getvalue()


@contextmanager
def _folder_beside(path: Path) -> Iterator[Path]:
    """A temporary folder on the disk on which the file is to be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise _unwritable(path, error) from error
    with folder as name:
        yield Path(name)


def _unwritable(path: Path, error: OSError) -> FileWriteError:
    return FileWriteError(
        f"{path} cannot be written: {error.strerror or error}. See that {path.parent} is a folder "
        "that you may write to and has room, or choose another."
    )


def _ffmpeg() -> Any:
    """The package that writes MP4.

    Raises:
        UserError: it is not installed.
    """
    return optional("imageio_ffmpeg", "An MP4", "let the file end in .gif")
