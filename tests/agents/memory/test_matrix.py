"""How a matrix memory starts, and what it tells of its reads."""

import math
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
from tests.agents.memory.cases import B, F, H, make, sequence


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


@torch.no_grad()
def test_what_is_shown_are_scaled_reads_waves_of_what_content_heads_read_and_the_input() -> None:
    memory = Matrix(F, 32, 1).double()
    weights, heads, values = memory.weights(0), memory.cell.heads, memory.values
    generator = torch.Generator().manual_seed(0)
    o = 5 * torch.randn(7, heads, values, generator=generator, dtype=torch.float64)
    x = torch.randn(7, F, generator=generator, dtype=torch.float64)
    for row, (reads, seen) in enumerate(zip(o, x, strict=True)):
        sizes = [math.sqrt(1 + sum(v * v for v in head) / values) for head in reads.tolist()]
        shown = [v / s for head, s in zip(reads.tolist(), sizes, strict=True) for v in head]
        counts = [v for head in reads[2:].tolist() for v in head]
        phases = [c * f for c, f in zip(counts, weights.frequency.tolist(), strict=True)]
        known = [math.exp(-((p / 10) ** 2) / 2) for p in phases]
        shown += [g * math.cos(p) for g, p in zip(known, phases, strict=True)]
        shown += [g * math.sin(p) for g, p in zip(known, phases, strict=True)]
        z = weights.output @ torch.tensor(shown + seen.tolist(), dtype=torch.float64)
        gelu = z * (1 + torch.erf(z / math.sqrt(2))) / 2
        assert_close(memory.cell.output(weights, o, x)[row], gelu)


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
    matrix = memory.other
    assert isinstance(matrix, Matrix)
    for layer in range(2):
        matrix.weights(layer).output.detach()[:, : matrix.values] = 0
    x, start = sequence(0.2)
    reads = memory.reads(x, memory.initial_state(B), start)
    assert reads["relative"].share.shape == (2, len(x), B)
    assert (reads["relative"].share == 0).all()
    assert (reads["mirrored"].share > 0).all()
    assert memory.gru.reads(x, memory.gru.initial_state(B), start) == {}


@torch.no_grad()
def test_the_share_of_a_head_that_reads_nothing_is_zero() -> None:
    memory = Matrix(F, 16, 1)
    weights, heads = memory.weights(0), memory.cell.heads
    of_values = slice(2 * heads * 16 + memory.values, 2 * heads * 16 + 2 * memory.values)
    weights.input[of_values] = 0
    weights.bias[of_values] = 0
    x, start = sequence(0.2, torch.float32)
    reads = memory.reads(x, memory.initial_state(B), start)
    assert (reads["mirrored"].share == 0).all()
    assert (reads["relative"].share > 0).all()


@torch.no_grad()
def test_keys_that_turn_start_as_the_bare_place_and_decays_as_the_horizon_says() -> None:
    torch.manual_seed(0)
    memory = Matrix(F, 64, 2)
    still = memory.gates(torch.zeros(B, F), memory.initial_state(B))["decay"]
    assert_close(still, torch.full_like(still, 0.5))
    memory.initialise_time_scales(30)
    assert memory.output_size == 128
    for layer, columns in enumerate((F, 128)):
        weights = memory.weights(layer)
        nothing = torch.zeros(1, columns)
        q, k, v, log_decay = (
            x[0] for x in memory.cell.read_write(weights, nothing, torch.zeros(1))
        )
        # Before the first step the place is (1, ..., 1; 0, ..., 0).
        assert_close(k[:2], torch.cat([torch.ones(2, 32), torch.zeros(2, 32)], -1))
        assert 0.05 < float(q[:2].std()) < 0.15
        assert_close(v, torch.tensor([[0.0]] * 2 + [[1.0]] * 2).expand(4, 8))
        # A head that keeps the share s forgets within 1 / (1 - s) steps.
        wanted = 30 * torch.tensor([4 / 3, 2.9, 6.2, 13.3])
        assert_close(1 / (1 - log_decay.exp()), wanted, rtol=0.03, atol=0)
        # What is seen has less of a say in turning queries and keys than in the others.
        for rows in weights.input[: 2 * 4 * 64].split(4 * 64):
            share = rows[: 2 * 64].std() / rows[2 * 64 :].std()
            assert_close(share, torch.tensor(0.3), rtol=0.15, atol=0)
        # Each head that turns has angles over half a circle, so that it tells 64 places apart.
        steps = weights.theta.sort(-1).values.diff(dim=-1)
        assert_close(steps, torch.full((2, 31), math.pi / 32), rtol=1e-4, atol=0)
        even = math.pi * (torch.arange(16) + 0.5) / 16
        assert_close(weights.frequency, even, rtol=1e-6, atol=0)
