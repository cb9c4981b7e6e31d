"""A memory that grows acts as it did, and its new units learn."""

from typing import Any

import pytest
import torch
from gymnasium import spaces
from torch.testing import assert_close

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.errors import UserError
from recurrent_rl.agents.memory.cells import GRU
from recurrent_rl.agents.memory.registry import MEMORIES
from recurrent_rl.agents.policy import Policy
from recurrent_rl.agents.warm_start import begin_with

T, B = 12, 4
SPACE = spaces.Box(-1, 1, (3,))
GROWING = [name for name in MEMORIES if name not in ("matrix", "gru-matrix")]


def agent_of(memory: str, hidden_size: int, seed: int, **config: Any) -> ActorCritic:
    torch.manual_seed(seed)
    settings = AgentConfig(memory, hidden_size=hidden_size, encoder_size=5, **config)
    agent = ActorCritic(SPACE, spaces.Discrete(3), settings)
    for x in agent.parameters():  # nothing is left that an untrained one has by chance
        x.detach().add_(0.2 * torch.randn_like(x))
    return agent


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("memory", GROWING)
def test_a_grown_memory_acts_and_values_as_before(memory: str, separate: bool) -> None:
    config: dict[str, Any] = {"num_layers": 2, "separate_memory": separate}
    small, large = agent_of(memory, 6, 0, **config), agent_of(memory, 16, 1, **config)
    begin_with(large, Policy(small))
    x = {"": torch.randn(T, B, 3)}
    x = small.with_previous(x, torch.randint(3, (T, B)), None)
    start = torch.rand(T, B) < 0.2
    (ours, value, _), _ = large.unroll(x, large.initial_state(B), start)
    (theirs, expected, _), _ = small.unroll(x, small.initial_state(B), start)
    assert_close(value, expected, rtol=1e-4, atol=1e-5)
    actions = torch.zeros(T, B, dtype=torch.int64)
    assert_close(ours.log_prob(actions), theirs.log_prob(actions), rtol=1e-4, atol=1e-5)
    if memory == "none":
        return
    # What reads the new units starts at zero, and has a gradient.
    new = large.critic.weight.shape[1] - small.critic.weight.shape[1]
    (gradient,) = torch.autograd.grad(value.square().sum(), large.critic.weight)
    assert ((large.critic.weight == 0) & (gradient != 0)).sum() == new


@pytest.mark.parametrize("memory", ["matrix", "gru-matrix"])
def test_a_memory_whose_size_is_in_what_it_computes_does_not_grow(memory: str) -> None:
    with pytest.raises(UserError, match=f"{memory}, cannot have 16 units instead: its matrices"):
        begin_with(agent_of(memory, 16, 0), Policy(agent_of(memory, 8, 0)))


def test_neither_does_one_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    own = type("Own", (GRU,), {})
    monkeypatch.setitem(MEMORIES, "own", own)
    with pytest.raises(UserError, match="what its weights mean is not known here"):
        begin_with(agent_of("own", 16, 0), Policy(agent_of("own", 8, 0)))
