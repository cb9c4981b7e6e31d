"""The cells that torch lacks, against their published equations written out in NumPy."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from torch.testing import assert_close

from recurrent_rl.agents.memory.cells import (
    GRU,
    LSTM,
    RNN,
    OriginalGRU,
    PeepholeLSTM,
    gru,
    lstm,
    rnn,
)
from recurrent_rl.agents.memory.contract import Memory
from recurrent_rl.agents.memory.linear_cells import LRU, MinGRU, MinLSTM, Rotor
from recurrent_rl.agents.memory.matrix import Matrix
from recurrent_rl.agents.memory.states import GRUState, LSTMState

T, B, F, H = 7, 3, 4, 5
Array = NDArray[np.float64]


def sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def filled(memory: Any) -> Any:
    torch.manual_seed(0)
    memory.double()
    with torch.no_grad():
        for parameter in memory.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.7)
    return memory


def arrays(memory: Any) -> dict[str, Array]:
    return {name: p.detach().numpy() for name, p in memory.named_parameters()}


def inputs() -> Array:
    return np.random.default_rng(0).standard_normal((T, B, F))


def test_the_peephole_lstm_follows_gers_and_schmidhuber() -> None:
    memory = filled(PeepholeLSTM(F, H, 1))
    p = arrays(memory)
    w_i, w_f, w_g, w_o = np.split(p["weight_ih_l0"], 4)
    u_i, u_f, u_g, u_o = np.split(p["weight_hh_l0"], 4)
    b_i, b_f, b_g, b_o = np.split(p["bias_l0"], 4)
    p_i, p_f, p_o = p["peephole_l0"]
    h = c = np.zeros((B, H))
    expected = []
    x = inputs()
    for x_t in x:
        i = sigmoid(x_t @ w_i.T + h @ u_i.T + p_i * c + b_i)
        f = sigmoid(x_t @ w_f.T + h @ u_f.T + p_f * c + b_f)
        c = f * c + i * np.tanh(x_t @ w_g.T + h @ u_g.T + b_g)
        o = sigmoid(x_t @ w_o.T + h @ u_o.T + p_o * c + b_o)
        h = o * np.tanh(c)
        expected.append(h)
    never = torch.zeros(T, B, dtype=torch.bool)
    y, state = memory.unroll(torch.as_tensor(x), memory.initial_state(B), never)
    assert_close(y, torch.as_tensor(np.stack(expected)))
    assert isinstance(state, LSTMState)
    assert_close(state.c[0], torch.as_tensor(c))
    gates = memory.gates(torch.as_tensor(x[0]), memory.initial_state(B))
    first = x[0] @ p["weight_ih_l0"].T + p["bias_l0"]
    c = sigmoid(first[:, :H]) * np.tanh(first[:, 2 * H : 3 * H])
    for name, wanted in (
        ("input", first[:, :H]),
        ("forget", first[:, H : 2 * H]),
        ("output", first[:, 3 * H :] + p_o * c),
    ):
        np.testing.assert_allclose(gates[name][0].detach(), sigmoid(wanted), rtol=1e-10)


def test_the_original_gru_follows_cho() -> None:
    memory = filled(OriginalGRU(F, H, 1))
    p = arrays(memory)
    w_r, w_z, w_n = np.split(p["weight_ih_l0"], 3)
    u_r, u_z, u_n = np.split(p["weight_hh_l0"], 3)
    b_r, b_z, b_n = np.split(p["bias_l0"], 3)
    h = np.zeros((B, H))
    expected = []
    x = inputs()
    for x_t in x:
        r = sigmoid(x_t @ w_r.T + h @ u_r.T + b_r)
        z = sigmoid(x_t @ w_z.T + h @ u_z.T + b_z)
        n = np.tanh(x_t @ w_n.T + (r * h) @ u_n.T + b_n)
        h = (1 - z) * n + z * h
        expected.append(h)
    never = torch.zeros(T, B, dtype=torch.bool)
    y, state = memory.unroll(torch.as_tensor(x), memory.initial_state(B), never)
    assert_close(y, torch.as_tensor(np.stack(expected)))
    assert isinstance(state, GRUState)
    assert_close(state.h[0], torch.as_tensor(h))
    gates = memory.gates(torch.as_tensor(x_t), state)
    np.testing.assert_allclose(
        gates["reset"][0].detach(), sigmoid(x_t @ w_r.T + h @ u_r.T + b_r), rtol=1e-10
    )
    np.testing.assert_allclose(
        gates["update"][0].detach(), sigmoid(x_t @ w_z.T + h @ u_z.T + b_z), rtol=1e-10
    )


@pytest.mark.parametrize(("kind", "equations"), [(RNN, rnn), (LSTM, lstm), (GRU, gru)])
def test_the_equations_written_out_are_those_of_torchs_cells(kind: Any, equations: Any) -> None:
    memory = filled(kind(F, H, 1))
    x = torch.as_tensor(inputs()[0])
    before = torch.as_tensor(np.random.default_rng(1).standard_normal((2, B, H)))
    fields = tuple(before[: len(kind.state_type._fields)])
    found, _ = equations(memory.weights(0), x, fields)
    layer = memory.torch_layer
    state = tuple(field.unsqueeze(0) for field in fields)
    _, after = layer(x.unsqueeze(0), state if len(state) == 2 else state[0])
    for a, b in zip(found, after if len(state) == 2 else (after,), strict=True):
        assert_close(a, b[0])


def test_the_gates_of_a_gru_make_its_state() -> None:
    memory = filled(GRU(F, H, 1))
    x = torch.as_tensor(inputs()[0])
    before = GRUState(torch.linspace(-1, 1, B * H, dtype=torch.float64).view(1, B, H))
    with torch.no_grad():
        gates = memory.gates(x, before)
        _, after = memory.step(x, before)
    r, z = (gates[name][0].numpy() for name in ("reset", "update"))
    p, h = arrays(memory.torch_layer), before.h[0].numpy()
    n = np.tanh(
        x.numpy() @ p["weight_ih_l0"][2 * H :].T
        + p["bias_ih_l0"][2 * H :]
        + r * (h @ p["weight_hh_l0"][2 * H :].T + p["bias_hh_l0"][2 * H :])
    )
    np.testing.assert_allclose(after.h[0], (1 - z) * n + z * h, rtol=1e-10)


def test_without_peepholes_the_cell_is_torchs_lstm() -> None:
    memory = filled(PeepholeLSTM(F, H, 2))
    layer = nn.LSTM(F, H, 2).double()
    with torch.no_grad():
        for k in range(2):
            memory.get_parameter(f"peephole_l{k}").zero_()
            for name in ("weight_ih", "weight_hh"):
                layer.get_parameter(f"{name}_l{k}").copy_(memory.get_parameter(f"{name}_l{k}"))
            layer.get_parameter(f"bias_ih_l{k}").copy_(memory.get_parameter(f"bias_l{k}"))
            layer.get_parameter(f"bias_hh_l{k}").zero_()
    x = torch.as_tensor(inputs())
    never = torch.zeros(T, B, dtype=torch.bool)
    assert_close(memory.unroll(x, memory.initial_state(B), never)[0], layer(x)[0])


def erf_gelu(x: Array) -> Array:
    return np.asarray(x * np.vectorize(lambda v: (1 + math.erf(v / math.sqrt(2))) / 2)(x))


def shown(memory: Memory, x: Array) -> Array:
    """What a layer shows of each step of one episode."""
    y, _ = memory.unroll(torch.as_tensor(x), memory.initial_state(B))
    return np.asarray(y.detach().numpy())


def test_the_mingru_follows_feng() -> None:
    memory = filled(MinGRU(F, H, 1))
    p = arrays(memory)
    w_z, w_h = np.split(p["weight_l0"], 2)
    b_z, b_h = np.split(p["bias_l0"], 2)
    h = np.zeros((B, H))
    expected = []
    for x_t in inputs():
        z = sigmoid(x_t @ w_z.T + b_z)
        h = (1 - z) * h + z * (x_t @ w_h.T + b_h)
        expected.append(h)
    np.testing.assert_allclose(shown(memory, inputs()), expected, rtol=1e-10)
    gates = memory.gates(torch.as_tensor(x_t), memory.initial_state(B))
    np.testing.assert_allclose(gates["update"][0].detach(), z, rtol=1e-10)


def test_the_minlstm_follows_feng() -> None:
    memory = filled(MinLSTM(F, H, 1))
    p = arrays(memory)
    w_f, w_i, w_h = np.split(p["weight_l0"], 3)
    b_f, b_i, b_h = np.split(p["bias_l0"], 3)
    h = np.zeros((B, H))
    expected = []
    for x_t in inputs():
        f, i = sigmoid(x_t @ w_f.T + b_f), sigmoid(x_t @ w_i.T + b_i)
        h = f / (f + i) * h + i / (f + i) * (x_t @ w_h.T + b_h)
        expected.append(h)
    np.testing.assert_allclose(shown(memory, inputs()), expected, rtol=1e-10)
    gates = memory.gates(torch.as_tensor(x_t), memory.initial_state(B))
    np.testing.assert_allclose(gates["forget"][0].detach(), f / (f + i), rtol=1e-10)
    np.testing.assert_allclose(gates["input"][0].detach(), i / (f + i), rtol=1e-10)


def side_by_side(h: NDArray[np.complex128]) -> Array:
    """Each number's real and imaginary part, one after the other."""
    return np.stack([h.real, h.imag], axis=-1).reshape(*h.shape[:-1], -1)


