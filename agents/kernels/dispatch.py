"""Ways to unroll one layer of a memory, held to one oracle: the loop.

| name | what | where |
|---|---|---|
| compiled | the sequence in C, forward and backward (`sequence.c`) | CPU, where it was built |
| compiled-rotor | the rotor's factors and scan in C, both ways | CPU, where it was built |
| insertion | one call of torch's own kernel, whatever the resets | LSTM and GRU, any device |
| scan | a linear recurrence for all steps at once | the linear cells, any device |
| loop | step by step | everything, everywhere |

A memory names those that can serve it, best first; the first that is there is taken. The variable
`RECURRENT_RL_KERNEL` in the environment names another, for measurements and to find faults.
"""

from __future__ import annotations

import os
from typing import Any, Protocol

from torch import Tensor

from recurrent_rl.agents.errors import UserError
from recurrent_rl.agents.kernels import compiled, compiled_rotor, insertion, loop, scan
from recurrent_rl.agents.memory.states import LayerState

VARIABLE = "RECURRENT_RL_KERNEL"


class Kernel(Protocol):
    """Unrolls one layer of a memory."""

    def __call__(
        self, memory: Any, x: Tensor, fields: LayerState, episode_start: Tensor | None, layer: int
    ) -> tuple[Tensor, LayerState]:
        """Run over `[T, B, F]`, T >= 1 and B >= 1, where `Memory.unroll` has checked all inputs.

        Args:
            memory: of a class that names this kernel in `kernels`.
            x: `[T, B, F]`.
            fields: the layer's state before the first step, `[B, hidden]` each.
            episode_start: bool `[T, B]`; None: all false.
            layer: its number.

        Returns:
            Outputs `[T, B, hidden]`, and the fields after the last step.
        """
        ...


KERNELS: dict[str, Kernel] = {
    "compiled": compiled.unroll,
    "compiled-rotor": compiled_rotor.unroll,
    "insertion": insertion.unroll,
    "scan": scan.unroll,
    "loop": loop.unroll,
}


STEPS: dict[str, Kernel] = {"compiled": compiled.step, "compiled-rotor": compiled_rotor.step}
"""How the kernels that were built from C take a single step, `[B, F]`."""


def choose_kernel(names: tuple[str, ...], x: Tensor) -> str:
    """The first of these kernels that can run here, or the one that the environment asks for.

    Args:
        names: of kernels that serve the memory, best first.
        x: the input, `[T, B, F]` or `[B, F]`. Where it is empty the loop is taken, which needs no
            care for that.

    Raises:
        UserError: the environment asks for a kernel that there is not.
    """
    wanted = os.environ.get(VARIABLE)
    if wanted:
        if wanted not in KERNELS:
            raise UserError(
                f"{VARIABLE} is {wanted!r}; choose one of {', '.join(KERNELS)}, or unset it."
            )
        names = (wanted, *names) if wanted in names else names
    if not x.numel():
        return "loop"
    return next(name for name in names if name not in STEPS or compiled.serves(x))
