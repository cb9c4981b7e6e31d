"""A fast actor does what the exact one does: its types, its draws, and what it refuses."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.distributions import Categorical, Distribution
from recurrent_rl.agents.errors import UserError
from recurrent_rl.agents.export.step import ExportError
from recurrent_rl.agents.heads import ActionHead
from recurrent_rl.agents.policy import Policy
from tests.agents.export.test_export import ACTIONS, OBSERVATIONS, VECTOR, make
from tests.own_parts import Bins


def both(agent: ActorCritic, **options: Any) -> tuple[Any, Any]:
    policy = Policy(agent)
    return policy.actor(**options), policy.actor(runner="fast", **options)


def alike(actors: tuple[Any, Any], *given: Any) -> None:
    """Both act alike, or refuse with the same words."""
    found: list[Any] = []
    for actor in actors:
        try:
            found.append(np.asarray(actor.act(*given)))
        except UserError as error:
            found.append(f"{type(error).__name__}: {error}")
    right, got = found
    if isinstance(right, str):
        assert got == right
    else:
        assert got.dtype == right.dtype
        np.testing.assert_allclose(got, right, atol=1e-5)


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("action", ACTIONS)
def test_actions_have_the_type_of_the_space_and_are_fed_back_as_drawn(
    action: str, deterministic: bool
) -> None:
    actors = both(make(VECTOR, ACTIONS[action], memory="rnn"), deterministic=deterministic, seed=3)
    for seen in np.random.default_rng(0).normal(size=(15, 3)).astype(np.float32):
        alike(actors, seen)
        alike(actors, seen.tolist())


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(4, dtype=np.int32),
        spaces.MultiDiscrete([2, 3], dtype=np.int32),
        spaces.Box(-1, 1, (2,), np.float64),
    ],
    ids=str,
)
def test_actions_of_a_type_that_is_not_the_default_have_it(space: gym.Space[Any]) -> None:
    actors = both(make(action=space, memory="none"))
    alike(actors, np.ones(3, np.float32))
    assert np.asarray(actors[1].act(np.ones(3, np.float32))).dtype == space.dtype


@pytest.mark.parametrize(
    "space", [spaces.Box(-0.1, 0.1, (2,), np.float64), spaces.Box(1e9, 1e9 + 1, (2,), np.float64)]
)
@pytest.mark.parametrize("feeds_back", [True, False])
def test_actions_in_doubles_are_within_their_bounds_to_the_last_digit(
    space: spaces.Box, feeds_back: bool
) -> None:
    agent = make(action=space, memory="rnn", previous_action=feeds_back)
    with torch.no_grad():
        agent.head.linear.bias.copy_(torch.tensor([0.3, 50.0]))
    actors = both(agent)
    for seen in np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32):
        exact, fast = (actor.act(seen) for actor in actors)
        assert space.contains(fast)
        np.testing.assert_allclose((fast - space.low), (exact - space.low), atol=1e-6)


class Choice(ActionHead):
    """Of three points on the diagonal of a Box."""

    action_dtype = torch.int64

    def __init__(self, space: spaces.Box, input_size: int) -> None:
        super().__init__(space, input_size, 3)
        self.action_shape = ()

    def forward(
        self, features: Tensor, mask: Tensor | None = None, previous: Tensor | None = None
    ) -> Distribution:
        return Categorical(self.linear(features))

    def fill_noise(self, drawn: Tensor, generator: torch.Generator) -> Tensor:
        return drawn.exponential_(generator=generator)

    def to_env(self, action: Tensor) -> NDArray[Any]:
        points = (action.cpu().numpy() - 1.0)[..., None]
        return np.repeat(points, 2, -1).astype(self.space.dtype)

    def to_env_tensor(self, action: Tensor) -> Tensor:
        return (action.float() - 1).unsqueeze(-1).expand(-1, 2)


class Exact(Bins):
    """One that exports too."""

    def to_env_tensor(self, action: Tensor) -> Tensor:
        return action.float() / 5 - 1


class Own(Categorical):
    """Which may draw as it likes."""


class Unknown(Choice):
    """With a distribution that is not the library's."""

    def forward(
        self, features: Tensor, mask: Tensor | None = None, previous: Tensor | None = None
    ) -> Distribution:
        return Own(self.linear(features))


@pytest.mark.parametrize("head", ["Choice", "Exact"])
@pytest.mark.parametrize("streams", [None, 3])
def test_a_head_of_ones_own_draws_by_its_own_distribution(head: str, streams: int | None) -> None:
    agent = make(
        action=spaces.Box(-1, 1, (2,)),
        head=f"{__name__}:{head}",
        memory="rnn",
        previous_action=head == "Exact",
    )
    actors = both(agent, deterministic=False, seed=2, num_envs=streams)
    size = (8, 3) if streams is None else (8, streams, 3)
    for seen in np.random.default_rng(0).normal(size=size).astype(np.float32):
        alike(actors, seen)