def test_the_lru_follows_orvieto() -> None:
    memory = filled(LRU(F, 2 * H, 1))
    p = arrays(memory)
    of_b = p["weight_l0"][0::2] + 1j * p["weight_l0"][1::2]
    bias = p["bias_l0"][0::2] + 1j * p["bias_l0"][1::2]
    eigenvalue = np.exp(-np.exp(p["nu_l0"]) + 1j * np.exp(p["theta_l0"]))
    h = np.zeros((B, H), dtype=np.complex128)
    expected = []
    for x_t in inputs():
        h = eigenvalue * h + np.exp(p["gamma_l0"]) * (x_t @ of_b.T + bias)
        expected.append(erf_gelu(side_by_side(h) @ p["output_l0"].T + x_t @ p["skip_l0"].T))
    np.testing.assert_allclose(shown(memory, inputs()), expected, rtol=1e-9, atol=1e-12)


def test_the_rotor_follows_its_equations() -> None:
    memory = filled(Rotor(F, 2 * H, 1))
    p = arrays(memory)
    weight, control, turn = np.split(p["weight_l0"], [2 * H, 3 * H])
    bias, control_bias, turn_bias = np.split(p["bias_l0"], [2 * H, 3 * H])
    of_b, bias = weight[0::2] + 1j * weight[1::2], bias[0::2] + 1j * bias[1::2]
    h = np.zeros((B, H), dtype=np.complex128)
    expected = []
    for x_t in inputs():
        k = sigmoid(x_t @ control.T + control_bias)
        s = np.tanh(x_t @ turn.T + turn_bias)
        h = k * np.exp(1j * p["theta_l0"] * s) * h + np.sqrt(1 - k**2) * (x_t @ of_b.T + bias)
        expected.append(erf_gelu(side_by_side(h) @ p["output_l0"].T + x_t @ p["skip_l0"].T))
    np.testing.assert_allclose(shown(memory, inputs()), expected, rtol=1e-9, atol=1e-12)
    gates = memory.gates(torch.as_tensor(x_t), memory.initial_state(B))
    np.testing.assert_allclose(gates["forget"][0].detach(), k, rtol=1e-10)


