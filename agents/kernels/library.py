"""The kernels built from C: loaded, held to the layout they were built with, and their threads.

`csrc/sequence.c` and `csrc/steps.c` are an optional extension: built at installation where there is
a C compiler, and never needed. They are called through ctypes with plain pointers, for float32 and
float64 on a CPU.
"""

from __future__ import annotations

import ctypes
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recurrent_rl.agents.errors import UserError
from recurrent_rl.agents.kernels.safeguards import MemoryInputError

MIN_WORK = 4_000_000
"""Fewer multiplications than this (those of one block of weights) are not worth a second thread."""

FLOAT, DOUBLE, BFLOAT16 = range(3)


class _Chosen(threading.local):
    """What a thread of Python lets the kernels compute with; another's training has its own."""

    threads: int | None = None
    bfloat16 = False


_chosen = _Chosen()


def _longs(names: str) -> list[tuple[str, Any]]:
    """Fields of these names, integers of C's type long."""
    return [(name, ctypes.c_long) for name in names.split()]


def _pointers(names: str) -> list[tuple[str, Any]]:
    """Fields of these names, addresses of arrays."""
    return [(name, ctypes.c_void_p) for name in names.split()]


class Sequence(ctypes.Structure):
    """`Sequence` in sequence.c, which says what each field is."""

    _fields_ = [
        *_longs("cell precision threads packed steps batch inputs units"),
        *_pointers("x start h0 c0 w u b d peephole"),
        *_pointers("y c_end saved shared"),
        *_pointers("dy dc_end dx dh0 dc0"),
    ]


class Rotor(ctypes.Structure):
    """`Rotor` in sequence.c, which says what each field is."""

    _fields_ = [
        *_longs("precision threads steps batch units"),
        *_pointers("input theta start h0 h"),
        *_pointers("dh dinput dtheta dh0"),
    ]


class Matrix(ctypes.Structure):
    """`Matrix` in sequence.c, which says what each field is."""

    _fields_ = [
        *_longs("precision threads steps batch relative mirrored content units values"),
        *_pointers("input theta start clock s0"),
        *_pointers("o s scratch"),
        *_pointers("dout ds dinput ds0"),
    ]


class Array(ctypes.Structure):
    """`Array` in steps.c, which says what each field is."""

    _fields_ = [*_pointers("data"), *_longs("type"), ("strides", ctypes.c_long * 6)]


class Operation(ctypes.Structure):
    """`Operation` in steps.c, which says what each field is."""

    _fields_ = [
        *_longs("kind operands axes"),
        ("sizes", ctypes.c_long * 6),
        ("options", ctypes.c_long * 13),
        ("out", Array),
        ("in", Array * 3),
        *_pointers("scratch"),
    ]


FUNCTIONS: dict[str, tuple[list[Any], Any]] = {
    "recurrent_layout": ([], ctypes.c_char_p),
    "recurrent_isa": ([], ctypes.c_int),
    "recurrent_limit_isa": ([ctypes.c_int], None),
    "recurrent_has_bfloat16": ([], ctypes.c_int),
    "recurrent_sizes": ([ctypes.c_void_p, ctypes.c_void_p], None),
    "recurrent_run": ([ctypes.c_void_p, ctypes.c_void_p], None),
    "rotor_run": ([ctypes.c_void_p, ctypes.c_void_p], None),
    "batch_shares": ([ctypes.c_long], ctypes.c_long),
    "matrix_run": ([ctypes.c_void_p, ctypes.c_void_p], None),
    "matrix_scratch": ([ctypes.c_long, ctypes.c_long], ctypes.c_long),
    "steps_layout": ([], ctypes.c_char_p),
    "steps_run": ([ctypes.c_void_p, ctypes.c_long], None),
}
"""What is called in C: types of the arguments and of the result."""


def layout() -> str:
    """Size of each structure, place and size of each field, as the library tells them."""
    found = ""
    for structure in (Sequence, Rotor, Matrix, Array, Operation):
        found += f"{structure.__name__} {ctypes.sizeof(structure)}\n"
        for name, *_ in structure._fields_:
            field = getattr(structure, name)
            found += f"{name} {field.offset} {field.size}\n"
    return found


@cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels; None where they were not built, do not load, or are of other source."""
    for suffix in EXTENSION_SUFFIXES:
        path = Path(__file__).with_name(f"_sequence{suffix}")
        if path.is_file():
            return _load(path)
    return None


def _load(path: Path) -> ctypes.CDLL | None:
    """The library in this file, with its functions' types declared to ctypes; None if unusable."""
    try:
        found = ctypes.CDLL(str(path))
    except OSError as error:  # built for another system, or against a library that is gone
        _warn(f"{path.name} cannot be loaded ({error})")
        return None
    fits = all(hasattr(found, name) for name in FUNCTIONS)
    if fits:
        for name, (arguments, result) in FUNCTIONS.items():
            function = getattr(found, name)
            function.argtypes, function.restype = arguments, result
        fits = (found.recurrent_layout() + found.steps_layout()).decode() == layout()
    if not fits:
        _warn(f"{path.name} was built from other sources")
    return found if fits else None


def _warn(why: str) -> None:
    """Warn that the kernels that were built are not used."""
    warnings.warn(
        f"{why}, and is not used: training is several times slower without it. Install again: "
        "pip install -e .",
        RuntimeWarning,
        stacklevel=2,
    )


