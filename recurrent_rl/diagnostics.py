"""Memory diagnostics: norms of the state, saturation of the gates, reach of the gradient."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.memory.contract import Reads
from recurrent_rl.agents.memory.states import (
    LSTMState,
    MemoryState,
    cat_states,
    differentiable,
)
from recurrent_rl.config import TrainConfig
from recurrent_rl.ppo import policy_gradient_loss, value_loss
from recurrent_rl.sequences import Sequences

LOW, HIGH = 0.05, 0.95
CHUNKS = 16
"""That are unrolled, at most."""
CHUNKS_READ = 4
"""What a head reads is followed in so many: it takes memory for each pair of steps."""


def memory_diagnostics(
    agent: ActorCritic, data: Sequences, config: TrainConfig
) -> dict[str, float]:
    """The scalars of the `memory/*` group, computed from a few chunks of a rollout.

    Args:
        agent: not changed.
        data: chunks `[L, C, ...]`; the first `CHUNKS` of them are unrolled once, in pieces.
        config: for the loss whose gradient is followed.

    Returns:
        - `memory/state_norm`, and `memory/cell_norm` for an LSTM: the mean Euclidean norm of
          an environment's hidden and cell state.
        - `memory/NAME_gate_low`, `_high`: the share of a gate's values below 0.05 and above 0.95.
        - `memory/NAME_read_steps`, `_share`, of a memory with heads: over how many steps what a
          head reads is spread, and its share in what is read; `Memory.reads`.
        - `memory/gradient_norm`: the norm of the gradient of the last step's loss with respect to
          the state one step before, mean over the environments whose episode reaches that far
          back. A last step that an autoreset inserted does not count.
        - `memory/gradient_norm_lag_K`: the same K steps before, as a share of it. It says how far
          back the loss reaches: 1 is undiminished, a plain RNN's falls exponentially in K.
    """
    chosen = torch.arange(min(CHUNKS, data.valid.shape[1]), device=agent.device)
    data = data.select(chosen)
    if not data.state:
        return {}
    length = len(data.valid)
    cuts = _cuts(length)
    before: dict[int, MemoryState] = {}  # the state before each cut's step, as a node of the graph
    state: MemoryState = data.state
    output = None
    for begin, end in pairwise([*cuts, length]):
        before[begin] = state
        rows = slice(begin, end)
        mask = None if data.action_mask is None else data.action_mask[rows]
        components = {path: x[rows] for path, x in data.components.items()}
        output, state = agent.unroll(components, state, data.episode_start[rows], mask)
    assert output is not None

    # The loss of the last step alone, so that what comes back through the state is its reach.
    log_prob = output.distribution.log_prob(data.actions[-1:])[-1]
    ratio = (log_prob - data.log_probs[-1]).exp()
    scale = agent.return_normaliser.std.to(output.value.dtype)
    clip = agent.return_normaliser.value_clip(config.clip_value)
    loss = policy_gradient_loss(
        ratio, data.advantages[-1], config.clip_coef
    ) + config.vf_coef * value_loss(
        output.value[-1], data.returns[-1], data.values[-1], scale, clip
    )
    scalars = _gradient_norm_by_lag(loss.sum(), before, data)
    with torch.no_grad():
        seen = cat_states([*list(before.values())[1:], state])
        scalars |= _norms(agent.split_state(seen))
        for name, gate in _actor_gates(agent, data, before).items():
            scalars[f"memory/{name}_gate_low"] = float((gate < LOW).float().mean())
            scalars[f"memory/{name}_gate_high"] = float((gate > HIGH).float().mean())
        for name, reads in _actor_reads(agent, data).items():
            scalars[f"memory/{name}_read_steps"] = float(reads.steps.mean())
            scalars[f"memory/{name}_read_share"] = float(reads.share.mean())
    return scalars


def _norms(states: list[MemoryState]) -> dict[str, float]:
    """Mean over the streams of the Euclidean norm of what the memories hold, an LSTM's c apart."""
    cells = [state.c for state in states if isinstance(state, LSTMState)]
    others = [x for state in states for x in differentiable(state)]
    others = [x for x in others if all(x is not c for c in cells)]
    named = {"memory/state_norm": others, "memory/cell_norm": cells}
    return {tag: float(_norm_of_each_stream(xs).mean()) for tag, xs in named.items() if xs}


def _norm_of_each_stream(tensors: list[Tensor]) -> Tensor:
    """Euclidean norm over all but axis 1, the streams, and over all of the tensors."""
    squares = [x.abs().square().transpose(0, 1).flatten(1).sum(dim=1) for x in tensors]
    return torch.stack(squares).sum(dim=0).sqrt()


def _lags(length: int) -> list[int]:
    """1, 2, 4, ... as far as there is a state before the last step."""
    return [2**k for k in range(length.bit_length()) if 2**k < length]


def _cuts(length: int) -> list[int]:
    """Steps before which the state is kept: lags before the end, and evenly spread."""
    return sorted({length - lag for lag in _lags(length)} | set(range(0, length, -(-length // 16))))


@torch.no_grad()
def _actor_gates(
    agent: ActorCritic, data: Sequences, before: dict[int, MemoryState]
) -> dict[str, Tensor]:
    """The gates of the actor's memory at these steps, `[num_layers, steps * C, hidden]` each."""
    memory = agent.memories()[0]
    steps = torch.tensor(list(before), device=agent.device)
    components = {path: x[steps].flatten(0, 1) for path, x in data.components.items()}
    start = data.episode_start[steps].flatten()
    state = agent.split_state(cat_states(list(before.values())))[0]
    return memory.gates(agent.encode(components, start)[0], memory.reset(state, start))


def _actor_reads(agent: ActorCritic, data: Sequences) -> dict[str, Reads]:
    """What the heads of the actor's memory read in the first few chunks."""
    chunks = torch.arange(min(CHUNKS_READ, data.valid.shape[1]), device=agent.device)
    data = data.select(chunks)
    memory, state = agent.memories()[0], agent.split_state(data.state)[0]
    x = agent.encode(data.components, data.episode_start)[0]
    return memory.reads(x, state, data.episode_start)


def _gradient_norm_by_lag(
    loss: Tensor, before: dict[int, MemoryState], data: Sequences
) -> dict[str, float]:
    """The norm of the gradient of `loss` at the states 1, 2, 4, ... steps before the end.

    `before[t]` is the state before step t.
    """
    length = len(data.valid)
    lags = _lags(length)
    # A state may hold what no gradient passes through: counters, or inputs as they came.
    fields = {
        lag: [x for x in differentiable(before[length - lag]) if x.requires_grad] for lag in lags
    }
    every = [x for of_lag in fields.values() for x in of_lag]
    gradients = iter(torch.autograd.grad(loss, every, allow_unused=True) if every else ())
    scalars: dict[str, float] = {}
    at_one = torch.zeros(())
    for lag in lags:
        # Environments whose last step is one of an episode that was under way at that state.
        reached = data.valid[-1] & ~data.episode_start[length - lag :].any(dim=0)
        parts = [g for g in (next(gradients) for _ in fields[lag]) if g is not None]
        if not parts or not reached.any():
            break
        norms = _norm_of_each_stream(parts)
        if lag == 1:
            at_one = norms
            scalars["memory/gradient_norm"] = float(norms[reached].mean())
        elif (base := float(at_one[reached].mean())) > 0:  # of the same environments
            scalars[f"memory/gradient_norm_lag_{lag:03d}"] = float(norms[reached].mean()) / base
    return scalars
