"""Files that hold tensors and text, never code: written whole or not at all, checked when read.

Every file is plain safetensors. Its metadata holds the kind and format version of the file and a
SHA-256 digest of all the rest, so that a damaged file is refused and the message says what ails it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import reprlib
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from recurrent_rl.agents.errors import UserError

NUMPY_EXPORT = "numpy policy"
"""How the `format` in the metadata of an export to NumPy begins, which is none of these files."""
_KIND, _VERSION, _DIGEST = "kind", "format_version", "sha256"
_COMPLEX = "complex128"
"""The names, as JSON, of tensors that are so in truth: safetensors has none, and they stand there
by their parts."""
_LENGTH_BYTES = 8  # a safetensors file begins with the length of its JSON header
_LONGEST_HEADER = 100_000_000
_MOST_TENSORS = 100_000
"""In a file: many times as many as a large agent with its optimiser has."""
_UNFINISHED = ".saving"
_MOST_OF_A_NAME = 50
"""Characters of a file's name in that of its temporary file, which may be no longer than others."""
_LEFTOVER = re.compile(rf"\..+\.[a-z0-9_]{{8}}{re.escape(_UNFINISHED)}")
UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
"""What reading JSON of the wrong form raises: no text, too deep, other types than expected."""


class PolicyFileError(UserError):
    """A policy or checkpoint file is missing, damaged, of a newer format or of another kind."""


class NonFiniteError(UserError):
    """What was to be saved, or what an update has computed, holds NaN or infinity."""


def refuse_nonfinite(tensors: Mapping[str, Tensor]) -> None:
    """Let nothing be saved that computes NaN.

    Raises:
        NonFiniteError: names the tensor.
    """
    for name, x in tensors.items():
        if not torch.isfinite(x).all():
            raise NonFiniteError(
                f"{name} holds NaN or infinity, and is not saved: a policy with it gives none but "
                "such numbers. Go back to an earlier checkpoint."
            )


class FileWriteError(UserError):
    """A file cannot be written; what stood under its name before is untouched."""


def write_atomically(path: str | Path, data: bytes) -> None:
    """Write a file under a temporary name beside it, flush it to the disk and rename it.

    Whoever reads `path` sees the old content or the new, never a part. Missing folders are made.
    Who may read a file that is there may read the new one, and nobody else.
    A process that is killed meanwhile leaves the temporary file: see `remove_leftovers`.

    Raises:
        FileWriteError: the disk is full, or the folder cannot be written to.
    """
    write_together({Path(path): data})


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write files as `write_atomically` does, and rename them when all are on the disk.

    Where one cannot be written, none is, and no folder is left that was made for them.

    Raises:
        FileWriteError: the disk is full, or a folder cannot be written to.
    """
    temporary: dict[Path, Path] = {}
    made: list[Path] = []
    path = Path()
    if impossible := [str(path) for path in contents if "\0" in str(path)]:
        raise FileWriteError(f"{impossible[0]!r} holds a null character; give another path.")
    try:
        for path, data in contents.items():
            made += [folder for folder in path.parents if not folder.exists()]
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            name = f".{path.name[:_MOST_OF_A_NAME]}.{secrets.token_hex(4)}{_UNFINISHED}"
            temporary[path] = path.with_name(name)
            with temporary[path].open("xb") as file:
                with contextlib.suppress(FileNotFoundError):
                    shutil.copymode(path, temporary[path])
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        for path, written in temporary.items():
            os.replace(written, path)
    except BaseException as error:
        for written in temporary.values():
            with contextlib.suppress(OSError):
                os.unlink(written)
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()
        if isinstance(error, OSError):
            raise unwritable(path, error) from error
        raise


def unwritable(path: Path, error: OSError) -> FileWriteError:
    """The error for a file that cannot be written, with the fix.

    Args:
        path: of the file.
        error: what the system says.
    """
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        fix = f"Make room where {path.parent} lies"
    elif error.errno == errno.ENOENT and not path.parent.is_dir():
        fix = f"{path.parent} was moved or deleted meanwhile: leave it where it is"
    elif error.errno == errno.ENAMETOOLONG:
        fix = "Give a shorter name"
    else:
        fix = f"See that {path.parent} is a folder that you may write to"
    untouched = " What the file held before is untouched." if os.path.isfile(path) else ""
    return FileWriteError(
        f"{path} cannot be written: {error.strerror or error}. {fix}, or choose another folder."
        f"{untouched}"
    )


def remove_leftovers(folder: str | Path) -> None:
    """Delete the temporary files in a folder that `write_atomically` left when it was killed.

    Safe only while no other process writes into the folder, whose save under way would fail: in a
    run's folder, under the run's lock. A file that cannot be deleted is left.
    """
    for path in Path(folder).iterdir():
        if _LEFTOVER.fullmatch(path.name):
            with contextlib.suppress(OSError):
                path.unlink()


def save_tensors(
    path: str | Path, tensors: dict[str, Tensor], metadata: dict[str, str], kind: str, version: int
) -> None:
    """Write tensors and text to one safetensors file.

    Args:
        path: of the file.
        tensors: by name, any dtype; written from the CPU.
        metadata: text by name.
        kind: what the file is; a reader asks for it.
        version: of the kind's format.

    Raises:
        FileWriteError: the disk is full, or the folder cannot be written to.
    """
    tensors = _apart(tensors)
    metadata = {**metadata, _KIND: kind, _VERSION: str(version)}
    parts = {n: torch.view_as_real(x) for n, x in tensors.items() if x.dtype is torch.complex128}
    if parts:
        metadata[_COMPLEX] = json.dumps(sorted(parts))
    tensors |= parts
    metadata[_DIGEST] = digest(tensors, metadata)
    write_atomically(path, save(tensors, metadata))


def _apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """As a file holds tensors: on the CPU, dense, and none in the memory of another.

    Weights that are tied, or parts of one tensor, stand in the file each for itself.
    """
    found, taken = {}, set()
    for name, x in tensors.items():
        if not isinstance(x, Tensor):  # a module's extra state
            raise TypeError(f"{name} is a {type(x).__name__}, and a file holds tensors alone")
        x = x.detach().resolve_conj().resolve_neg().cpu().contiguous()
        place = x.untyped_storage().data_ptr()
        found[name] = x.clone() if place in taken else x
        taken.add(place)
    return found


def kind_of(path: Path) -> str | None:
    """The kind of a file that `save_tensors` wrote; None of any other, or where there is none."""
    try:
        with safe_open(str(path), "pt") as file:
            return (file.metadata() or {}).get(_KIND)
    except (OSError, SafetensorError):
        return None


def temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder that is there until its context ends.

    Raises:
        UserError: no folder for temporary files can be written to.
    """
    try:
        return tempfile.TemporaryDirectory()
    except FileNotFoundError as error:
        raise UserError(
            f"{error.strerror}. Name a folder that can be written to in the environment variable "
            "TMPDIR."
        ) from error


