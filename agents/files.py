"""Files that hold tensors and text, never code: written whole or not at all, checked when read.

Every file is plain safetensors. Its metadata holds the kind and format version of the file and a
SHA-256 digest of all the rest, so that a damaged file is refused and the message says what ails it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

_KIND, _VERSION, _DIGEST = "kind", "format_version", "sha256"
_LENGTH_BYTES = 8  # a safetensors file begins with the length of its JSON header


class PolicyFileError(ValueError):
    """A policy or checkpoint file is missing, damaged, of a newer format or of another kind."""


class NonFiniteError(ValueError):
    """What was to be saved holds NaN or infinity."""


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


def write_atomically(path: str | Path, data: bytes) -> None:
    """Write a file under a temporary name beside it, flush it to the disk and rename it.

    Whoever reads `path` sees the old content or the new, never a part. Missing folders are made.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


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
    """
    tensors = {name: x.detach().cpu().contiguous() for name, x in tensors.items()}
    metadata = {**metadata, _KIND: kind, _VERSION: str(version)}
    metadata[_DIGEST] = digest(tensors, metadata)
    write_atomically(path, save(tensors, metadata))


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
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise PolicyFileError(f"There is no file {path}{_neighbours(path)}.") from None
    except OSError as error:
        raise PolicyFileError(f"{path} cannot be read: {error}.") from error
    metadata = _read_metadata(path, data)
    if metadata.get(_KIND) != kind:
        raise PolicyFileError(
            f"{path} is not a {kind} file: it is of kind {metadata.get(_KIND, 'unknown')!r}. "
            "In a run folder the policy is policy.safetensors, the checkpoint "
            "checkpoint.safetensors."
        )
    version = metadata.get(_VERSION, "")
    if version.isdecimal() and int(version) > newest_version:
        raise PolicyFileError(
            f"{path} has format version {version}; this version of recurrent-rl reads up to "
            f"{newest_version}. Install a newer recurrent-rl."
        )
    try:
        tensors = load(data)
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise PolicyFileError(_altered(path)) from error
    if metadata.pop(_DIGEST, None) != digest(tensors, metadata):
        raise PolicyFileError(_altered(path))
    return tensors, metadata


def digest(tensors: dict[str, Tensor], metadata: dict[str, str]) -> str:
    """SHA-256 over the tensors' names, types, shapes and bytes, and the text, in sorted order."""
    result = hashlib.sha256()
    described = sorted((name, str(x.dtype), list(x.shape)) for name, x in tensors.items())
    result.update(json.dumps([described, sorted(metadata.items())]).encode())
    for name, _, _ in described:
        flat = tensors[name].reshape(-1)
        result.update(flat.view(torch.uint8).numpy().tobytes())
    return result.hexdigest()


def _read_metadata(path: Path, data: bytes) -> dict[str, str]:
    """The header's text; says whether the file is cut short or was never one of ours."""
    header_end = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "little")
    begins_right = data[_LENGTH_BYTES : _LENGTH_BYTES + 1] in (b"{", b"")
    if not begins_right or header_end > 100_000_000:
        raise PolicyFileError(
            f"{path} is not a safetensors file, or its beginning was altered. recurrent-rl reads "
            "policies and checkpoints it has saved itself."
        )
    if len(data) < max(header_end, _LENGTH_BYTES + 1):
        raise PolicyFileError(_truncated(path, data))
    try:
        header = json.loads(data[_LENGTH_BYTES:header_end])
        metadata = header.pop("__metadata__", {})
        ends = [entry["data_offsets"][1] for entry in header.values()]
        if not all(isinstance(value, str) for value in metadata.values()):
            raise TypeError("metadata that is no text")
        expected = header_end + max(ends, default=0)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise PolicyFileError(_altered(path)) from error
    if len(data) < expected:
        raise PolicyFileError(_truncated(path, data))
    return dict(metadata)


def _truncated(path: Path, data: bytes) -> str:
    return (
        f"{path} is truncated: it ends after {len(data):,} bytes, before its content does. "
        "Copy it again, or use another checkpoint."
    )


def _altered(path: Path) -> str:
    return (
        f"{path} was altered after it was saved: its content does not match its digest. "
        "Copy it again, or use another checkpoint."
    )


def _neighbours(path: Path) -> str:
    found = sorted(x.name for x in path.parent.glob("*.safetensors"))[:3]
    return f"; beside it lie {', '.join(found)}" if found else ""
