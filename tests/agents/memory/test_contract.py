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
from recurrent_rl.agents.kernels.safeguards import MemoryInputError
from recurrent_rl.agents.kernels.scan import linear_scan
from recurrent_rl.agents.memory.cells import GRU, LSTM, RNN, TorchMemory
from recurrent_rl.agents.memory.composite import GRURotor
from recurrent_rl.agents.memory.contract import Memory
from recurrent_rl.agents.memory.layered import LayeredMemory
from recurrent_rl.agents.memory.linear_cells import LRU, ComplexMemory, Rotor, rotor
from recurrent_rl.agents.memory.registry import MEMORIES, make_memory
from recurrent_rl.agents.memory.states import (
    CompositeState,
    GRUState,
    LinearState,
    LSTMState,
    MemoryState,
    RNNState,
    cat_states,
    differentiable,
    map_state,
    select_state,
    tensors_of,
)

T, B, F, H = 11, 4, 3, 6
RECURRENT = [name for name in MEMORIES if name != "none"]
SERVED = [
    (name, kernel)
    for name in RECURRENT
    for memory in [make_memory(name, 1, 2, 1)]
    if isinstance(memory, LayeredMemory)
    for kernel in serving(memory.cell, torch.zeros(1))
]
GATED = ["lstm", "lstm-peephole", "gru", "gru-original", "mingru", "minlstm"]
TORCH_LAYERS: dict[str, Any] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


def make(name: str, layers: int = 1, dtype: torch.dtype = torch.float64) -> Memory:
    torch.manual_seed(0)
    memory = make_memory(name, F, H, layers).to(dtype)
    with torch.no_grad():  # biases and peepholes start at zero: give them something to do
        for parameter in memory.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return memory


