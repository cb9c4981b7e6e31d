"""The compiled kernel: a layer over a whole sequence in C, forward and backward."""

from __future__ import annotations

import ctypes
import threading
from typing import Any, NamedTuple

import torch
from torch import Tensor

from recurrent_rl.agents.kernels.cell import Cell, GatedWeights, LayerState
from recurrent_rl.agents.kernels.library import (
    Sequence,
    address,
    built,
    can_read,
    check_weight,
    dense,
    kept_steps,
    openmp_of_torch,
    precision_of,
    threads_for,
)
from recurrent_rl.agents.kernels.safeguards import once_differentiable

BLOCKS = {"rnn": 1, "gru": 3, "gru-original": 3, "lstm": 4, "lstm-peephole": 4}
"""The cells that the kernel computes, in the order of its enumeration, and their blocks of rows."""
CELLS = tuple(BLOCKS)

_Sizes = ctypes.c_long * 6


def serves(cell: Cell, x: Tensor) -> bool:
    """The cells that are not linear in their state, on a CPU."""
    return cell.name in CELLS and can_read(x)


def unroll(
    cell: Cell,
    weights: GatedWeights,
    x: Tensor,
    state: LayerState,
    episode_start: Tensor | None,
) -> tuple[Tensor, LayerState]:
    """A kernel as `dispatch.Kernel` says. Differentiable once."""
    h, c = state if len(state) == 2 else (state[0], None)
    _check(cell, weights, x, h.shape[1])
    number = CELLS.index(cell.name)
    y, c_end = _Unroll.apply(number, x, episode_start, h, c, *weights)  # type: ignore[no-untyped-call]
    return y, (y[-1],) if c is None else (y[-1], c_end)


def step(
    cell: Cell,
    weights: GatedWeights,
    x: Tensor,
    state: LayerState,
    episode_start: Tensor | None,
) -> tuple[Tensor, LayerState]:
    """One step, where `library.keeps_steps`: `x` `[B, F]`, episode_start `[B]` or None."""
    steps = kept_steps()
    key = (cell.name, *map(id, weights), len(x), x.dtype)
    found = steps.get(key)
    if found is None:
        found = steps[key] = _Step(cell, weights, x, state)
    after = found(x, state, episode_start)
    return after[0], after


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


def _check(cell: Cell, weights: GatedWeights, x: Tensor, units: int) -> None:
    """Refuse weights of other sizes than the kernel reads."""
    rows = BLOCKS[cell.name] * units
    shapes = ((rows, x.shape[-1]), (rows, units), (rows,), (rows,), (3, units))
    for name, weight, shape in zip(weights._fields, weights, shapes, strict=True):
        if weight is not None:
            check_weight(f"The layer's {name} weight", weight, shape, x)


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


class _Step:
    """A step of one layer for batches of one size: laid out once, but for what a step is given."""

    def __init__(self, cell: Cell, weights: GatedWeights, x: Tensor, state: LayerState) -> None:
        h, c = state if len(state) == 2 else (state[0], None)
        _check(cell, weights, x, h.shape[1])
        self._weights = weights  # kept alive, so that no other weights come by their identities
        given = _inputs(x.unsqueeze(0), None, h, c, *weights)
        self._sequence, sizes = _layout(CELLS.index(cell.name), given)
        self._room = [x.new_empty(sizes[0]), x.new_empty(sizes[1])]
        self._sequence.saved, self._sequence.shared = (room.data_ptr() for room in self._room)
        self._given = given  # so that the arrays stay where they are
        self._address = ctypes.addressof(self._sequence)
        self._openmp = openmp_of_torch()

    def __call__(self, x: Tensor, state: LayerState, episode_start: Tensor | None) -> LayerState:
        sequence = self._sequence
        x, before = dense(x), [dense(field) for field in state]
        start = None if episode_start is None else episode_start.contiguous()
        after = tuple([torch.empty_like(field) for field in before])
        sequence.x = x.data_ptr()
        sequence.start = address(start)
        sequence.h0, sequence.y = before[0].data_ptr(), after[0].data_ptr()
        if len(after) == 2:
            sequence.c0, sequence.c_end = before[1].data_ptr(), after[1].data_ptr()
        built().recurrent_run(self._address, self._openmp)
        sequence.packed = True
        return after


class _Room(threading.local):
    """Memory that a thread of Python keeps between calls."""

    def __init__(self) -> None:
        self.by_type: dict[torch.dtype, Tensor] = {}


_room = _Room()


def _workspace(size: int, dtype: torch.dtype) -> Tensor:
    """Room for `size` numbers, the same each time: fresh memory costs a page fault per 4 KiB."""
    room = _room.by_type
    if dtype not in room or len(room[dtype]) < size:
        room[dtype] = torch.empty(size, dtype=dtype)
    return room[dtype][:size]


def _layout(
    cell: int, given: _Inputs, *others: Tensor | None
) -> tuple[Sequence, ctypes.Array[ctypes.c_long]]:
    """The kernel's arguments, and the sizes that it answers: `recurrent_sizes` says which.

    `others` are its fields from `y` on, as far as they are known.
    """
    steps, batch, features = given.x.shape
    units = given.h0.shape[1]
    work = steps * batch * (features + units) * units
    precision, threads, packed = precision_of(given.x), threads_for(work), False
    sizes = (cell, precision, threads, packed, steps, batch, features, units)
    sequence = Sequence(*sizes, *map(address, (*given, *others)))
    answer = _Sizes()
    built().recurrent_sizes(ctypes.addressof(sequence), answer)
    return sequence, answer


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
