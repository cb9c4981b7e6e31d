"""The oracles of every memory: unroll = repeated step = torch's cells on each episode alone."""

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from recurrent_rl.agents.kernels import library
from recurrent_rl.agents.kernels.dispatch import VARIABLE, serving
from recurrent_rl.agents.memory.cells import LSTM, TorchMemory
from recurrent_rl.agents.memory.composite import GRURotor
from recurrent_rl.agents.memory.layered import LayeredMemory
from recurrent_rl.agents.memory.linear_cells import Rotor, rotor
from recurrent_rl.agents.memory.registry import MEMORIES, make_memory
from recurrent_rl.agents.memory.states import (
    CompositeState,
    GRUState,
    LinearState,
    LSTMState,
    MemoryState,
    cat_states,
    select_state,
    tensors_of,
)
from recurrent_rl.testing import check_memory
from tests.agents.memory.cases import RECURRENT, B, F, H, T, make, sequence, some_state

SERVED = [
    (name, kernel)
    for name in RECURRENT
    for memory in [make_memory(name, 1, 2, 1)]
    if isinstance(memory, LayeredMemory)
    for kernel in serving(memory.cell, torch.zeros(1))
]
TORCH_LAYERS: dict[str, Any] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


def gradients(outputs: Tensor, state: MemoryState, wanted: list[Tensor]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    total = sum(
        (x * torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x.dtype)).sum()
        for x in (outputs, *state)
    )
    assert isinstance(total, Tensor)
    found = torch.autograd.grad(total, wanted, allow_unused=True)
    return [torch.zeros_like(w) if g is None else g for w, g in zip(wanted, found, strict=True)]


@pytest.mark.parametrize(
    ("name", "kernel"), [*SERVED, *((name, "") for name in ("none", "gru-rotor", "gru-matrix"))]
)
def test_our_memories_keep_the_contract_with_every_kernel(
    name: str, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, kernel)
    check_memory(MEMORIES[name])


@pytest.mark.parametrize(("name", "kernel"), SERVED)
def test_unroll_equals_repeated_step_in_single_precision(
    name: str, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, kernel)
    memory = make(name, 2, torch.float32)
    x, start = sequence(0.2, torch.float32)
    x.requires_grad_()
    wanted = [x, *memory.parameters()]
    whole, end = memory.unroll(x, some_state(memory), start)
    state, outputs = some_state(memory), []
    for t in range(T):
        y, state = memory.step(x[t], state, start[t])
        outputs.append(y)
    stepped = torch.stack(outputs)
    assert_close(whole, stepped, rtol=1e-5, atol=3e-6)
    for a, b in zip(gradients(whole, end, wanted), gradients(stepped, state, wanted), strict=True):
        assert_close(a, b, rtol=1e-4, atol=1e-5 * max(1.0, float(b.abs().max())))


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("name", list(TORCH_LAYERS))
def test_each_episode_is_what_torch_computes_on_it_alone(name: str, layers: int) -> None:
    memory = make(name, layers)
    assert isinstance(memory, TorchMemory)
    layer = TORCH_LAYERS[name](F, H, layers).double()
    layer.load_state_dict(memory.torch_layer.state_dict())
    x, start = sequence(0.2)
    x.requires_grad_()
    whole, _ = memory.unroll(x, memory.initial_state(B), start)
    alone = torch.empty_like(whole)
    for b in range(B):
        cuts = sorted({0, *start[:, b].nonzero().squeeze(1).tolist(), T})
        for begin, stop in pairwise(cuts):
            alone[begin:stop, b], _ = layer(x[begin:stop, b])
    assert_close(whole, alone)
    weights = list(memory.parameters())
    ours = torch.autograd.grad(whole.square().sum(), [x, *weights])
    torchs = torch.autograd.grad(alone.square().sum(), [x, *layer.parameters()])
    for a, b_ in zip(ours, torchs, strict=True):
        assert_close(a, b_)


@pytest.mark.parametrize("name", dict(SERVED))
def test_gradients_agree_with_finite_differences(name: str) -> None:
    memory = make(name, 2)
    x, start = sequence(0.3)

    def run(x: Tensor) -> Tensor:
        return memory.unroll(x, memory.initial_state(2), start[:4, :2])[0]

    assert torch.autograd.gradcheck(run, x[:4, :2].clone().requires_grad_())


@pytest.mark.parametrize("name", ["lstm", "lstm-peephole", "gru", "gru-original"])
def test_the_gates_are_those_the_step_uses(name: str) -> None:
    memory = make(name, 2)
    x, _ = sequence(0.0)
    state = some_state(memory)
    never = torch.zeros(B, dtype=torch.bool)
    gates = memory.gates(x[0], state)
    assert set(gates) == set(memory.gate_names)
    for gate in gates.values():
        assert gate.shape == (2, B, H)
        assert ((gate >= 0) & (gate <= 1)).all()
    # A unit whose keeping gate is 1 and, in an LSTM, whose input gate is 0 is left as it was.
    _, after = memory.step(x[0], state, never)
    if isinstance(state, LSTMState) and isinstance(after, LSTMState):
        candidate = (after.c - gates["forget"] * state.c) / gates["input"]
        assert (candidate.abs() <= 1 + 1e-9).all()
        assert_close(after.h, gates["output"] * torch.tanh(after.c))
    elif isinstance(state, GRUState) and isinstance(after, GRUState):
        candidate = (after.h - gates["update"] * state.h) / (1 - gates["update"])
        assert (candidate.abs() <= 1 + 1e-9).all()