def load_tensors(
    path: str | Path, kind: str, newest_version: int
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read what `save_tensors` wrote.

    Returns:
        The tensors, on the CPU, and the text.

    Raises:
        PolicyFileError: the file is missing, no safetensors file, truncated, altered, of another
            kind or of a newer format; the message says which.
    """
    path = Path(path)
    with _reading(path):
        data = path.read_bytes()
    metadata = _read_metadata(path, data, len(data))
    _check_kind(path, metadata, kind, newest_version)
    try:
        tensors = load(data)
        same = metadata.pop(_DIGEST, None) == digest(tensors, metadata)
    except (SafetensorError, AssertionError, RuntimeError, *UNREADABLE) as error:
        raise PolicyFileError(_altered(path)) from error
    if not same:
        raise PolicyFileError(_altered(path))
    try:
        for name in read_json(metadata.pop(_COMPLEX, "[]")):
            tensors[name] = torch.view_as_complex(tensors[name])
    except (RuntimeError, *UNREADABLE) as error:
        raise PolicyFileError(f"{path} is damaged: it has no complex numbers ({error}).") from error
    return tensors, metadata


def load_text(path: str | Path, kind: str, newest_version: int) -> dict[str, str]:
    """Read the text alone of what `save_tensors` wrote: no longer a task in a large file.

    The tensors are not read, and so nothing is compared with the digest.

    Raises:
        PolicyFileError: as `load_tensors`, but for a file that was altered where the text is none.
    """
    path = Path(path)
    with _reading(path), path.open("rb") as file:
        start = file.read(_LENGTH_BYTES)
        header = file.read(min(int.from_bytes(start, "little"), _LONGEST_HEADER))
        size = os.fstat(file.fileno()).st_size
    metadata = _read_metadata(path, start + header, size)
    _check_kind(path, metadata, kind, newest_version)
    metadata.pop(_DIGEST, None)
    metadata.pop(_COMPLEX, None)
    return metadata


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Say of a file that cannot be read why."""
    try:
        yield
    except FileNotFoundError:
        raise PolicyFileError(f"There is no file {path}{_neighbours(path)}.") from None
    except (OSError, MemoryError, ValueError) as error:  # ValueError: no path, by a zero byte in it
        raise PolicyFileError(f"{path} cannot be read: {error}.") from error


def _check_kind(path: Path, metadata: dict[str, str], kind: str, newest_version: int) -> None:
    """Refuse a file of another kind or of a newer version."""
    if metadata.get("format", "").startswith(NUMPY_EXPORT):
        raise PolicyFileError(
            f"{path} is an export to NumPy, for the policy.py beside it: in a program that has the "
            "folder in its path, `from policy import Policy`. load_policy reads the policy that it "
            "was made of."
        )
    if metadata.get(_KIND) != kind:
        raise PolicyFileError(
            f"{path} is not a {kind} file: it is of kind "
            f"{reprlib.repr(metadata.get(_KIND, 'unknown'))}. In a run folder the policy is "
            "policy.safetensors, the checkpoint checkpoint.safetensors."
        )
    version = metadata.get(_VERSION, "")
    if not re.fullmatch("[1-9][0-9]{0,8}", version):
        raise PolicyFileError(
            f"{path} is damaged: its format version is {reprlib.repr(version)}, which is none. "
            "Copy it again, or use another checkpoint."
        )
    if int(version) > newest_version:
        raise PolicyFileError(
            f"{path} has format version {version}; this version of recurrent-rl reads up to "
            f"{newest_version}. Install a newer recurrent-rl."
        )


def read_json(text: str) -> Any:
    """What a file's JSON text says.

    Raises:
        ValueError: it is not JSON, or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("JSON that is nested too deeply") from None


def digest(tensors: dict[str, Tensor], metadata: dict[str, str]) -> str:
    """SHA-256 over the tensors' names, types, shapes and bytes, and the text, in sorted order."""
    result = hashlib.sha256()
    described = sorted((name, str(x.dtype), list(x.shape)) for name, x in tensors.items())
    result.update(json.dumps([described, sorted(metadata.items())]).encode())
    for name, _, _ in described:
        flat = tensors[name].reshape(-1)
        result.update(flat.view(torch.uint8).numpy().tobytes())
    return result.hexdigest()


_ZIP = b"PK\x03\x04"
_OF_ZIP = (
    " It is a zip archive, as Stable-Baselines3 and torch.save write: `recurrent-rl convert` makes "
    "a policy of a model of sb3-contrib's RecurrentPPO."
)


def _read_metadata(path: Path, data: bytes, size: int) -> dict[str, str]:
    """The header's text; says whether the file is cut short or was never one of ours.

    Args:
        path: of the file.
        data: what it begins with, at least the header where it is whole.
        size: of the file in bytes.
    """
    header_end = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "little")
    begins_right = data[_LENGTH_BYTES : _LENGTH_BYTES + 1] in (b"{", b"")
    if not begins_right or header_end > _LONGEST_HEADER:
        raise PolicyFileError(
            f"{path} is not a safetensors file, or its beginning was altered. recurrent-rl reads "
            f"policies and checkpoints it has saved itself.{_OF_ZIP if data[:4] == _ZIP else ''}"
        )
    if size < max(header_end, _LENGTH_BYTES + 1):
        raise PolicyFileError(_truncated(path, size))
    try:
        header = json.loads(data[_LENGTH_BYTES:header_end])
        metadata = header.pop("__metadata__", {})
        if not all(isinstance(value, str) for value in metadata.values()):
            raise TypeError("metadata that is no text")
        ends = [entry["data_offsets"][1] for entry in header.values()]
        expected = header_end + max(ends, default=0)
        is_short = size < expected
    except UNREADABLE as error:
        raise PolicyFileError(_altered(path)) from error
    if is_short:
        raise PolicyFileError(_truncated(path, size))
    if len(ends) > _MOST_TENSORS:
        raise PolicyFileError(
            f"{path} holds {len(ends):,} tensors, more than any file of recurrent-rl "
            f"({_MOST_TENSORS:,}). Use a file that recurrent-rl has saved."
        )
    return dict(metadata)


def _truncated(path: Path, size: int) -> str:
    return (
        f"{path} is truncated: it ends after {size:,} bytes, before its content does. "
        "Copy it again, or use another checkpoint."
    )


def _altered(path: Path) -> str:
    return (
        f"{path} was altered after it was saved: its content does not match its digest. "
        "Copy it again, or use another checkpoint."
    )


def _neighbours(path: Path) -> str:
    """What was probably meant: files like it beside it, else folders that hold one."""
    found = sorted(x.name for x in path.parent.glob("*.safetensors"))
    found = found or sorted({x.parent.name for x in path.parent.glob("*/*.safetensors")})
    return f"; beside it lie {', '.join(found[:3])}" if found else ""
