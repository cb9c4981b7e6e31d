"""What a policy carries: it goes from actor to actor, and that of another policy is refused."""

import json
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

import recurrent_rl
from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.kernels.safeguards import MemoryInputError
from recurrent_rl.agents.memory.registry import MEMORIES
from recurrent_rl.agents.memory.states import GRUState, tensors_of
from recurrent_rl.agents.policy import Policy
from recurrent_rl.agents.policy_state import PolicyState
from recurrent_rl.agents.settings import SettingError

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


@pytest.mark.parametrize(
    ("case", "runner"), [*((case, "exact") for case in WRONG), ("size", "fast")]
)
def test_a_state_of_another_policy_is_refused_by_what_does_not_fit(case: str, runner: Any) -> None:
    given, action, message = WRONG[case]
    policy, state = make(action), given()
    with pytest.raises(MemoryInputError, match=message):
        policy.predict(seen(0), state)
    actor = policy.actor(runner=runner, num_envs=2)
    actor.act(seen(0))
    before = actor.state
    with pytest.raises(MemoryInputError, match=message):
        actor.state = state
    assert equal(actor.state, before)


def test_what_weights_compute_with_now_says_which_states_are_right() -> None:
    """As the agent is moved, to another type here, so are the states that it takes."""
    policy = make()
    before = played(policy)
    policy.state_from_json(before.to_json())
    policy.agent.double()
    now = policy.initial_state(2)
    policy.actor(num_envs=2).state = now
    assert equal(policy.state_from_json(now.to_json()), now)
    for refused in (
        lambda: policy.predict(seen(0), before),
        lambda: policy.state_from_json(before.to_json()),
    ):
        with pytest.raises(MemoryInputError, match=r"h is torch.float32 .*expected torch.float64"):
            refused()


def test_a_state_is_compared_with_one_that_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service reads and compares states by the hundred."""
    policy = make(memory="gru-matrix", separate_memory=True)
    state, actor = played(policy), policy.actor(num_envs=2)
    policy.predict(seen(0), state)
    monkeypatch.setattr(policy.agent, "initial_state", lambda n: pytest.fail("made"))
    for _ in range(3):
        again = policy.state_from_json(state.to_json())
        _, state = policy.predict(seen(0), again)
        actor.state = state


def test_a_previous_action_that_is_not_read_may_be_any() -> None:
    policy = make(spaces.Discrete(4), previous_action=False)
    state = played(policy)
    policy.predict(seen(0), state._replace(previous_action=torch.tensor([0, 8])))


@pytest.mark.parametrize("memory", list(MEMORIES))
def test_a_state_comes_back_from_json_to_the_bit(memory: str) -> None:
    policy = make(memory=memory, num_layers=2, previous_reward=True, separate_memory=True)
    state = played(policy)
    again = policy.state_from_json(state.to_json())
    assert type(again.memory) is type(state.memory)
    for x, y in zip(tensors_of(state), tensors_of(again), strict=True):
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
        assert x.contiguous().view(torch.uint8).equal(y.view(torch.uint8))
    first, second = (
        policy.predict(seen(9), s, reward=0.9, deterministic=True) for s in (state, again)
    )
    np.testing.assert_array_equal(first[0], second[0])
    assert equal(first[1], second[1])


@pytest.mark.parametrize(
    "action",
    [spaces.MultiDiscrete([3, 2]), spaces.MultiBinary(3), spaces.Box(-1, 1, (2,))],
    ids=str,
)
def test_a_previous_action_of_any_space_comes_back_from_json(action: gym.Space[Any]) -> None:
    policy = make(action)
    state = played(policy)
    assert equal(policy.state_from_json(state.to_json()), state)


@pytest.mark.parametrize("number", [torch.inf, torch.nan])
def test_json_of_numbers_that_are_none_is_refused_before_they_spoil_a_batch(number: float) -> None:
    policy = make(memory="lstm")
    state = played(policy)
    state.memory.h[0, 0, 0] = number  # type: ignore[attr-defined]
    text = state.to_json()
    json.loads(text, parse_constant=pytest.fail)  # strict JSON, which has no NaN
    with pytest.raises(MemoryInputError, match=r"memory\.LSTMState\.h holds NaN or infinity"):
        policy.state_from_json(text)


def test_a_negative_zero_and_a_state_without_streams_come_back_from_json() -> None:
    policy = make(memory="lstm")
    state = played(policy)
    state.memory.h[0, 0, 0] = -0.0  # type: ignore[attr-defined]
    (h, *_), (g, *_) = state.memory, policy.state_from_json(state.to_json()).memory
    assert h.view(torch.int32).equal(g.view(torch.int32))
    assert len(policy.state_from_json(policy.initial_state(0).to_json()).previous_action) == 0


class Turning(NamedTuple):
    """A state of complex doubles."""

    z: torch.Tensor


class Turn(recurrent_rl.Memory):
    """A memory of one's own: it turns what it holds."""

    state_type = Turning

    def __init__(self, input_size: int, hidden_size: int, num_layers: int) -> None:
        super().__init__(input_size, input_size)

    def initial_state(self, batch: int) -> Turning:
        return Turning(torch.zeros(1, batch, self.input_size, dtype=torch.complex128))

    def step(self, x: torch.Tensor, state: Any, episode_start: Any = None) -> Any:
        (z,) = self.reset(state, episode_start)
        z = 0.9 * z * 1j + x
        return z[0].real.float(), Turning(z)


