"""A step in fewer operations computes what the policy does."""

from typing import Any

import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.export.check import check
from recurrent_rl.agents.export.listing import constants_of, to_json
from recurrent_rl.agents.export.numpy_policy import Step
from recurrent_rl.agents.export.record import listing_of
from recurrent_rl.agents.export.shorter import shorter
from recurrent_rl.agents.memory.registry import MEMORIES
from tests.agents.export.test_export import ACTIONS, EVERYTHING, OBSERVATIONS, VECTOR, copies, make


def passes(agent: Any) -> None:
    """It passes the check of an export, and has fewer operations than it had."""
    listing = listing_of(agent, batch=1)
    short = shorter(listing)
    assert len(short.operations) < len(listing.operations)
    step = Step(to_json(short), constants_of(short))
    check(agent, listing.signature, lambda inputs: copies(step(inputs)), steps=15)


@pytest.mark.parametrize("memory", MEMORIES)
def test_the_shorter_step_of_every_memory_is_the_policys(memory: str) -> None:
    passes(make(memory=memory))


@pytest.mark.slow
@pytest.mark.parametrize("memory", MEMORIES)
def test_the_shorter_step_of_two_memories_of_two_layers_is_the_policys(memory: str) -> None:
    passes(make(memory=memory, **EVERYTHING))


def test_error_functions_side_by_side_keep_their_factor() -> None:
    """Two encoders, each with gelu: their operations are one."""
    passes(make(memory="lru", separate_memory=True, num_layers=2))


class Twice(nn.Module):
    """Reads some of a layer's outputs twice, in one sum."""

    def __init__(self, space: spaces.Box) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)
        self.output_size = 4

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        return torch.sigmoid(y + y)


class Beside(Twice):
    def __init__(self, space: spaces.Box) -> None:
        super().__init__(space)
        self.output_size = 3

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        return torch.sigmoid(y[:, :3] + y[:, 1:])


@pytest.mark.parametrize("encoder", [Twice, Beside])
def test_an_output_that_is_summed_with_itself_is_halved_once(encoder: type[Twice]) -> None:
    passes(make(VECTOR, encoder=encoder))


@pytest.mark.slow
@pytest.mark.parametrize("observation", OBSERVATIONS)
@pytest.mark.parametrize("action", ACTIONS)
def test_the_shorter_step_of_every_space_is_the_policys(observation: str, action: str) -> None:
    passes(make(OBSERVATIONS[observation], ACTIONS[action], memory="gru"))


@pytest.mark.parametrize(
    ("memory", "calls"), [("lstm", 35), ("gru", 38), ("gru-rotor", 78), ("gru-matrix", 107)]
)
def test_a_step_is_no_more_calls_of_numpy(memory: str, calls: int) -> None:
    """As its operations come from the policy: 56, 52, 108 and 144."""
    agent = ActorCritic(spaces.Box(-5, 5, (2,)), spaces.Discrete(2), AgentConfig(memory)).eval()
    short = shorter(listing_of(agent, batch=1))
    assert len(Step(to_json(short), constants_of(short))._calls) <= calls


def test_several_streams_keep_their_operations() -> None:
    """There it is the numbers that take time, not the calls."""
    listing = listing_of(make(), batch=2)
    assert shorter(listing) is listing
