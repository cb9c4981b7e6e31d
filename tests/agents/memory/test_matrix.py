"""What a matrix memory tells of its reads."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from recurrent_rl.agents.kernels.cell import reset
from recurrent_rl.agents.kernels.dispatch import VARIABLE, serving
from recurrent_rl.agents.memory.composite import GRUMatrix
from recurrent_rl.agents.memory.matrix import Matrix
from recurrent_rl.agents.memory.states import MatrixState
from tests.agents.memory.test_contract import B, F, H, make, sequence


def test_reads_are_spread_as_the_values_weigh_in_them() -> None:
    """The weights are what a read changes by with each value, here by differentiation."""
    memory = Matrix(F, H, 1).double()
    x, start = sequence(0.2)
    state, weights = memory.initial_state(B), memory.weights(0)
    reads = memory.reads(x, state, start)
    assert list(reads) == ["relative", "mirrored", "content_1", "content_2"]
    values = torch.zeros(len(x), B, memory.cell.heads * memory.values, dtype=x.dtype)
    values.requires_grad_()

    def read(values: Tensor) -> Tensor:  # of the first value of each head, [T, B, H]
        read, fields = [], tuple(field[0] for field in state)
        for t in range(len(x)):
            s, clock = reset(fields, start[t])
            q, k, _, log_decay = memory.cell.read_write(weights, x[t], clock)
            v = values[t].unflatten(-1, (memory.cell.heads, -1))
            s = log_decay.exp()[..., None, None] * s + v.unsqueeze(-1) * k.unsqueeze(-2)
            read.append((s @ q.unsqueeze(-1))[..., 0, 0])
            fields = (s, clock + 1)
        return torch.stack(read)

    jacobian: Any = torch.autograd.functional.jacobian(read, values)  # [T, B, H, T, B, H V]
    for head, found in enumerate(reads.values()):
        for b in range(B):
            w = jacobian[:, b, head, :, b, head * memory.values].abs()
            assert_close(found.steps[0, :, b], w.sum(-1) ** 2 / w.square().sum(-1))
    assert_close(sum(found.share for found in reads.values()), torch.ones(1, len(x), B).double())


@pytest.mark.parametrize("kernel", ["loop", "chunked", "compiled-matrix"])
def test_places_are_as_exact_after_a_million_steps(
    kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kernel not in serving(Matrix.cell, torch.zeros(1)):
        pytest.skip("built without a compiler")
    monkeypatch.setenv(VARIABLE, kernel)
    torch.manual_seed(0)
    memory = Matrix(F, 32, 1)
    x, _ = sequence(0.0, torch.float32)
    s, clock = memory.initial_state(B)
    state = MatrixState(s, clock + 1_000_000)
    y, _ = memory.unroll(x, state)
    exact, _ = memory.double().unroll(x.double(), MatrixState(s.double(), state.clock))
    assert_close(y.double(), exact, rtol=0, atol=1e-5)


def test_the_share_of_a_head_that_is_not_shown_is_zero() -> None:
    memory = make("gru-matrix", 2)
    assert isinstance(memory, GRUMatrix)
    for layer in range(2):
        memory.matrix.weights(layer).output.detach()[:, : memory.matrix.values] = 0
    x, start = sequence(0.2)
    reads = memory.reads(x, memory.initial_state(B), start)
    assert reads["relative"].share.shape == (2, len(x), B)
    assert (reads["relative"].share == 0).all()
    assert (reads["mirrored"].share > 0).all()
    assert memory.gru.reads(x, memory.gru.initial_state(B), start) == {}