def test_a_state_of_complex_doubles_comes_back_from_json() -> None:
    policy = Policy(ActorCritic(BOX, spaces.Discrete(4), AgentConfig(memory=Turn)))
    state = played(policy)
    assert equal(policy.state_from_json(state.to_json()), state)


@pytest.mark.parametrize("case", [case for case in WRONG if " " in case and case[:3] != "no "])
def test_json_of_a_state_of_another_policy_is_refused_by_what_does_not_fit(case: str) -> None:
    given, action, message = WRONG[case]
    with pytest.raises(MemoryInputError, match=message):
        make(action).state_from_json(given().to_json())


H, A = "memory.GRUState.h", "previous_action"
FORGED: dict[str, Callable[[dict[str, Any], list[Any]], Any]] = {
    "a number": lambda good, h: 1,
    "a list": lambda good, h: [1],
    "no part": lambda good, h: {},
    "a part that is none": lambda good, h: {**good, H: 3},
    "a part without a type": lambda good, h: {**good, H: h[1:]},
    "a type that is none": lambda good, h: {**good, H: ["load", *h[1:]]},
    "a type of eight bits": lambda good, h: {**good, H: ["float8_e4m3fn", [1, 8, 8], h[2]]},
    "a type that is no text": lambda good, h: {**good, H: [[], *h[1:]]},
    "a huge shape": lambda good, h: {**good, H: [h[0], [1, 10**12, 8], h[2]]},
    "a shape beyond any": lambda good, h: {**good, H: [h[0], [1, 10**40, 8], h[2]]},
    "a shape of text": lambda good, h: {**good, H: [h[0], "128", h[2]]},
    "no bytes": lambda good, h: {**good, H: [*h[:2], ""]},
    "half a number": lambda good, h: {**good, H: [*h[:2], h[2][:8]]},
    "bytes that are none": lambda good, h: {**good, H: [*h[:2], "ä*"]},
    "one stream of two": lambda good, h: {**good, H: [h[0], [1, 1, 8], h[2][:40] + "AAA="]},
    "an action too far": lambda good, h: {**good, A: ["int64", [2], "CQAAAAAAAAAJAAAAAAAAAA=="]},
}


@pytest.mark.parametrize("case", FORGED)
def test_json_that_is_no_state_is_refused(case: str) -> None:
    policy = make()
    good = json.loads(played(policy).to_json())
    text = json.dumps(FORGED[case](good, good[H]))
    with pytest.raises(MemoryInputError, match=r"what .*to_json\(\) gave|state's|another policy"):
        policy.state_from_json(text)