def built() -> ctypes.CDLL:
    """The compiled kernels, where they are known to be there."""
    found = library()
    assert found is not None
    return found


def instruction_set() -> str:
    """What the kernels compute with here: `AVX-512`, `AVX2`, `portable`, or `not built`."""
    found = library()
    return "not built" if found is None else ("portable", "AVX2", "AVX-512")[found.recurrent_isa()]


def can_read(x: Tensor) -> bool:
    """Whether the kernels are here, and take such an input."""
    return (
        library() is not None
        and x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64)
    )


# ------------------------------------------------------------------------------------ threads


def set_num_threads(threads: int | None) -> int | None:
    """Let the kernels that this thread calls compute on so many; None: on as many as torch does.

    Their results are the same to the last bit on any number of them.

    Returns:
        As it was before.
    """
    before, _chosen.threads = _chosen.threads, threads
    return before


def threads_for(work: int) -> int:
    """How many threads so many multiplications are worth."""
    return 1 if work < MIN_WORK else _chosen.threads or torch.get_num_threads()


@cache
def _openmp() -> ctypes.c_void_p | None:
    """GOMP_parallel of the OpenMP that torch computes with, where that has this entry."""
    try:
        return ctypes.cast(ctypes.CDLL(None).GOMP_parallel, ctypes.c_void_p)
    except (AttributeError, OSError, TypeError):  # another OpenMP, or none
        return None


def openmp_of_torch() -> ctypes.c_void_p | None:
    """What the threads come from: torch's OpenMP where that has several, else our own."""
    return _openmp() if torch.get_num_threads() > 1 else None


# ---------------------------------------------------------------------------------- precision


def has_bfloat16() -> bool:
    """Whether products of bfloat16 numbers can be taken here: AMX on Linux."""
    found = library()
    return found is not None and bool(found.recurrent_has_bfloat16())


def set_bfloat16(on: bool) -> bool:
    """Let the kernels round the factors of this thread's products to bfloat16, of float32 inputs.

    Sums, states and all else stay float32.

    Returns:
        As it was before.

    Raises:
        UserError: the processor or the system has no AMX, or the kernels were not built.
    """
    if on and not has_bfloat16():
        raise UserError(
            "bfloat16 needs the compiled kernel and a processor with AMX on Linux; here the "
            f"kernel is {instruction_set()}. Use float32."
        )
    before, _chosen.bfloat16 = _chosen.bfloat16, on
    return before


def precision_of(x: Tensor) -> int:
    """The number type of a pass over such an input, as C enumerates them."""
    return DOUBLE if x.dtype is torch.float64 else BFLOAT16 if _chosen.bfloat16 else FLOAT


# -------------------------------------------------------------------------------------- steps


class _Kept(threading.local):
    """What a thread of Python keeps between steps; None outside `frozen_weights`."""

    steps: dict[tuple[Any, ...], Any] | None = None


_kept = _Kept()


@contextmanager
def frozen_weights() -> Iterator[None]:
    """Take it that no weight changes inside: what a step needs of them is made once for many steps.

    A single step is then worth a compiled kernel, where there is one; else this does nothing.
    """
    before, _kept.steps = _kept.steps, {}
    try:
        yield
    finally:
        _kept.steps = before


@contextmanager
def changing_weights() -> Iterator[None]:
    """Inside `frozen_weights`, take it that weights may change after all.

    So an environment may have a policy of its own to play against, and replace it.
    """
    before, _kept.steps = _kept.steps, None
    try:
        yield
    finally:
        _kept.steps = before


def keeps_steps() -> bool:
    """Whether a single step is worth a kernel: inside `frozen_weights`, without gradients.

    Getting ready for a whole sequence costs more than a step.
    """
    return _kept.steps is not None and not torch.is_grad_enabled()


def kept_steps() -> dict[tuple[Any, ...], Any]:
    """What was made ready for steps, by whatever tells such steps apart; where `keeps_steps`."""
    assert _kept.steps is not None
    return _kept.steps


# ------------------------------------------------------------------------------------- inputs


def dense(tensor: Tensor) -> Tensor:
    """The tensor as C reads it: its numbers in order, none of them still to be negated."""
    tensor = tensor.contiguous()
    return tensor.resolve_neg() if tensor.is_neg() else tensor


def address(tensor: Tensor | None) -> int | None:
    """Where a tensor's numbers begin, as C is told it; None is C's null pointer."""
    return None if tensor is None else tensor.data_ptr()


def check_weight(name: str, weight: Tensor, shape: tuple[int, ...], x: Tensor) -> None:
    """Refuse a weight beyond whose end C would read, or whose numbers it would take for others.

    Args:
        name: of the weight.
        weight: the weight.
        shape: that it must have.
        x: an input, which has been checked: of the type and on the device it must have.

    Raises:
        MemoryInputError: it is otherwise.
    """
    if weight.shape != shape or weight.dtype is not x.dtype or weight.device != x.device:
        raise MemoryInputError(
            f"{name} is {list(weight.shape)}, {weight.dtype} on {weight.device}; expected "
            f"{list(shape)}, {x.dtype} on {x.device}. memory.to(...) brings all weights to one "
            "type and device."
        )
