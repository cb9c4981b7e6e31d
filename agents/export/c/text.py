"""Pieces of C: types, numbers, arrays, entries and loops."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurrent_rl.agents.export.listing import View
from recurrent_rl.agents.export.signature import Field

TYPES = {
    "float32": "float",
    "float64": "double",
    "int64": "int64_t",
    "int32": "int32_t",
    "int8": "int8_t",
    "uint8": "uint8_t",
    "bool": "uint8_t",
}


def index(offset: int, strides: Iterable[int], names: str) -> str:
    """An entry of an array, as C."""
    parts = [str(offset)] if offset else []
    for stride, name in zip(strides, names, strict=False):
        if stride:
            parts.append(name if stride == 1 else f"{stride} * {name}")
    return " + ".join(parts) or "0"


def loops(sizes: Iterable[int], text: str) -> Iterator[str]:
    """A statement in loops over i, j, ..., the axes of size 1 too."""
    depth = 0
    for size, name in zip(sizes, "ijklmn", strict=False):
        yield f"{'    ' * depth}for (int {name} = 0; {name} < {size}; {name}++) {{"
        depth += 1
    yield "    " * depth + text
    for level in reversed(range(depth)):
        yield "    " * level + "}"


def cast(text: str, before: str, after: str) -> str:
    """A number in another type."""
    if before == after:
        return text
    return f"({text} != 0)" if after == "bool" else f"({TYPES[after]}){text}"


def declared(view: View, name: str) -> str:
    """An array as it is declared."""
    return f"{TYPES[view.dtype]} {name}[{view.size}]"


def member(view: View, name: str, field: Field) -> Iterator[str]:
    """A member of the struct."""
    meaning = field.meaning.removesuffix("; axis 1 is the batch")  # which is 1 in C
    yield f"    /* {comment(meaning)} */"
    yield f"    {declared(view, name)};"


def comment(text: str) -> str:
    """Text that ends no comment, and begins none."""
    return text.replace("*/", "* /").replace("/*", "/ *")


def array(name: str, dtype: str, values: NDArray[Any]) -> Iterator[str]:
    """A constant array, some numbers a line."""
    texts = [literal(x, dtype) for x in values.reshape(-1).tolist()]
    yield f"static const {TYPES[dtype]} {name}[{len(texts)}] = {{"
    for begin in range(0, len(texts), 8):
        yield f"    {', '.join(texts[begin : begin + 8])},"
    yield "};"
    yield ""


def literal(x: Any, dtype: str) -> str:
    """A number as C."""
    if dtype in ("float32", "float64"):
        if math.isinf(x):
            return "INFINITY" if x > 0 else "(-INFINITY)"
        text = f"{x:.9g}" if dtype == "float32" else f"{x:.17g}"
        if "e" not in text and "." not in text:
            text += ".0"
        text += "f" if dtype == "float32" else ""
        return f"({text})" if x < 0 else text
    if dtype == "int64":
        return f"({-(2**63) + 1} - 1)" if x == -(2**63) else f"INT64_C({x})"
    return str(int(x))


def shortened(weight: NDArray[Any]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Numbers of 8 bits `[K, N]` and the scale of each column `[N]`, whose product is the weight.

    The scale is the largest size in the column by 127.
    """
    scale = np.maximum(np.abs(weight).max(0), np.finfo(np.float32).tiny * 127) / 127
    return np.rint(weight / scale).astype(np.int8), scale.astype(np.float32)