def test_the_matrix_memory_follows_its_equations() -> None:
    memory = filled(Matrix(F, 10, 1))  # D = 10 by V = 2, and four heads
    p = arrays(memory)
    heads, units, values = 4, 5, 2
    assert sorted(p) == ["bias_l0", "frequency_l0", "output_l0", "weight_l0"]
    theta = memory.get_buffer("theta_l0").numpy()  # made in single precision
    even = np.pi * (np.arange(2 * units) + 0.5) / (2 * units)
    np.testing.assert_allclose(theta, even.reshape(units, 2).T, rtol=1e-6)
    s = np.zeros((B, heads, values, 2 * units))
    expected = []
    for t, x_t in enumerate(inputs()):
        made = x_t @ p["weight_l0"].T + p["bias_l0"]
        q, k = (part.reshape(B, heads, -1) for part in np.split(made[:, :80], 2, axis=-1))
        v, a = made[:, 80:88].reshape(B, heads, values), sigmoid(made[:, 88:])
        for name, keys in (("q", q), ("k", k)):
            turned = keys[:, :2, :units] + 1j * keys[:, :2, units:]
            sign = np.array([[1.0], [-1.0]]) if name == "q" else 1.0  # mirrored
            turned = turned * np.exp(1j * sign * theta * t)
            keys[:, :2] = np.concatenate([turned.real, turned.imag], axis=-1)
            keys[:, 2:] /= np.linalg.norm(keys[:, 2:], axis=-1, keepdims=True)
        s = a[..., None, None] * s + np.einsum("bhv,bhd->bhvd", v, k)
        o = np.einsum("bhvd,bhd->bhv", s, q)
        scaled = o / np.sqrt(1 + np.mean(o**2, axis=-1, keepdims=True))
        phase = p["frequency_l0"] * o[:, 2:].reshape(B, -1)
        known = np.exp(-((phase / 10) ** 2) / 2)  # a count is known to a tenth
        parts = [scaled.reshape(B, -1), known * np.cos(phase), known * np.sin(phase), x_t]
        expected.append(erf_gelu(np.concatenate(parts, axis=-1) @ p["output_l0"].T))
    np.testing.assert_allclose(shown(memory, inputs()), expected, rtol=1e-9, atol=1e-12)
    last = memory.gates(torch.as_tensor(x_t), memory.initial_state(B))
    np.testing.assert_allclose(last["decay"][0].detach(), a, rtol=1e-10)
