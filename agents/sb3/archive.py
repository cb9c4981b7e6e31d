"""What a zip of Stable-Baselines3 holds, read without running anything of it.

Its `data` is JSON. Where an entry carries a pickle, text beside it says what it is: the text is
read, the pickle stays closed. Its `policy.pth` holds the weights, which PyTorch's restricted reader
makes into tensors, and refuses whatever else it finds.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recurrent_rl.agents.files import PolicyFileError, read_json

_DATA, _WEIGHTS = "data", "policy.pth"
_MOST_PACKED = 20
"""Times its own size that a zip may say to hold: weights are as good as noise, and pack badly."""
_MOST_SHARED = 4
"""Times its own size that `policy.pth` may say that its weights are: a features extractor stands
there under three names. One number can be said to be a tensor of any size."""


@dataclass(frozen=True)
class SB3Zip:
    """A saved model: what it tells of itself, and its weights by name."""

    path: Path
    data: Mapping[str, Any]
    weights: Mapping[str, Tensor]


def read_sb3_zip(path: Path) -> SB3Zip:
    """Read a file that a model's `save` wrote, into no more memory than 40 times its size.

    Raises:
        PolicyFileError: it is missing, damaged or another file.
    """
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: no path, by a zero byte in it
        why = getattr(error, "strerror", None) or error
        raise PolicyFileError(f"{path} cannot be read: {why}.") from error
    try:
        most = _MOST_PACKED * len(content)
        members = _open(content, most)
        if absent := [name for name in (_DATA, _WEIGHTS) if name not in members.namelist()]:
            raise ValueError(f"it holds no {absent[0]!r}")
        data = read_json(members.read(_DATA).decode())
        packed = members.read(_WEIGHTS)
        _open(packed, most)
        weights = torch.load(io.BytesIO(packed), "cpu", weights_only=True)
        _check(data, weights, _MOST_SHARED * len(packed))
    except Exception as error:  # of any kind, where two readers meet bytes that make no sense
        reason = str(error).partition("\n")[0].rstrip(". ")
        raise PolicyFileError(
            f"{path} is no model that Stable-Baselines3 has saved, or it is damaged: "
            f"{reason or type(error).__name__}. Save it again: model.save(path)."
        ) from error
    return SB3Zip(path, data, weights)


def _open(content: bytes, most: int) -> zipfile.ZipFile:
    """A zip that does not say to hold more bytes than this.

    Raises:
        ValueError: it does; zipfile.BadZipFile: it is none.
    """
    opened = zipfile.ZipFile(io.BytesIO(content))
    size = sum(member.file_size for member in opened.infolist())
    if size > most:
        raise ValueError(f"it says that it holds {size:,} bytes, and has {len(content):,}")
    return opened


def _check(data: Any, weights: Any, most: int) -> None:
    """Refuse what is not settings by name, and finite float32 by name of no more bytes than this.

    Raises:
        ValueError: says what it is.
    """
    for name, found in ((_DATA, data), (_WEIGHTS, weights)):
        if not isinstance(found, Mapping):
            raise ValueError(f"its {name!r} is a {type(found).__name__}, not values by name")
    for name, x in weights.items():
        if not isinstance(x, Tensor) or x.dtype is not torch.float32:
            kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(f"its {name!r} is {kind}, not a tensor of float32")
        if x.dim() < (least := 2 if ".weight" in name else 1):
            raise ValueError(f"its {name!r} is {list(x.shape)}, of fewer than {least} dimensions")
        most -= x.numel() * x.element_size()
        if most < 0:
            raise ValueError(f"its {name!r} is {list(x.shape)}, more numbers than it holds")
        if not torch.isfinite(x).all():
            raise ValueError(f"its {name!r} holds NaN or infinity")