def sequence(rate: float | str, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(T, B, F, generator=generator, dtype=torch.float64).to(dtype)
    if rate == "lockstep":
        start = torch.zeros(T, B, dtype=torch.bool)
        start[[0, 4, 5]] = True
        return x, start
    return x, torch.rand(T, B, generator=generator) < float(rate)


def some_state(memory: Memory) -> MemoryState:
    generator = torch.Generator().manual_seed(2)

    def some(field: Tensor) -> Tensor:
        x = torch.randn(field.shape, generator=generator, dtype=torch.float64)
        return (x if field.is_floating_point() else (100 * x).abs()).to(field.dtype)

    return map_state(some, memory.initial_state(B))


def gradients(outputs: Tensor, state: MemoryState, wanted: list[Tensor]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    total = sum(
        (x * torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x.dtype)).sum()
        for x in (outputs, *state)
    )
    assert isinstance(total, Tensor)
    found = torch.autograd.grad(total, wanted, allow_unused=True)
    return [torch.zeros_like(w) if g is None else g for w, g in zip(wanted, found, strict=True)]


@pytest.mark.parametrize("rate", [0.0, 0.02, 0.2, 1.0, "lockstep"])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize(("name", "kernel"), [*SERVED, ("none", "")])
def test_unroll_equals_repeated_step(
    name: str, kernel: str, layers: int, rate: float | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, kernel)
    memory = make(name, layers)
    x, start = sequence(rate)
    x.requires_grad_()
    initial = some_state(memory)
    of_state = differentiable(initial)
    for field in of_state:
        field.requires_grad_()
    wanted = [x, *of_state, *memory.parameters()]

    whole, end = memory.unroll(x, initial, start)
    state, outputs = initial, []
    for t in range(T):
        y, state = memory.step(x[t], state, start[t])
        outputs.append(y)
    stepped = torch.stack(outputs)

    assert_close(whole, stepped)
    for a, b in zip(end, state, strict=True):
        assert_close(a, b)
    for a, b in zip(gradients(whole, end, wanted), gradients(stepped, state, wanted), strict=True):
        assert_close(a, b)


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


@pytest.mark.parametrize(("name", "kernel"), SERVED)
def test_no_gradient_reaches_another_episode(
    name: str, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, kernel)
    memory = make(name, 2)
    x, _ = sequence(0.0)
    x.requires_grad_()
    initial = some_state(memory)
    of_state = differentiable(initial)
    for field in of_state:
        field.requires_grad_()
    start = torch.zeros(T, B, dtype=torch.bool)
    start[6, 1] = True
    y, _ = memory.unroll(x, initial, start)
    found = torch.autograd.grad(y[6:, 1].sum(), [x, *of_state])
    assert (found[0][:6] == 0).all()
    assert (found[0][6:, 1] != 0).any()
    assert all((g == 0).all() for g in found[1:])
    y, _ = memory.unroll(x, initial, start)
    (before,) = torch.autograd.grad(y[:6, 1].sum(), [x])
    assert (before[6:] == 0).all()


@pytest.mark.parametrize(("name", "kernel"), SERVED)
def test_a_start_at_the_first_step_ignores_the_given_state(
    name: str, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, kernel)
    memory = make(name)
    x, start = sequence(0.0)
    start[0] = True
    given, _ = memory.unroll(x, some_state(memory), start)
    fresh, _ = memory.unroll(x, memory.initial_state(B), start)
    assert torch.equal(given, fresh)


@pytest.mark.parametrize("name", list(MEMORIES))
def test_two_halves_make_a_whole(name: str) -> None:
    memory = make(name, 2)
    x, start = sequence(0.2)
    whole, end = memory.unroll(x, some_state(memory), start)
    first, middle = memory.unroll(x[:5], some_state(memory), start[:5])
    second, last = memory.unroll(x[5:], middle, start[5:])
    assert_close(whole, torch.cat([first, second]))
    for a, b in zip(end, last, strict=True):
        assert_close(a, b)


@pytest.mark.parametrize(("name", "kernel"), SERVED)
def test_gradients_agree_with_finite_differences(
    name: str, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, kernel)
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
    memory.load_torch(layer)
    x, _ = sequence(0.0)
    y, _ = memory.unroll(x, memory.initial_state(B), torch.zeros(T, B, dtype=torch.bool))
    assert_close(y, layer(x)[0])


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.LSTM(F, H + 1), "hidden_size is 7, not 6"),
        (nn.LSTM(F, H, bidirectional=True), "bidirectional is True, not False"),
        (nn.LSTM(F, H, bias=False), "bias is False"),
        (nn.LSTM(F, H, proj_size=2), "proj_size is 2"),
        (nn.GRU(F, H), "GRU"),
    ],
)
def test_weights_of_other_layers_are_refused(layer: nn.RNNBase, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LSTM(F, H, 1).load_torch(layer)


@pytest.mark.parametrize("name", GATED)
def test_gates_are_set_to_hold_from_one_step_to_the_horizon(name: str) -> None:
    torch.manual_seed(0)
    memory = make_memory(name, 4, 500, 1, horizon=100)
    with torch.no_grad():
        gates = memory.gates(torch.zeros(1, 4), memory.initial_state(1))
    keep = gates["forget" if "lstm" in name else "update"]
    if name == "mingru":  # its update gate is the one that writes
        keep = 1 - keep
    # A gate of log(u) keeps u / (1 + u): a unit forgets within 1 + u steps, u from 1 to 99.
    quick, steps = (1 / (1 - keep)).squeeze().chunk(2)
    assert_close(quick, torch.full((250,), 2.0), rtol=0.5, atol=0)
    assert 2 <= float(steps.min()) < 5
    assert 95 < float(steps.max()) <= 100.01
    if "lstm" in name:
        assert_close(gates["input"][..., 250:], 1 - keep[..., 250:])


@pytest.mark.parametrize("hidden", [1, 5])
def test_of_an_odd_number_of_units_the_greater_half_is_slow(hidden: int) -> None:
    torch.manual_seed(0)
    memory = make_memory("gru", 4, hidden, 2, horizon=10**9)
    assert isinstance(memory, GRU)
    for layer in range(2):
        bias = memory.weights(layer).bias.detach()[hidden : 2 * hidden]
        assert (bias != 0).tolist() == [i >= hidden // 2 for i in range(hidden)]


@pytest.mark.parametrize("name", GATED)
def test_gates_open_at_an_episodes_first_step_where_the_input_tells_of_it(name: str) -> None:
    torch.manual_seed(0)
    memory = make_memory(name, 4, 500, 1, horizon=1000, start_feature=3)
    fresh = memory.initial_state(1)
    first, other = torch.tensor([[0.0, 0.0, 0.0, 1.0]]), torch.zeros(1, 4)
    gate = "input" if "lstm" in name else "update"
    with torch.no_grad():
        opened, shut = (memory.gates(x, fresh)[gate][0, 0, 250:] for x in (first, other))
    if name in ("gru", "gru-original"):  # their update gate is the one that keeps
        opened, shut = 1 - opened, 1 - shut
    slowest = shut < 1 / (1 + 1000**0.75)
    assert 40 < int(slowest.sum()) < 85  # a quarter of 250
    assert_close(opened[slowest], torch.full_like(opened[slowest], 0.88), rtol=0, atol=2e-3)
    assert float(shut[slowest].max()) < 0.01
    # What is seen first leaves as strong a trace there as in quick units.
    x = torch.randn(64, 4)
    x[:, 3] = 1.0
    with torch.no_grad():
        seen = memory.step(x, memory.initial_state(64))[0].abs().mean(dim=0)
    assert float(seen[250:][slowest].mean()) > 0.7 * float(seen[:250].mean())


@pytest.mark.parametrize(("name", "keep"), [("gru-rotor", "forget"), ("gru-matrix", "decay")])
@torch.no_grad()
def test_both_parts_of_a_composite_are_set_to_hold(name: str, keep: str) -> None:
    torch.manual_seed(0)
    memory = make_memory(name, 4, 64, 1, horizon=1000, start_feature=3)
    fresh = memory.initial_state(1)
    first, other = torch.tensor([[0.0, 0.0, 0.0, 1.0]]), torch.zeros(1, 4)
    gates = memory.gates(other, fresh)
    assert set(gates) == set(memory.gate_names) == {"reset", "update", keep}
    assert float(gates["update"].max()) > 0.99
    assert float(gates[keep].max()) > 0.99
    assert float((gates["update"] - memory.gates(first, fresh)["update"]).max()) > 0.8


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("name", ["lru", "rotor"])
def test_all_complex_units_hold_from_one_step_to_the_horizon(name: str, layer: int) -> None:
    torch.manual_seed(0)
    memory = make_memory(name, 500, 500, 2, horizon=100)
    assert isinstance(memory, ComplexMemory)
    with torch.no_grad():
        a, _ = memory.cell.coefficients(memory.weights(layer), torch.zeros(500))
    steps = 1 / (1 - a.abs())
    assert 2 <= float(steps.min()) < 5
    assert 95 < float(steps.max()) <= 100.1
    # Of 250 units 62 stand still; the angles of the others are evenly spread, the most nearly pi.
    direction = torch.ones(250)
    if name == "rotor":
        direction = memory.get_parameter(f"bias_l{layer}").detach()[750:].tanh()
    assert float(direction[:125].min()) > 0.9  # half of the units rotate steadily
    angles = (a.angle() / direction).sort().values
    assert float(angles[61]) < 1e-3
    assert_close(angles[62:].diff(), (angles[-1] - angles[62]).expand(187) / 187, rtol=1e-3, atol=0)
    assert 0.95 * math.pi < float(angles[-1]) < math.pi


def test_the_eigenvalues_of_an_lru_start_evenly_on_the_unit_disk() -> None:
    torch.manual_seed(0)
    weights = LRU(2, 20_000, 1).weights(0)
    with torch.no_grad():
        radius, angle = (-weights.nu.exp()).exp(), weights.theta.exp()
    # Half of the disk's area is within 0.5 ** 0.5, and each octant holds as much as the next.
    for share in (0.1, 0.5, 0.9):
        assert float((radius < share**0.5).float().mean()) == pytest.approx(share, abs=0.02)
    shares = torch.histc(angle, 8, 0, 2 * math.pi) / len(angle)
    assert_close(shares, torch.full((8,), 1 / 8), rtol=0, atol=0.015)
    assert_close(weights.gamma.exp().square() + radius.square(), torch.ones(10_000))


@pytest.mark.parametrize(("name", "error"), [("lru", 0.05), ("rotor", 0.3)])
def test_what_was_seen_at_a_lag_can_be_read_off_complex_units_before_training(
    name: str, error: float
) -> None:
    torch.manual_seed(0)
    memory = make_memory(name, 1, 128, 1, horizon=64)
    assert isinstance(memory, ComplexMemory)
    x = torch.randn(1500, 4, 1)
    with torch.no_grad():
        a, b = memory.cell.coefficients(memory.weights(0), x)
        states = memory.cell.to_state(linear_scan(a, b, torch.zeros_like(b[0])))
    # A linear map to the input 24 steps before, fitted on one half and tried on the other.
    seen, wanted = (y.double().flatten(0, 1) for y in (states[300:], x[276:-24]))
    half = len(seen) // 2
    weights = torch.linalg.lstsq(seen[:half], wanted[:half]).solution
    assert float((seen[half:] @ weights - wanted[half:]).square().mean()) < error


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
        *(part.unroll(x, part.initial_state(5), start) for part in (both.gru, both.rotor)),
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
