"""The compiled kernel: a layer over a whole sequence in C, forward and backward.

`sequence.c` is an optional extension: built at installation where there is a C compiler, and never
needed. It is called through ctypes with plain pointers, in float32 or float64, on CPU tensors.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from recurrent_rl.agents.errors import UserError
from recurrent_rl.agents.kernels.safeguards import MemoryInputError, once_differentiable
from recurrent_rl.agents.memory.states import LayerState

if TYPE_CHECKING:
    from recurrent_rl.agents.memory.cells import Cell, CellWeights

CELLS = ("rnn", "gru", "gru-original", "lstm", "lstm-peephole")
"""The cells that the kernel computes, in the order of its enumeration."""

MIN_WORK = 4_000_000
"""Fewer multiplications than this (those of one block of weights) are not worth a second thread."""

_Sizes = ctypes.c_long * 6

FLOAT, DOUBLE, _BFLOAT16 = range(3)

_threads: int | None = None
_bfloat16 = False


def set_num_threads(threads: int | None) -> int | None:
    """Let the kernel compute on so many threads; None: on as many as torch does.

    Its results are the same to the last bit on any number of them.

    Returns:
        As it was before.
    """
    global _threads
    before, _threads = _threads, threads
    return before


def threads_for(work: int) -> int:
    """How many threads so many multiplications are worth."""
    return 1 if work < MIN_WORK else _threads or torch.get_num_threads()


class _Sequence(ctypes.Structure):
    """`Sequence` in sequence.c, which says what each field is."""

    _fields_ = (
        *((name, ctypes.c_long) for name in ("cell", "precision", "threads", "packed")),
        *((name, ctypes.c_long) for name in ("steps", "batch", "inputs", "units")),
        *((name, ctypes.c_void_p) for name in ("x", "start", "h0", "c0", "w", "u", "b", "d")),
        *((name, ctypes.c_void_p) for name in ("peephole", "y", "c_end", "saved", "shared")),
        *((name, ctypes.c_void_p) for name in ("dy", "dc_end", "dx", "dh0", "dc0")),
    )


@cache
def library() -> ctypes.CDLL | None:
    """The compiled kernel, or None where it was not built."""
    for suffix in EXTENSION_SUFFIXES:
        path = Path(__file__).with_name(f"_sequence{suffix}")
        if path.is_file():
            found = ctypes.CDLL(str(path))
            found.recurrent_sizes.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
            found.recurrent_sizes.restype = None
            found.recurrent_run.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
            found.recurrent_run.restype = None
            found.rotor_run.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
            found.rotor_run.restype = None
            found.rotor_shares.argtypes = [ctypes.c_long]
            found.rotor_shares.restype = ctypes.c_long
            return found
    return None


def built() -> ctypes.CDLL:
    """The compiled kernel, where it is known to be there."""
    found = library()
    assert found is not None
    return found


@cache
def _openmp() -> ctypes.c_void_p | None:
    """GOMP_parallel of the OpenMP that torch computes with, where that has this entry."""
    try:
        return ctypes.cast(ctypes.CDLL(None).GOMP_parallel, ctypes.c_void_p)
    except (AttributeError, OSError, TypeError):  # another OpenMP, or none
        return None


def openmp_of_torch() -> ctypes.c_void_p | None:
    """What the kernel's threads come from: torch's OpenMP where that has several, else its own."""
    return _openmp() if torch.get_num_threads() > 1 else None


def instruction_set() -> str:
    """What the kernel computes with here: `AVX-512`, `AVX2`, `portable`, or `not built`."""
    found = library()
    return "not built" if found is None else ("portable", "AVX2", "AVX-512")[found.recurrent_isa()]


def serves(x: Tensor) -> bool:
    """Whether the kernel is here, and can run on this input."""
    return (
        library() is not None
        and x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64)
    )


def has_bfloat16() -> bool:
    """Whether the kernel can take products of bfloat16 numbers here: AMX on Linux."""
    found = library()
    return found is not None and bool(found.recurrent_has_bfloat16())


def set_bfloat16(on: bool) -> bool:
    """Let the kernel round the factors of its products to bfloat16, where the input is float32.

    Sums, states and all else stay float32.

    Returns:
        As it was before.

    Raises:
        UserError: the processor or the system has no AMX, or the kernel was not built.
    """
    global _bfloat16
    if on and not has_bfloat16():
        raise UserError(
            "bfloat16 needs the compiled kernel and a processor with AMX on Linux; here the "
            f"kernel is {instruction_set()}. Use float32."
        )
    before, _bfloat16 = _bfloat16, on
    return before


def unroll(
    memory: Cell, x: Tensor, fields: LayerState, episode_start: Tensor | None, layer: int
) -> tuple[Tensor, LayerState]:
    """A kernel as `kernels.Kernel` says. Differentiable once."""
    h, c = fields if len(fields) == 2 else (fields[0], None)
    cell = CELLS.index(memory.compiled_cell)
    weights = _weights(memory, x, layer)
    y, c_end = _Unroll.apply(cell, x, episode_start, h, c, *weights)  # type: ignore[no-untyped-call]
    return y, (y[-1],) if c is None else (y[-1], c_end)


class _Inputs(NamedTuple):
    """What a forward pass is given: fields of `Sequence`."""

    x: Tensor
    start: Tensor | None
    h0: Tensor
    c0: Tensor | None
    w: Tensor
    u: Tensor
    b: Tensor
    d: Tensor | None
    peephole: Tensor | None


def dense(tensor: Tensor) -> Tensor:
    """The tensor as C reads it: its numbers in order, none of them still to be negated."""
    tensor = tensor.contiguous()
    return tensor.resolve_neg() if tensor.is_neg() else tensor


def check_weight(name: str, weight: Tensor, shape: tuple[int, ...], x: Tensor) -> None:
    """Refuse a weight beyond whose end C would read, or whose numbers it would take for others.

    Args:
        name: of the weight.
        weight: the weight.
        shape: that it must have.
        x: an input, which `Memory` has checked: of the type and on the device it must have.

    Raises:
        MemoryInputError: it is otherwise.
    """
    if weight.shape != shape or weight.dtype is not x.dtype or weight.device != x.device:
        raise MemoryInputError(
            f"{name} is {list(weight.shape)}, {weight.dtype} on {weight.device}; expected "
            f"{list(shape)}, {x.dtype} on {x.device}. memory.to(...) brings all weights to one "
            "type and device."
        )


def _weights(memory: Cell, x: Tensor, layer: int) -> CellWeights:
    """The weights of one layer, of the sizes that the kernel reads."""
    weights = memory.weights(layer)
    units, rows = memory.hidden_size, memory.num_blocks * memory.hidden_size
    shapes = ((rows, x.shape[-1]), (rows, units), (rows,), (rows,), (3, units))
    for name, weight, shape in zip(weights._fields, weights, shapes, strict=True):
        if weight is not None:
            check_weight(f"The layer's {name} weight", weight, shape, x)
    return weights


def _inputs(*inputs: Tensor | None) -> _Inputs:
    """The inputs as the kernel reads them."""
    return _Inputs(*[v if v is None else dense(v) for v in inputs])  # type: ignore[arg-type]


class _Unroll(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, cell: int, *inputs: Tensor | None) -> tuple[Tensor, Tensor | None]:
        given = _inputs(*inputs)
        y = given.x.new_empty(*given.x.shape[:2], given.h0.shape[1])
        c_end = None if given.c0 is None else torch.empty_like(given.c0)
        saved, _, _ = _run(cell, given, y, c_end)
        ctx.save_for_backward(*given, y, saved)
        ctx.cell = cell
        ctx.set_materialize_grads(False)
        return y, c_end

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor | None, dc_end: Tensor | None) -> tuple[Tensor | None, ...]:
        *inputs, y, saved = ctx.saved_tensors
        given = _Inputs(*inputs)
        dx, dh0 = torch.empty_like(given.x), torch.empty_like(given.h0)
        dc0 = None if given.c0 is None else torch.empty_like(dh0)
        dy = torch.zeros_like(y) if dy is None else dense(dy)
        dc_end = None if dc_end is None else dense(dc_end)
        _, own, padded = _run(ctx.cell, given, y, None, saved, (dy, dc_end, dx, dh0, dc0))

        # Each share's sums: block, unit, column, the last two padded.
        units, features = given.h0.shape[1], given.x.shape[2]
        wide_h, wide_x = padded
        widths = [(4, wide_x, features), (4, wide_h, units), (4, 1, 1), (3, 1, 1)]
        sums, at = [], 0
        for blocks, wide, columns in widths:
            part = own[:, at : at + blocks * wide_h * wide].view(-1, blocks, wide_h, wide)
            sums.append(part[:, :, :units, :columns].sum(0))
            at += blocks * wide_h * wide
        dw, du, dbias, dpeephole = sums
        blocks = len(given.w) // units
        db = dd = dbias[:blocks]
        if CELLS[ctx.cell] == "gru":  # the third block is of U h, the fourth of W x
            db = dbias[[0, 1, 3]]
        return (
            None,
            dx,
            None,
            dh0,
            dc0,
            dw[:blocks].reshape_as(given.w),
            du[:blocks].reshape_as(given.u),
            db.reshape_as(given.b),
            None if given.d is None else dd.clone().view_as(given.d),
            None if given.peephole is None else dpeephole.view_as(given.peephole),
        )


class _Local(threading.local):
    """What a thread of Python keeps between calls."""

    def __init__(self) -> None:
        self.room: dict[torch.dtype, Tensor] = {}
        # By memory, layer, batch size and type; None outside `frozen_weights`.
        self.steps: dict[tuple[Any, ...], _Step] | None = None


_local = _Local()


@contextmanager
def frozen_weights() -> Iterator[None]:
    """Take it that no weight changes inside: what a step needs of them is made once for many steps.

    A single step is then worth the kernel, where there is one; else this does nothing.
    """
    before, _local.steps = _local.steps, {}
    try:
        yield
    finally:
        _local.steps = before


def keeps_steps() -> bool:
    """Whether a single step is worth the kernel: inside `frozen_weights`, without gradients.

    Getting ready for a whole sequence costs more than a step.
    """
    return _local.steps is not None and not torch.is_grad_enabled()


def step(
    memory: Cell, x: Tensor, fields: LayerState, episode_start: Tensor | None, layer: int
) -> tuple[Tensor, LayerState]:
    """One step of one layer, where `keeps_steps`: `x` `[B, F]`, episode_start `[B]` or None."""
    assert _local.steps is not None
    key = (memory, layer, len(x), x.dtype)
    found = _local.steps.get(key)
    if found is None:
        found = _local.steps[key] = _Step(memory, x, fields, layer)
    return found(x, fields, episode_start)


class _Step:
    """A step of one layer for batches of one size: laid out once, but for what a step is given."""

    def __init__(self, memory: Cell, x: Tensor, fields: LayerState, layer: int) -> None:
        h, c = fields if len(fields) == 2 else (fields[0], None)
        given = _inputs(x.unsqueeze(0), None, h, c, *_weights(memory, x, layer))
        self._sequence, sizes = _layout(CELLS.index(memory.compiled_cell), given)
        self._room = [x.new_empty(sizes[0]), x.new_empty(sizes[1])]
        self._sequence.saved, self._sequence.shared = (room.data_ptr() for room in self._room)
        self._given = given  # so that the weights stay where they are
        self._address = ctypes.addressof(self._sequence)
        self._openmp = openmp_of_torch()

    def __call__(
        self, x: Tensor, fields: LayerState, episode_start: Tensor | None
    ) -> tuple[Tensor, LayerState]:
        sequence = self._sequence
        x, before = dense(x), [dense(field) for field in fields]
        start = None if episode_start is None else episode_start.contiguous()
        after = tuple([torch.empty_like(field) for field in before])
        sequence.x = x.data_ptr()
        sequence.start = None if start is None else start.data_ptr()
        sequence.h0, sequence.y = before[0].data_ptr(), after[0].data_ptr()
        if len(after) == 2:
            sequence.c0, sequence.c_end = before[1].data_ptr(), after[1].data_ptr()
        built().recurrent_run(self._address, self._openmp)
        sequence.packed = True
        return after[0], after


def _workspace(size: int, dtype: torch.dtype) -> Tensor:
    """Room for `size` numbers, the same each time: fresh memory costs a page fault per 4 KiB."""
    room = _local.room
    if dtype not in room or len(room[dtype]) < size:
        room[dtype] = torch.empty(size, dtype=dtype)
    return room[dtype][:size]


def _layout(
    cell: int, given: _Inputs, *others: Tensor | None
) -> tuple[_Sequence, ctypes.Array[ctypes.c_long]]:
    """What the kernel is told, and the sizes that it answers: `recurrent_sizes` says which.

    `others` are its fields from `y` on, as far as they are known.
    """
    steps, batch, features = given.x.shape
    units = given.h0.shape[1]
    work = steps * batch * (features + units) * units
    precision = DOUBLE if given.x.dtype is torch.float64 else _BFLOAT16 if _bfloat16 else FLOAT
    sequence = _Sequence(
        *(cell, precision, threads_for(work), False, steps, batch, features, units),
        *[None if tensor is None else tensor.data_ptr() for tensor in (*given, *others)],
    )
    sizes = _Sizes()
    built().recurrent_sizes(ctypes.addressof(sequence), sizes)
    return sequence, sizes


def _run(
    cell: int,
    given: _Inputs,
    y: Tensor,
    c_end: Tensor | None,
    saved: Tensor | None = None,
    gradients: tuple[Tensor | None, ...] = (),
) -> tuple[Tensor, Tensor, tuple[int, int]]:
    """A forward pass, or with `saved` and `gradients` a backward pass.

    Returns:
        `saved`, the shares' workspaces `[shares, n]`, and units and inputs as padded there.
    """
    sequence, sizes = _layout(cell, given, y, c_end, saved, None, *gradients)
    if saved is None:
        saved = given.x.new_empty(sizes[0])
        sequence.saved = saved.data_ptr()
    shared = _workspace(sizes[1], given.x.dtype)
    sequence.shared = shared.data_ptr()
    built().recurrent_run(ctypes.addressof(sequence), openmp_of_torch())
    own = shared[sizes[1] - sizes[5] * sizes[2] :]
    return saved, own.view(sizes[5], -1), (sizes[3], sizes[4])
