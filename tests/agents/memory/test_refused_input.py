"""What a memory refuses, by name: shapes, types and states that are not its own."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from recurrent_rl.agents.kernels import library
from recurrent_rl.agents.kernels.safeguards import MemoryInputError
from recurrent_rl.agents.memory.cells import GRU, RNN
from recurrent_rl.agents.memory.contract import Memory
from recurrent_rl.agents.memory.registry import make_memory
from recurrent_rl.agents.memory.states import (
    CompositeState,
    GRUState,
    MemoryState,
    RNNState,
)
from tests.agents.memory.cases import RECURRENT, B, F, H, make, sequence


@pytest.mark.parametrize(
    ("x", "state", "start", "message"),
    [
        ((2, 4), (1, 2, 6), torch.bool, r"x has shape \[2, 4\]; expected \[B, 3\]"),
        ((2, 3), (1, 3, 6), torch.bool, r"state.h has shape \[1, 3, 6\]; expected .* \[1, 2, 6\]"),
        ((2, 3), (1, 2, 6), torch.float32, "episode_start .* expected .* torch.bool"),
    ],
)
def test_wrong_shapes_and_types_are_refused(
    x: tuple[int, ...], state: tuple[int, ...], start: torch.dtype, message: str
) -> None:
    memory = GRU(F, H, 1)
    with pytest.raises(ValueError, match=message):
        memory.step(torch.zeros(x), GRUState(torch.zeros(state)), torch.zeros(2, dtype=start))


@pytest.mark.parametrize("name", RECURRENT)
def test_an_input_and_a_state_of_another_type_than_the_weights_are_refused(name: str) -> None:
    memory = make(name, dtype=torch.float32)
    state = make(name).initial_state(B)
    x, start = sequence(0.2)
    with pytest.raises(MemoryInputError, match="float64 on cpu"):
        memory.unroll(x, state, start)
    with torch.no_grad(), library.frozen_weights():
        for _ in range(2):
            with pytest.raises(MemoryInputError, match="float64 on cpu"):
                memory.step(x[0], state, start[0])
    with pytest.raises(MemoryInputError, match="float64 on cpu"):
        memory.step(x[0], state, start[0])


def test_the_state_of_another_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="The state is a GRUState; RNN needs a RNNState"):
        RNN(F, H, 1).step(torch.zeros(2, F), GRUState(torch.zeros(1, 2, H)), torch.zeros(2).bool())


def test_a_part_of_a_composite_that_is_another_memorys_is_refused() -> None:
    memory = make("gru-matrix")
    gru, matrix = memory.initial_state(B)
    x = torch.zeros(B, F, dtype=torch.float64)
    with pytest.raises(ValueError, match="The state is a MatrixState; GRU needs a GRUState"):
        memory.step(x, CompositeState(matrix, gru))
    with pytest.raises(ValueError, match=r"state.clock is torch.float64; expected torch.int64"):
        memory.step(x, CompositeState(gru, matrix._replace(clock=matrix.clock.double())))
    with pytest.raises(ValueError, match=r"state.s is torch.int64"):
        memory.step(x, CompositeState(gru, matrix._replace(s=matrix.s.long())))


class Sum(Memory):
    """A memory of one's own: the sum of what it was shown."""

    state_type = RNNState

    def initial_state(self, batch: int) -> MemoryState:
        return RNNState(torch.zeros(1, batch, self.input_size))

    def _step(
        self, x: Tensor, state: MemoryState, episode_start: Tensor | None
    ) -> tuple[Tensor, MemoryState]:
        return state[0][0] + x, RNNState(state[0] + x)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (RNNState(torch.zeros(1, 3, F)), r"shape \[1, 3, 3\] on cpu; expected \[..., B = 4, ...\]"),
        (RNNState(torch.zeros(4)), r"shape \[4\] on cpu"),
        (RNNState(torch.zeros(1, 4, F, device="meta")), r"on meta; expected .* on cpu"),
        (GRUState(torch.zeros(1, 4, F)), "The state is a GRUState; Sum needs a RNNState"),
    ],
)
def test_the_state_of_a_memory_of_ones_own_is_checked(state: MemoryState, message: str) -> None:
    memory = Sum(F, F)
    y, end = memory.step(torch.ones(B, F), memory.initial_state(B))
    assert_close(memory.step(torch.ones(B, F), end)[0], 2 * y)
    with pytest.raises(MemoryInputError, match=message):
        memory.step(torch.ones(B, F), state)


def test_an_unknown_memory_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ValueError, match=r"memory is 'lsmt'; .* Did you mean lstm\?"):
        make_memory("lsmt", 1, 1, 1)
