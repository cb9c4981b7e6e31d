"""A step in fewer operations computes what the policy does."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.export.listing import Listing, constants_of, to_json
from recurrent_rl.agents.export.numpy_folder import WEIGHTS, written
from recurrent_rl.agents.export.numpy_policy import Policy, Step
from recurrent_rl.agents.export.passes.shorter import shorter
from recurrent_rl.agents.export.record import listing_of
from recurrent_rl.agents.export.step import PolicyStep
from recurrent_rl.agents.memory.registry import MEMORIES
from tests.agents.export.checking import check
from tests.agents.export.test_export import (
    ACTIONS,
    EVERYTHING,
    OBSERVATIONS,
    OWN_MEMORIES,
    VECTOR,
    copies,
    eager,
    make,
)


def step_of(listing: Listing) -> Step:
    """The step on NumPy."""
    return Step(to_json(listing), constants_of(listing))


def calls_of(step: Step) -> tuple[int, int]:
    """Of NumPy: in a step within an episode where all is allowed, and for its other outputs."""
    return len(step._first[False, False]), len(step._later)


def passes(agent: Any) -> None:
    """It passes the check of an export, and has fewer calls than it had."""
    listing = listing_of(agent, batch=1)
    step = step_of(shorter(listing))
    assert sum(calls_of(step)) < sum(calls_of(step_of(listing)))
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


class Interleaved(nn.Module):
    """Two layers whose outputs stand in turn, where a product cannot leave its own."""

    def __init__(self, space: spaces.Box) -> None:
        super().__init__()
        self.one, self.other = (nn.Linear(3, 4, bias=False) for _ in range(2))
        self.output_size = 8

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.one(x), self.other(x * x)], -1).flatten(-2)


class Nearest(nn.Module):
    """The place of the greatest difference from several numbers, which the differences decide."""

    def __init__(self, space: spaces.Box) -> None:
        super().__init__()
        self.centres = nn.Parameter(torch.tensor([3.0, -3.0, 0.0]))
        self.output_size = 1

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.centres).argmax(-1)[:, None].float()


def test_the_greatest_of_differences_is_not_taken_for_that_of_a_softmax() -> None:
    passes(make(VECTOR, encoder=Nearest))


def test_what_a_product_leaves_goes_to_places_apart_by_a_copy() -> None:
    passes(make(VECTOR, encoder=Interleaved))


@pytest.mark.slow
@pytest.mark.parametrize("observation", OBSERVATIONS)
@pytest.mark.parametrize("action", ACTIONS)
def test_the_shorter_step_of_every_space_is_the_policys(observation: str, action: str) -> None:
    passes(make(OBSERVATIONS[observation], ACTIONS[action], memory="gru"))


@pytest.mark.parametrize(
    ("memory", "calls"), [("lstm", 18), ("gru", 22), ("gru-rotor", 53), ("gru-matrix", 73)]
)
def test_a_step_is_no_more_calls_of_numpy(memory: str, calls: int) -> None:
    """As its operations come from the policy: 56, 52, 108 and 144."""
    agent = ActorCritic(spaces.Box(-5, 5, (2,)), spaces.Discrete(2), AgentConfig(memory)).eval()
    assert calls_of(step_of(shorter(listing_of(agent, batch=1)))) <= (calls, 8)


@pytest.mark.parametrize("memory", ["gru-rotor", "gru-matrix", "lru", *OWN_MEMORIES])
def test_a_step_of_numpy_leaves_out_only_what_is_not_needed(tmp_path: Path, memory: str) -> None:
    """Resets, masks at some steps, outputs that are asked for at some: played step after step."""
    agent = make(memory=memory, previous_reward=True)
    (tmp_path / WEIGHTS).write_bytes(written(listing_of(agent, batch=1), agent)[WEIGHTS])
    on_numpy, exact = Policy(tmp_path / WEIGHTS), eager(agent)[1]
    given = {name: x.numpy() for name, x in PolicyStep(agent).example(1).items()}
    rng = np.random.default_rng(0)
    for t in range(40):
        if t % 13 == 0:
            on_numpy.reset()
        given["obs"] = rng.normal(size=(1, 3)).astype(np.float32)
        given["previous_reward"] = rng.normal(size=1).astype(np.float32)
        given["episode_start"] = np.array([t % 13 == 0])
        given["action_mask"] = rng.random((1, 4)) < (0.6 if t % 3 else 1)
        given["action_mask"][0, t % 4] = True
        right = exact(given)
        masked = not given["action_mask"].all()
        state = {"previous_action_in": given["previous_action_in"]} if t % 5 == 4 else {}
        action = on_numpy.act(
            given["obs"][0],
            given["previous_reward"][0],
            given["action_mask"][0] if masked else None,
            **state,
        )
        assert action == right["action"][0]
        for name in right if t % 2 else ():
            np.testing.assert_allclose(on_numpy.output(name), right[name], rtol=1e-4, atol=1e-5)
        signature = on_numpy.signature["state"]
        given |= {before: right[after] for before, after in signature.items()}


def test_products_of_complex_numbers_whose_parts_others_read_too_are_the_policys() -> None:
    agent = make(memory="tests.own_parts:Plane")
    passes(agent)
    kinds = [one.kind for one in shorter(listing_of(agent, batch=1)).operations]
    assert kinds.count("complex") == 2


def test_several_streams_keep_their_operations() -> None:
    """There it is the numbers that take time, not the calls."""
    listing = listing_of(make(), batch=2)
    assert shorter(listing) is listing
