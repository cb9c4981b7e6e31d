"""How memories start: for how long they hold what they saw, before any training."""

import math

import pytest
import torch
from torch.testing import assert_close

from recurrent_rl.agents.kernels.scan import linear_scan
from recurrent_rl.agents.memory.cells import GRU, LSTM
from recurrent_rl.agents.memory.linear_cells import LRU, ComplexMemory
from recurrent_rl.agents.memory.registry import make_memory
from recurrent_rl.agents.memory.states import LSTMState

GATED = ["lstm", "lstm-peephole", "gru", "gru-original", "mingru", "minlstm"]


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


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru", "lstm-peephole", "gru-original"])
def test_each_block_starts_orthogonal_in_the_state_and_as_xavier_says_in_the_input(
    name: str,
) -> None:
    torch.manual_seed(0)
    memory = make_memory(name, 20, 30, 2)
    parameters = {key.rpartition(".")[2]: x.detach() for key, x in memory.named_parameters()}
    for layer, columns in enumerate((20, 30)):
        for block in parameters[f"weight_hh_l{layer}"].split(30):
            assert_close(block @ block.T, torch.eye(30), rtol=0, atol=1e-5)
        for block in parameters[f"weight_ih_l{layer}"].split(30):
            bound = math.sqrt(6 / (30 + columns))
            assert 0.95 * bound < float(block.abs().max()) <= bound
    assert all((x == 0).all() for key, x in parameters.items() if "weight" not in key)


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
    assert_close(opened[~slowest], shut[~slowest], rtol=0, atol=0.1)
    # What is seen first leaves as strong a trace there as in quick units.
    x = torch.randn(64, 4)
    x[:, 3] = 1.0
    with torch.no_grad():
        seen = memory.step(x, memory.initial_state(64))[0].abs().mean(dim=0)
    assert float(seen[250:][slowest].mean()) > 0.7 * float(seen[:250].mean())


@pytest.mark.parametrize("name", GATED)
def test_no_gate_opens_for_a_unit_of_the_layer_below(name: str) -> None:
    torch.manual_seed(0)
    memory = make_memory(name, 4, 64, 2, horizon=1000, start_feature=3)
    named = {key.rpartition(".")[2]: x.detach() for key, x in memory.named_parameters()}
    first, second = (
        named[f"{'weight' if 'min' in name else 'weight_ih'}_l{layer}"] for layer in (0, 1)
    )
    assert float(first.abs().max()) > 5
    assert float(second.abs().max()) <= math.sqrt(6 / 128)  # as Xavier says


@pytest.mark.parametrize(("name", "keep"), [("gru-rotor", "forget"), ("gru-matrix", "decay")])
@torch.no_grad()
def test_both_parts_of_a_composite_are_set_to_hold(name: str, keep: str) -> None:
    torch.manual_seed(0)
    memory = make_memory(name, 4, 64, 1, horizon=1000, start_feature=3)
    fresh = memory.initial_state(1)
    first, other = torch.tensor([[0.0, 0.0, 0.0, 1.0]]), torch.zeros(1, 4)
    assert memory.output_size == 3 * 64
    gates = memory.gates(other, fresh)
    assert set(gates) == set(memory.gate_names) == {"reset", "update", keep}
    assert float(gates["update"].max()) > 0.99
    assert float(gates[keep].max()) > 0.99
    assert float((gates["update"] - memory.gates(first, fresh)["update"]).max()) > 0.8


def test_what_a_rotor_sees_has_little_say_at_first_in_what_it_forgets() -> None:
    torch.manual_seed(0)
    rows = make_memory("rotor", 100, 200, 1).get_parameter("weight_l0").detach()
    forget, rotate = rows[200:].chunk(2)
    assert_close(forget.std() / rotate.std(), torch.tensor(0.1), rtol=0.05, atol=0)


@torch.no_grad()
def test_the_gates_of_a_layer_are_those_of_what_the_layer_below_shows() -> None:
    torch.manual_seed(0)
    memory = make_memory("lstm", 3, 5, 2)
    assert isinstance(memory, LSTM)
    x, h, c = torch.randn(4, 3), torch.randn(2, 4, 5), torch.randn(2, 4, 5)
    below, _ = torch.lstm_cell(x, (h[0], c[0]), *memory.weights(0).of_torch())
    w, u, b, d = memory.weights(1).of_torch()
    i, f, _, o = torch.sigmoid(below @ w.T + b + h[1] @ u.T + d).chunk(4, -1)
    found = memory.gates(x, LSTMState(h, c))
    for name, gate in (("input", i), ("forget", f), ("output", o)):
        assert_close(found[name][1], gate)


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
    memory = LRU(2, 200, num_layers=100)  # one layer of as many units takes gigabytes
    with torch.no_grad():
        layers = [memory.weights(layer) for layer in range(100)]
        radius = torch.cat([(-weights.nu.exp()).exp() for weights in layers])
        angle = torch.cat([weights.theta.exp() for weights in layers])
        gamma = torch.cat([weights.gamma.exp() for weights in layers])
    # Half of the disk's area is within 0.5 ** 0.5, and each octant holds as much as the next.
    for share in (0.1, 0.5, 0.9):
        assert float((radius < share**0.5).float().mean()) == pytest.approx(share, abs=0.02)
    shares = torch.histc(angle, 8, 0, 2 * math.pi) / len(angle)
    assert_close(shares, torch.full((8,), 1 / 8), rtol=0, atol=0.015)
    assert_close(gamma.square() + radius.square(), torch.ones(10_000))


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
