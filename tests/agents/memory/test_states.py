"""States as values: taken apart, put together, named, reset; and what is refused of any memory."""

from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from recurrent_rl.agents.kernels.safeguards import MemoryInputError
from recurrent_rl.agents.memory.cells import GRU, LSTM
from recurrent_rl.agents.memory.contract import Memory, NoMemory
from recurrent_rl.agents.memory.states import (
    GRUState,
    LSTMState,
    MatrixState,
    MemoryState,
    PairState,
    cat_states,
    differentiable,
    fault_of,
    map_state,
    names_of,
    select_state,
    tensors_of,
    with_tensors,
)
from recurrent_rl.agents.settings import SettingError

A, B, C = (torch.arange(6.0).reshape(1, 3, 2) + 10 * i for i in range(3))
PAIR = PairState(GRUState(A), LSTMState(B, C))


def test_a_state_within_a_state_is_taken_apart_in_order_and_put_together() -> None:
    assert all(found is own for found, own in zip(tensors_of(PAIR), (A, B, C), strict=True))
    assert names_of(PAIR) == ["state.actor.h", "state.critic.h", "state.critic.c"]
    again = with_tensors(PAIR, [C, A, B])
    assert isinstance(again, PairState)
    assert isinstance(again.critic, LSTMState)
    assert all(found is own for found, own in zip(tensors_of(again), (C, A, B), strict=True))


def test_streams_are_selected_and_joined_in_the_order_that_is_asked_for() -> None:
    chosen = select_state(PAIR, torch.tensor([2, 0]))
    assert tensors_of(chosen)[1][0].tolist() == [[14, 15], [10, 11]]
    joined = cat_states([PAIR, chosen])
    assert tensors_of(joined)[2][0].tolist() == [[20, 21], [22, 23], [24, 25], [24, 25], [20, 21]]


def test_numbers_that_count_have_no_gradient_and_complex_ones_do() -> None:
    turning = A.to(torch.complex64)
    assert differentiable(MatrixState(A, torch.zeros(1, 3, dtype=torch.int64)))[0] is A
    assert len(differentiable(MatrixState(A, torch.zeros(1, 3, dtype=torch.int64)))) == 1
    assert differentiable(GRUState(turning))[0] is turning


@pytest.mark.parametrize(
    ("state", "fault"),
    [
        (PAIR, None),
        (PAIR._replace(critic=LSTMState(B, C[:, :2])), "in its critic, its c is [1, 2, 2]; "),
        (GRUState(torch.zeros(3)), "its h is [3]; expected a tensor whose axis 1 is the batch, 3"),
        (GRUState(2.0), "its h is float; "),  # type: ignore[arg-type]
        ([A], "it is a list; expected a NamedTuple"),
        ((A,), "it is a tuple; expected a NamedTuple"),
    ],
)
def test_what_cannot_be_a_state_of_so_many_streams_is_named(state: Any, fault: str | None) -> None:
    found = fault_of(state, 3)
    assert found is fault if fault is None else fault in str(found)


class OnesState(NamedTuple):
    h: Tensor


class Ones(Memory):
    """Begins an episode with ones, and adds each input to them."""

    def __init__(self) -> None:
        super().__init__(2, 2)

    def initial_state(self, batch: int) -> MemoryState:
        return OnesState(torch.ones(1, batch, 2))

    def _step(
        self, x: Tensor, state: MemoryState, episode_start: Tensor | None
    ) -> tuple[Tensor, MemoryState]:
        state = map_state(lambda h: h + x, self.reset(state, episode_start))
        return tensors_of(state)[0][0], state


def test_an_episode_begins_with_the_memorys_own_initial_state() -> None:
    memory, start = Ones(), torch.tensor([False, True, False])
    (h,) = tensors_of(memory.reset(OnesState(A), start))
    assert h[0].tolist() == [[0, 1], [1, 1], [4, 5]]
    assert memory.reset(PAIR, None) is PAIR
    x = torch.full((4, 3, 2), 10.0)
    starts = torch.zeros(4, 3, dtype=torch.bool)
    starts[2, 1] = True
    y, _ = memory.unroll(x, OnesState(A), starts)
    assert y[:, 1, 0].tolist() == [12, 22, 11, 21]
    assert y[:, 2, 1].tolist() == [15, 25, 35, 45]


@pytest.mark.parametrize(
    ("x", "state", "start", "message"),
    [
        ((0, 3, 2), A, (0, 3), r"x has shape \[0, 3, 2\]; expected \[T, B, 2\] with T >= 1"),
        ((4, 3, 1), A, (4, 3), r"x has shape \[4, 3, 1\]; expected \[T, B, 2\]"),
        ((4, 3, 2), A, (4,), r"episode_start has shape \[4\] .* expected \[T, B\] = \[4, 3\]"),
        ((4, 3, 2), A, (3, 4), r"episode_start has shape \[3, 4\]"),
        ((4, 2, 2), A, (4, 2), r"shape \[1, 3, 2\] on cpu; expected \[\.\.\., B = 2, \.\.\.\]"),
        ((4, 3, 2), torch.zeros(3), (4, 3), r"shape \[3\] on cpu; expected"),
    ],
)
def test_shapes_that_do_not_fit_any_memory_are_refused(
    x: tuple[int, ...], state: Tensor, start: tuple[int, ...], message: str
) -> None:
    with pytest.raises(MemoryInputError, match=message):
        Ones().unroll(torch.zeros(x), OnesState(state), torch.zeros(start, dtype=torch.bool))


def test_weights_of_a_type_that_no_kernel_has_and_an_input_of_another_are_refused() -> None:
    memory = GRU(2, 2, 1)
    with pytest.raises(MemoryInputError, match=r"x and the state are torch.float64 on cpu"):
        memory.step(A[0].double(), GRU(2, 2, 1).double().initial_state(3))
    memory.half()
    with pytest.raises(MemoryInputError, match=r"float16; expected float32 or float64.*float\(\)"):
        memory.step(A[0].half(), memory.initial_state(3))


@pytest.mark.parametrize("sizes", [(0, 2, 1), (2, 0, 1), (2, 2, 0)])
@pytest.mark.parametrize("memory", [LSTM, NoMemory])
def test_sizes_below_one_are_refused(memory: Any, sizes: tuple[int, int, int]) -> None:
    with pytest.raises(SettingError, match=r"is 0; it must be"):
        memory(*sizes)