def test_a_distribution_that_is_not_the_librarys_is_not_drawn_from() -> None:
    agent = make(action=spaces.Box(-1, 1, (2,)), head=f"{__name__}:Unknown", previous_action=False)
    with pytest.raises(ExportError, match=r"cannot play this policy.*Own, which may draw"):
        Policy(agent).actor(runner="fast", deterministic=False)
    alike(both(agent), np.ones(3, np.float32))


def test_whole_numbers_beyond_2_to_the_63_are_told_apart() -> None:
    action = spaces.Box(-1, 1, (2,))
    agent = make(spaces.Box(0, 2**64 - 1, (2,), np.uint64), action, memory="rnn")
    agent.reader.get_buffer("centre_0").fill_(2.0**63 + 2**20)
    actors = both(agent)
    for i in range(5):
        alike(actors, np.array([2**63 + 2**20 + i, 2**63 + 2**20 - i], np.uint64))


def test_a_value_that_is_not_finite_is_refused_though_the_logits_are() -> None:
    agent = make(memory="none")
    assert agent.critic is not None
    torch.nn.init.constant_(agent.critic.bias, np.inf)
    actors = both(agent)
    with pytest.raises(UserError, match="too large for this policy"):
        actors[1].act(np.ones(3, np.float32))
    alike(actors, np.ones(3, np.float32))


@pytest.mark.parametrize("observation", OBSERVATIONS)
def test_every_space_is_read_as_the_exact_actor_reads_it(observation: str) -> None:
    space = OBSERVATIONS[observation]
    actors = both(make(space, memory="rnn"))
    space.seed(0)
    for _ in range(8):
        alike(actors, space.sample())


@pytest.mark.parametrize(
    ("space", "hidden"),
    [
        (spaces.Box(10, 20, (3,), np.int64), (1,)),
        (spaces.Box(0, 1, (3,), np.float64), ()),
        (spaces.Box(-np.inf, np.inf, (3,), np.float64), (0,)),
    ],
    ids=str,
)
def test_what_is_far_away_is_refused_where_it_is_not_hidden(
    space: spaces.Box, hidden: tuple[int, ...]
) -> None:
    actors = both(make(space, memory="rnn", hide_indices=hidden))
    near = np.array([12, 17, 15]) / (1 if space.dtype.kind == "i" else 20)
    for place in range(3):
        for value in (31, -1000, np.nan):
            seen = near.copy()
            if np.isnan(value) and space.dtype.kind == "i":
                continue
            seen[place] = value
            alike(actors, seen.astype(space.dtype))
            alike(actors, near.astype(space.dtype))


def test_bytes_are_looked_at_where_they_are_not_hidden_and_fractions_are_no_whole_numbers() -> None:
    actors = both(make(spaces.Box(0, 100, (3,), np.uint8), memory="rnn", hide_indices=(1,)))
    alike(actors, np.array([5, 250, 6], np.uint8))
    with pytest.raises(UserError, match="far outside"):
        actors[1].act(np.array([250, 5, 6], np.uint8))
    actors = both(make(spaces.Box(10, 20, (3,), np.int64), memory="rnn"))
    alike(actors, np.array([12, 13, 14]))
    with pytest.raises(UserError, match="expected integers"):
        actors[1].act(np.array([12.5, 13, 14], np.float32))


def test_one_number_is_not_taken_for_all() -> None:
    actors = both(make(VECTOR, memory="rnn"))
    for seen in (np.ones(1, np.float32), np.float32(1), np.ones((1, 3), np.float32)):
        with pytest.raises(UserError):
            actors[1].act(seen)
        alike(actors, seen)


def test_a_mask_is_refused_where_actions_have_none() -> None:
    actors = both(make(action=ACTIONS["Box"], memory="none"))
    with pytest.raises(UserError, match="mask"):
        actors[1].act(np.ones(3, np.float32), action_masks=[True])
    alike(actors, np.ones(3, np.float32), None, [True])


def test_a_mask_is_of_one_step() -> None:
    actors = both(make(memory="rnn"))
    for i, seen in enumerate(np.random.default_rng(1).normal(size=(12, 3)).astype(np.float32)):
        alike(actors, seen, None, [j == i % 4 for j in range(4)] if i % 2 else None)


def test_a_step_that_the_kernels_lack_is_numpys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recurrent_rl.agents.fast_actor.serves", lambda listing: False)
    actors = both(make(memory="rnn"))
    assert actors[1].runner == "numpy"
    for seen in np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32):
        alike(actors, seen)
