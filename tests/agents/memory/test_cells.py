"""The cells that torch lacks, against their published equations written out in NumPy."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.testing import assert_close

from recurrent_rl.agents.memory.cells import OriginalGRU, PeepholeLSTM
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