@pytest.mark.filterwarnings("ignore:ComplexHalf")
def test_json_of_any_other_type_of_torchs_is_refused() -> None:
    """Some have no arithmetic: not even whether they are finite can be asked."""
    policy = make()
    good = json.loads(played(policy).to_json())
    for kind in [name for name, x in vars(torch).items() if isinstance(x, torch.dtype)]:
        text = json.dumps(good | {H: [kind, [-1], good[H][2]]})
        with pytest.raises(MemoryInputError, match=r"to_json\(\) gave|expected torch.float32"):
            policy.state_from_json(text)


@pytest.mark.parametrize("text", [None, 3, "{", b"\xff", "[" * 100_000])
def test_what_is_no_json_is_refused(text: Any) -> None:
    with pytest.raises(MemoryInputError, match=r"text is .*; it must be what .*to_json\(\) gave"):
        make().state_from_json(text)


def test_streams_are_put_side_by_side_and_taken_apart() -> None:
    """A service: of three clients two ask at a time, in any order."""
    policy = make(memory="gru-matrix", previous_reward=True, separate_memory=True)
    rng = np.random.default_rng(0)
    kept = {client: policy.initial_state(1) for client in range(3)}
    alone = {client: policy.actor() for client in range(3)}
    begun: set[int] = set()
    for t in range(8):
        asking = [int(client) for client in rng.permutation(3)[:2]]
        x = seen(t)
        new = [client not in begun for client in asking]
        together = PolicyState.cat([kept[client] for client in asking])
        actions, after = policy.predict(x, together, np.array(new), True, reward=[0.1, 0.2])
        for i, client in enumerate(asking):
            kept[client] = after.select(i)
            assert actions[i] == alone[client].act(x[i], reward=0.1 * (1 + i))
        begun |= {*asking}
    for client, actor in alone.items():
        for a, b in zip(tensors_of(kept[client]), tensors_of(actor.state), strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_streams_are_selected_as_rows_of_an_array_are() -> None:
    state = played(make(memory="lstm"), streams=3)
    for streams, rows in [
        ([2, 0], [2, 0]),
        (1, [1]),
        (-1, [2]),
        ([True, False, True], [0, 2]),
        (np.array([0, 1, 1]), [0, 1, 1]),
        (torch.tensor([1, 2]), [1, 2]),
        (slice(1, None), [1, 2]),
        ([], []),
    ]:
        chosen = state.select(streams)
        assert equal(chosen, state.select(rows))
        assert torch.equal(chosen.memory[1], state.memory[1][:, rows])
        assert torch.equal(chosen.previous_action, state.previous_action[rows])
    for wrong in (3, [0, 5], "a", [True], 0.5, None):
        with pytest.raises(SettingError, match=r"streams is .*; it must be an index below 3"):
            state.select(wrong)


def test_states_of_different_policies_are_not_put_side_by_side() -> None:
    state = played(make())
    for wrong, message in [
        (other(hidden_size=5), r"\[1, B, 5\] on cpu; expected .*\[1, B, 8\]"),
        (other(memory="lstm"), "memory.LSTMState.h"),
        ("x", "state is 'x'"),
    ]:
        with pytest.raises(MemoryInputError, match=message):
            PolicyState.cat([state, wrong])  # type: ignore[list-item]
    with pytest.raises(MemoryInputError, match="at least one"):
        PolicyState.cat([])


@pytest.mark.parametrize("runner", RUNNERS)
def test_threads_share_a_policy_with_an_actor_each(runner: Any) -> None:
    policy = make(memory="lstm", previous_reward=True)

    def play(client: int) -> list[int]:
        rng = np.random.default_rng(client)
        actor = policy.actor(False, seed=client, runner=runner)
        return [int(actor.act(rng.normal(size=3), reward=rng.normal())) for _ in range(40)]

    found: dict[int, list[int]] = {}
    threads = [threading.Thread(target=lambda i=i: found.update({i: play(i)})) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {client: play(client) for client in range(4)}