@pytest.mark.parametrize("name", list(TORCH_LAYERS))
def test_weights_of_torch_layers_are_taken_over(name: str) -> None:
    layer = TORCH_LAYERS[name](F, H, 2).double()
    memory = make(name, 2)
    assert isinstance(memory, TorchMemory)
    memory.torch_layer.load_state_dict(layer.state_dict())
    x, _ = sequence(0.0)
    y, _ = memory.unroll(x, memory.initial_state(B), torch.zeros(T, B, dtype=torch.bool))
    assert_close(y, layer(x)[0])


def test_a_rotor_turned_back_gives_what_it_was_given_in_reverse() -> None:
    memory = make_memory("rotor", 1, 6, 1)
    assert isinstance(memory, Rotor)
    with torch.no_grad():
        weight, bias = memory.weight_l0, memory.bias_l0
        assert isinstance(weight, torch.Tensor)
        assert isinstance(bias, torch.Tensor)
        weight.zero_()
        bias.zero_()
        bias[6:9] = 30.0  # keep all
        weight[9:] = 30.0  # rotate as the input's sign says
        h = memory.cell.from_state(torch.randn(1, 6))
        first = h.clone()
        states = []
        for sign in (1.0, 1.0, 1.0, -1.0, -1.0, -1.0):
            a, b = rotor(memory.weights(0), torch.full((1, 1), sign))
            states.append(h)
            h = a * h + b
    assert_close(h, first)
    assert_close(states[5], states[1])
    assert not torch.allclose(states[1], first)


def test_a_gru_and_a_rotor_side_by_side_do_what_each_does_alone() -> None:
    torch.manual_seed(0)
    both = make_memory("gru-rotor", 3, 8, 2, horizon=50)
    assert isinstance(both, GRURotor)
    x, start = torch.randn(9, 5, 3), torch.rand(9, 5) < 0.3
    y, state = both.unroll(x, both.initial_state(5), start)
    outputs, states = zip(
        *(part.unroll(x, part.initial_state(5), start) for part in (both.gru, both.other)),
        strict=True,
    )
    assert [out.shape[-1] for out in outputs] == [8, 16]
    assert torch.equal(y, torch.cat(outputs, dim=-1))
    assert isinstance(state, CompositeState)
    assert all(map(torch.equal, tensors_of(state), tensors_of(CompositeState(*states))))


@pytest.mark.parametrize("hidden", [1, 3])
def test_a_gru_and_a_rotor_of_an_odd_size_step_and_unroll_alike(hidden: int) -> None:
    memory = make_memory("gru-rotor", F, hidden, 2, horizon=50).double()
    x, start = sequence(0.3)
    whole, _ = memory.unroll(x, memory.initial_state(B), start)
    state = memory.initial_state(B)
    for t in range(T):
        y, state = memory.step(x[t], state, start[t])
        assert_close(y, whole[t])


@pytest.mark.parametrize("name", list(MEMORIES))
def test_an_empty_batch_has_empty_outputs_and_gradients_of_zero(name: str) -> None:
    memory = make(name, 2)
    x = torch.zeros(T, 0, F, dtype=torch.float64, requires_grad=True)
    start = torch.zeros(T, 0, dtype=torch.bool)
    y, _ = memory.unroll(x, memory.initial_state(0), start)
    assert y.shape == (T, 0, memory.output_size)
    y.sum().backward()
    assert all(p.grad is None or (p.grad == 0).all() for p in memory.parameters())
    with torch.no_grad(), library.frozen_weights():
        assert memory.step(x[0], memory.initial_state(0))[0].shape == (0, memory.output_size)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("low", [-50.0, -200.0, -2000.0])
def test_the_shares_of_a_minlstm_are_right_where_both_gates_are_shut(
    low: float, dtype: torch.dtype
) -> None:
    memory = make_memory("minlstm", 1, 1, 1).to(dtype)
    with torch.no_grad():
        memory.get_parameter("weight_l0").copy_(torch.tensor([[0.0], [0.0], [1.0]]))
        memory.get_parameter("bias_l0").copy_(torch.tensor([low, low - 1, 0.0]))
    x = torch.full((1, 1), 3.0, dtype=dtype)
    y, _ = memory.step(x, LinearState(torch.ones(1, 1, 1, dtype=dtype)))
    keep = 1 / (1 + math.exp(-1))  # e^low / (e^low + e^(low - 1))
    assert float(y.detach()) == pytest.approx(keep + 3 * (1 - keep), rel=1e-5)
    y.sum().backward()
    found = memory.get_parameter("bias_l0").grad
    assert found is not None
    slope = keep * (1 - keep) * (1 - 3)
    assert found.tolist() == pytest.approx([slope, -slope, 1 - keep], rel=1e-4)


def test_states_are_selected_joined_and_reset_by_stream() -> None:
    state = LSTMState(torch.arange(6.0).reshape(1, 3, 2), torch.ones(1, 3, 2))
    chosen = select_state(state, torch.tensor([2, 0]))
    assert isinstance(chosen, LSTMState)
    assert chosen.h[0].tolist() == [[4, 5], [0, 1]]
    both = cat_states([state, chosen])
    assert isinstance(both, LSTMState)
    assert both.h.shape == (1, 5, 2)
    fresh = LSTM(F, 2, 1).reset(state, torch.tensor([False, True, False]))
    assert isinstance(fresh, LSTMState)
    assert fresh.h[0].tolist() == [[0, 1], [0, 0], [4, 5]]
