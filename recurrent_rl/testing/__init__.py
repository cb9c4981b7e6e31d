"""Whether a memory keeps its contract: the checks that our own are held to, for one of yours.

    from recurrent_rl.testing import check_memory

    def test_my_memory_keeps_the_contract():
        check_memory(MyMemory)

Each check says in an AssertionError what was expected.
"""

from __future__ import annotations

from collections.abc import Callable

from recurrent_rl.agents.arguments import check_is
from recurrent_rl.agents.generators import forked_torch_state
from recurrent_rl.agents.memory.registry import MEMORIES
from recurrent_rl.testing.case import Case, MakeMemory
from recurrent_rl.testing.module import check_files, check_nothing_kept, check_seed
from recurrent_rl.testing.sequences import (
    check_gradients,
    check_no_leak_of_gradients,
    check_no_leak_of_values,
    check_streams,
    check_values,
)
from recurrent_rl.testing.shapes import check_dtypes, check_outputs, check_states

__all__ = ["CHECKS", "check_memory"]

CHECKS: dict[str, Callable[[Case], None]] = {
    "states": check_states,
    "outputs": check_outputs,
    "values of unroll": check_values,
    "gradients of unroll": check_gradients,
    "no leak of values": check_no_leak_of_values,
    "no leak of gradients": check_no_leak_of_gradients,
    "independent streams": check_streams,
    "nothing kept": check_nothing_kept,
    "seed": check_seed,
    "files": check_files,
    "types": check_dtypes,
}
"""What is tried, by name."""


def check_memory(make: MakeMemory) -> None:
    """Try whether a memory keeps its contract, with one layer and with two.

    What is tried is in `CHECKS`, by name. Random numbers are drawn from a seed of its own, and the
    caller's stay as they are.

    Args:
        make: the class, or a function that makes one: from input_size, hidden_size and num_layers.

    Raises:
        AssertionError: it does not; says what was expected.
    """
    check_is("make", make, Callable, "a class of a memory, or a function that makes one")
    if isinstance(make, type) and (fault := MEMORIES.fault(make)):
        raise AssertionError(f"{make.__name__}: {fault}.")
    for num_layers in (1, 2):
        for check in CHECKS.values():
            with forked_torch_state():
                check(Case(make, num_layers))
