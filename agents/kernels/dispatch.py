"""Ways to compute one layer over time, held to one oracle: the loop.

| name | what | where |
|---|---|---|
| compiled | the sequence in C, forward and backward (`csrc/sequence.c`) | CPU, where it was built |
| compiled-rotor | the rotor's factors and scan in C, both ways | CPU, where it was built |
| compiled-matrix | matrix memories in C, both ways | CPU, where it was built |
| insertion | one call of torch's own kernel, whatever the resets | LSTM and GRU, any device |
| scan | a linear recurrence for all steps at once | the linear cells, any device |
| chunked | a chunk of steps at once, as products of matrices | matrix memories, any device |
| loop | step by step | everything, everywhere |

The first that serves a cell is taken. The variable `RECURRENT_RL_KERNEL` in the environment names
another, for measurements and to find faults.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor

from recurrent_rl.agents.errors import UserError
from recurrent_rl.agents.kernels import (
    chunked,
    compiled,
    compiled_matrix,
    compiled_rotor,
    insertion,
    loop,
    scan,
)
from recurrent_rl.agents.kernels.cell import Cell, LayerState, reset
from recurrent_rl.agents.kernels.library import keeps_steps, kept_steps

VARIABLE = "RECURRENT_RL_KERNEL"


class Kernel(Protocol):
    """A way to unroll one layer."""

    def serves(self, cell: Any, x: Tensor) -> bool:
        """Whether it can compute this cell with an input of this type, on its device."""
        ...

    def unroll(
        self, cell: Any, weights: Any, x: Tensor, state: LayerState, episode_start: Tensor | None
    ) -> tuple[Tensor, LayerState]:
        """Run over `[T, B, F]`, T >= 1 and B >= 1, where all inputs have been checked.

        Args:
            cell: one that it serves.
            weights: of the layer.
            x: `[T, B, F]`.
            state: the layer's fields before the first step, `[B, ...]` each.
            episode_start: bool `[T, B]`; None: all false.

        Returns:
            Outputs `[T, B, units]`, and the fields after the last step.
        """
        ...


KERNELS: dict[str, Kernel] = {
    "compiled": compiled,
    "compiled-rotor": compiled_rotor,
    "compiled-matrix": compiled_matrix,
    "insertion": insertion,
    "scan": scan,
    "chunked": chunked,
    "loop": loop,
}
"""Best first."""

STEPS: dict[str, Callable[..., tuple[Tensor, LayerState]]] = {
    "compiled": compiled.step,
    "compiled-rotor": compiled_rotor.step,
    "compiled-matrix": compiled_matrix.step,
}
"""How the kernels that were built from C take a single step."""


def serving(cell: Cell, x: Tensor) -> list[str]:
    """The kernels that can compute this cell with such an input, best first."""
    return [name for name, kernel in KERNELS.items() if kernel.serves(cell, x)]


def choose_kernel(cell: Cell, x: Tensor) -> str:
    """The best kernel that serves, or the one that `RECURRENT_RL_KERNEL` names.

    Args:
        cell: to be computed.
        x: the input, `[T, B, F]` or `[B, F]`. Where it is empty the loop is taken, which needs no
            care for that.

    Raises:
        UserError: the variable names no kernel.
    """
    wanted = os.environ.get(VARIABLE)
    if wanted and wanted not in KERNELS:
        raise UserError(
            f"{VARIABLE} is {wanted!r}; choose one of {', '.join(KERNELS)}, or unset it."
        )
    if not x.numel():
        return "loop"
    if wanted and KERNELS[wanted].serves(cell, x):
        return wanted
    return next(name for name, kernel in KERNELS.items() if kernel.serves(cell, x))


def unroll(
    cell: Cell, weights: Any, x: Tensor, state: LayerState, episode_start: Tensor | None = None
) -> tuple[Tensor, LayerState]:
    """One layer over a sequence, by the kernel that `choose_kernel` names; see `Kernel.unroll`."""
    return KERNELS[choose_kernel(cell, x)].unroll(cell, weights, x, state, episode_start)


def step(
    cell: Cell, weights: Any, x: Tensor, state: LayerState, episode_start: Tensor | None = None
) -> tuple[Tensor, LayerState]:
    """One layer, one step: as `unroll` with `x` `[B, F]` and `episode_start` `[B]`.

    A single step is worth a kernel's preparations only inside `frozen_weights`.
    """
    if keeps_steps() and (compiled_step := _kept_choice(cell, x)) is not None:
        return compiled_step(cell, weights, x, state, episode_start)
    if episode_start is not None:
        state = reset(state, episode_start)
    return cell.step(weights, x, state)


def _kept_choice(cell: Cell, x: Tensor) -> Callable[..., tuple[Tensor, LayerState]] | None:
    """How the best kernel takes a step, chosen once for such inputs; None: it takes none."""
    kept, key = kept_steps(), (cell.name, x.shape, x.dtype, x.device)
    if key not in kept:
        kept[key] = STEPS.get(choose_kernel(cell, x))
    chosen: Callable[..., tuple[Tensor, LayerState]] | None = kept[key]
    return chosen
