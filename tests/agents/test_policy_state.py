"""What a policy carries: it goes from actor to actor, and that of another policy is refused."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.kernels.safeguards import MemoryInputError
from recurrent_rl.agents.memory.states import GRUState, tensors_of
from recurrent_rl.agents.policy import Policy
from recurrent_rl.agents.policy_state import PolicyState

BOX = spaces.Box(-5, 5, (3,), np.float32)
RUNNERS = ["exact", "fast"]


def make(action: gym.Space[Any] | None = None, memory: str = "gru", **config: Any) -> Policy:
    torch.manual_seed(0)
    settings = {"hidden_size": 8, "encoder_size": 6, **config}
    action = spaces.Discrete(4, start=2) if action is None else action
    agent = ActorCritic(BOX, action, AgentConfig(memory, **settings))
    with torch.no_grad():
        for parameter in agent.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return Policy(agent)


def seen(t: int, streams: int = 2) -> Any:
    return np.random.default_rng(t).normal(size=(streams, 3)).astype(np.float32)


def played(policy: Policy, steps: int = 4, streams: int = 2) -> PolicyState:
    """The state after some steps."""
    state: PolicyState | None = None
    for t in range(steps):
        _, state = policy.predict(seen(t, streams), state, deterministic=True, reward=0.1 * t)
    assert state is not None
    return state


def equal(a: PolicyState, b: PolicyState) -> bool:
    return all(map(torch.equal, tensors_of(a), tensors_of(b)))


@pytest.mark.parametrize("to", RUNNERS)
@pytest.mark.parametrize("of", RUNNERS)
@pytest.mark.parametrize("memory", ["lstm", "gru-matrix"])
def test_a_state_goes_from_one_actor_to_a_new_one(memory: str, of: Any, to: Any) -> None:
    policy = make(memory=memory, previous_reward=True, separate_memory=True)
    first, second = (policy.actor(runner=runner, num_envs=2) for runner in (of, to))
    for t in range(6):
        first.act(seen(t), reward=0.1 * t)
    second.state = first.state
    fresh = policy.actor(num_envs=2)
    fresh.act(seen(6), reward=0.6)
    for t in range(6, 9):
        np.testing.assert_array_equal(second.act(seen(t), 0.1 * t), first.act(seen(t), 0.1 * t))
        for x, y in zip(tensors_of(first.state), tensors_of(second.state), strict=True):
            torch.testing.assert_close(x, y, atol=1e-5, rtol=1e-5)
        if t == 6:
            assert not torch.allclose(tensors_of(fresh.state)[0], tensors_of(second.state)[0])


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_state_that_was_read_stays_as_it_was(runner: Any) -> None:
    actor = make().actor(runner=runner, num_envs=2)
    actor.act(seen(0))
    kept = actor.state
    before = [x.clone() for x in tensors_of(kept)]
    actor.act(seen(1))
    assert all(map(torch.equal, tensors_of(kept), before))
    assert not equal(kept, actor.state)


def other(**config: Any) -> PolicyState:
    return played(make(**config))


def out_of_range(action: gym.Space[Any], value: Any) -> PolicyState:
    state = played(make(action))
    state.previous_action[1] = torch.as_tensor(value)
    return state


DISCRETE = spaces.Discrete(4)
WRONG: dict[str, tuple[Callable[[], Any], gym.Space[Any], str]] = {
    "text": (lambda: "rubbish", DISCRETE, "state is 'rubbish'; it must be a PolicyState"),
    "no memory": (
        lambda: PolicyState("x", torch.zeros(2)),  # type: ignore[arg-type]
        DISCRETE,
        r"of another policy: it has memory, .* expected memory.GRUState.h, ",
    ),
    "no tensor": (
        lambda: PolicyState(GRUState("x"), torch.zeros(2)),  # type: ignore[arg-type]
        DISCRETE,
        r"memory.GRUState.h is a str; expected torch.float32 \[1, B, 8\] on cpu",
    ),
    "memory": (
        lambda: other(memory="lstm"),
        DISCRETE,
        "it has memory.LSTMState.h, memory.LSTMState.c, .* expected memory.GRUState.h, ",
    ),
    "kind of state alone": (lambda: other(memory="rnn"), DISCRETE, "has memory.RNNState.h, "),
    "pair": (
        lambda: other(separate_memory=True),
        DISCRETE,
        "has memory.PairState.actor.GRUState.h, memory.PairState.critic.GRUState.h, ",
    ),
    "size": (
        lambda: other(hidden_size=5),
        DISCRETE,
        r"memory.GRUState.h is torch.float32 \[1, B, 5\] on cpu; expected .*\[1, B, 8\]",
    ),
    "type of the memory": (
        lambda: PolicyState(
            GRUState(torch.zeros(1, 2, 8).double()), torch.zeros(2, dtype=torch.int64)
        ),
        DISCRETE,
        r"h is torch.float64 \[1, B, 8\] on cpu; expected torch.float32",
    ),
    "type of the action": (
        lambda: other(action=spaces.MultiBinary(2)),
        spaces.MultiDiscrete([2, 2]),
        r"previous_action is torch.float32 \[B, 2\] on cpu; expected torch.int64 \[B, 2\]",
    ),
    "shape of the action": (
        lambda: other(action=spaces.MultiDiscrete([2, 2])),
        DISCRETE,
        r"previous_action is torch.int64 \[B, 2\] on cpu; expected torch.int64 \[B\]",
    ),
    "an action alone": (
        lambda: other()._replace(previous_action=torch.tensor(0)),
        DISCRETE,
        r"previous_action is torch.int64 \[\] on cpu; expected torch.int64 \[B\]",
    ),
    "more actions": (
        lambda: out_of_range(spaces.Discrete(9), 8),
        DISCRETE,
        r"previous_action is \[\d, 8\]; expected whole numbers from 0, below 4",
    ),
    "fewer than none": (lambda: out_of_range(DISCRETE, -1), DISCRETE, "below 4"),
    "more of a part": (
        lambda: out_of_range(spaces.MultiDiscrete([3, 3]), [1, 2]),
        spaces.MultiDiscrete([3, 2]),
        r"expected whole numbers from 0, below \[3, 2\]",
    ),
    "streams": (
        lambda: played(make(), streams=1),
        DISCRETE,
        "state is of 1 streams, and one of 2 is needed",
    ),
    "streams of the memory": (
        lambda: other()._replace(memory=GRUState(torch.zeros(1, 3, 8))),
        DISCRETE,
        r"different numbers of streams, \[2, 3\]",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_state_of_another_policy_is_refused_by_what_does_not_fit(case: str) -> None:
    given, action, message = WRONG[case]
    policy, state = make(action), given()
    with pytest.raises(MemoryInputError, match=message):
        policy.predict(seen(0), state)
    for runner in ("exact", "fast"):
        actor = policy.actor(runner=runner, num_envs=2)
        actor.act(seen(0))
        before = actor.state
        with pytest.raises(MemoryInputError, match=message):
            actor.state = state
        assert equal(actor.state, before)


def test_a_previous_action_that_is_not_read_may_be_any() -> None:
    policy = make(spaces.Discrete(4), previous_action=False)
    state = played(policy)
    policy.predict(seen(0), state._replace(previous_action=torch.tensor([0, 8])))
