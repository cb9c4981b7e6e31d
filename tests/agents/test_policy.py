"""Policies elsewhere: the same actions as in training, from raw observations, in any form."""

import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector.utils import batch_space

from recurrent_rl.agents.action_masks import ActionMaskError
from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.devices import DeviceError
from recurrent_rl.agents.kernels.safeguards import MemoryInputError
from recurrent_rl.agents.memory.registry import MEMORIES
from recurrent_rl.agents.memory.states import tensors_of
from recurrent_rl.agents.policy import Policy, load_policy
from recurrent_rl.agents.policy_state import PolicyState
from recurrent_rl.agents.settings import SettingError
from recurrent_rl.agents.spaces import ObservationError

BOX = spaces.Box(-5, 5, (3,))
NESTED = spaces.Dict(
    {
        "image": spaces.Box(0, 255, (8, 8, 3), np.uint8),
        "rest": spaces.Tuple((spaces.Discrete(3, start=1), spaces.MultiBinary(2), BOX)),
    }
)
ACTIONS: list[gym.Space[Any]] = [
    spaces.Discrete(4, start=2),
    spaces.MultiDiscrete([2, 3]),
    spaces.MultiBinary(3),
    spaces.Box(-2, 2, (2,)),
]


def make(
    observation: gym.Space[Any] = BOX, action: gym.Space[Any] = ACTIONS[0], **config: Any
) -> Policy:
    torch.manual_seed(0)
    settings = {"memory": "lstm", "hidden_size": 12, "encoder_size": 10, **config}
    agent = ActorCritic(observation, action, AgentConfig(**settings))
    with torch.no_grad():
        for parameter in agent.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    if not (agent.config.previous_reward or agent.config.previous_action):
        vectors = {path: 2 + torch.randn(50, 2, 3) for path in ("", "rest/2")}
        agent.observation_normaliser.update(vectors, torch.ones(50, 2, dtype=torch.bool))
    return Policy(agent, {"env_id": "x", "timesteps": 3})


@pytest.mark.parametrize("observation", [BOX, NESTED], ids=["box", "nested"])
@pytest.mark.parametrize("action", ACTIONS, ids=str)
def test_single_and_batched_observations_give_actions_of_the_space(
    observation: gym.Space[Any], action: gym.Space[Any]
) -> None:
    policy = make(observation, action)
    observation.seed(0)
    one, state = policy.predict(observation.sample())
    assert action.contains(one)
    one, _ = policy.predict(observation.sample(), state, deterministic=True)
    assert action.contains(one)
    assert isinstance(one, np.ndarray if action.shape else np.integer)
    batched = batch_space(observation, 5)
    batched.seed(0)
    many, _ = policy.predict(batched.sample())
    assert len(many) == 5
    assert batch_space(action, 5).contains(np.asarray(many))


@pytest.mark.parametrize("memory", list(MEMORIES))
def test_a_loaded_policy_gives_the_same_actions(tmp_path: Path, memory: str) -> None:
    policy = make(memory=memory, num_layers=2, separate_memory=True)
    policy.save(tmp_path / "p.safetensors")
    again = load_policy(tmp_path / "p.safetensors")
    assert again.config == policy.config
    assert again.summary == policy.summary
    assert (again.observation_space, again.action_space) == (BOX, ACTIONS[0])
    state: Any = None
    state_again: Any = None
    for t in range(20):
        x = np.random.default_rng(t).standard_normal((4, 3)).astype(np.float32)
        start = np.array([t % 5 == i for i in range(4)])
        a, state = policy.predict(x, state, start, deterministic=True)
        b, state_again = again.predict(x, state_again, start, deterministic=True)
        np.testing.assert_array_equal(a, b)
        for s, s_again in zip(
            tensors_of(state.memory), tensors_of(state_again.memory), strict=True
        ):
            assert torch.equal(s, s_again)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_loads_and_acts_where_its_parent_used_several_threads(
    tmp_path: Path,
) -> None:
    """PyTorch alone waits there for threads that were not forked with it."""
    policy = make(action=ACTIONS[3])
    policy.save(tmp_path / "p.safetensors")
    code = """
import os, signal, sys, time, numpy as np, torch, recurrent_rl
torch.set_num_threads(2)
path, x = sys.argv[1], np.ones((512, 3), np.float32)
policy = recurrent_rl.load_policy(path)
torch.ones(2048, 512) @ torch.ones(512, 512)
action, _ = policy.predict(x, deterministic=True)
if (child := os.fork()) == 0:
    again, _ = policy.predict(x, deterministic=True)
    loaded, _ = recurrent_rl.load_policy(path).predict(x, deterministic=True)
    torch.ones(2048, 512) @ torch.ones(512, 512)
    alike = all(np.allclose(action, one, atol=1e-5) for one in (again, loaded))
    os._exit(0 if alike else 1)
end = time.monotonic() + 60
while os.waitpid(child, os.WNOHANG) == (0, 0):
    if time.monotonic() > end:
        os.kill(child, signal.SIGKILL)
        sys.exit("the forked process hangs")
    time.sleep(0.05)
print("acted", torch.get_num_threads())
"""
    command = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path / "p.safetensors")]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert (result.stdout, result.stderr) == ("acted 2\n", "")


def test_a_fresh_process_computes_the_same_bits(tmp_path: Path) -> None:
    policy = make(action=ACTIONS[3])
    policy.save(tmp_path / "p.safetensors")
    code = """
import sys, numpy as np, recurrent_rl
policy, state = recurrent_rl.load_policy(sys.argv[1]), None
for t in range(5):
    x = np.random.default_rng(t).standard_normal((3, 3)).astype(np.float32)
    action, state = policy.predict(x, state, deterministic=True)
    print(action.tobytes().hex(), state.memory.c.numpy().tobytes().hex())
"""
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "p.safetensors")],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    state: PolicyState | None = None
    expected = []
    for t in range(5):
        x = np.random.default_rng(t).standard_normal((3, 3)).astype(np.float32)
        action, state = policy.predict(x, state, deterministic=True)
        cell = state.memory[1].numpy()
        expected.append(f"{action.tobytes().hex()} {cell.tobytes().hex()}")
    assert result.stdout.split("\n")[:5] == expected


def test_prediction_step_by_step_is_the_agents_unroll() -> None:
    policy = make(previous_action=True, previous_reward=True)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((7, 2, 3)).astype(np.float32)
    rewards = rng.standard_normal((7, 2)).astype(np.float32)
    start = np.zeros((7, 2), dtype=bool)
    start[0] = start[3, 1] = True
    state: PolicyState | None = None
    actions, memories = [], []
    for t in range(7):
        action, state = policy.predict(x[t], state, start[t], deterministic=True, reward=rewards[t])
        actions.append(torch.as_tensor(action) - 2)
        memories.append(state.memory)
    previous = torch.stack([torch.zeros(2, dtype=torch.int64), *actions[:-1]])
    components = policy.agent.with_previous(
        {"": torch.as_tensor(x)}, previous, torch.as_tensor(rewards)
    )
    output, end = policy.agent.unroll(
        components, policy.agent.initial_state(2), torch.as_tensor(start)
    )
    assert torch.equal(output.distribution.mode(), torch.stack(actions))
    for a, b in zip(end, memories[-1], strict=True):
        torch.testing.assert_close(a, b)


def test_an_episode_start_forgets_what_came_before() -> None:
    policy = make()
    x = np.ones((2, 3), np.float32)
    _, state = policy.predict(5 * x)
    _, kept = policy.predict(x, state, False)
    _, fresh = policy.predict(x, state, np.array([True, False]))
    _, first = policy.predict(x)
    assert torch.equal(fresh.memory[0][:, 0], first.memory[0][:, 0])
    assert torch.equal(fresh.memory[0][:, 1], kept.memory[0][:, 1])
    assert not torch.equal(fresh.memory[0][:, 0], kept.memory[0][:, 0])


def test_views_of_any_strides_and_byte_orders_are_read() -> None:
    """Such as flipped images."""
    image = spaces.Box(0, 255, (8, 8, 3), np.uint8)
    batch = np.random.default_rng(0).integers(256, size=(4, 8, 8, 3)).astype(np.uint8)
    vectors = np.linspace(-2, 2, 12).reshape(4, 3)
    for policy, view, plain in (
        (make(image), batch[:, ::-1], batch[:, ::-1].copy()),
        (make(), vectors.astype(">f4"), vectors.astype(np.float32)),
        (make(), vectors.astype("<f8")[::-1, ::-1], vectors[::-1, ::-1].copy()),
    ):
        plain.flags.writeable = False
        expected, _ = policy.predict(plain, deterministic=True)
        got, _ = policy.predict(view, deterministic=True)
        assert np.array_equal(got, expected)
        assert np.array_equal(policy.actor(num_envs=4).act(view), expected)


def test_an_actor_keeps_the_state_of_one_stream() -> None:
    policy = make(previous_reward=True)
    actor = policy.actor()
    for _ in range(2):
        state: PolicyState | None = None
        for t in range(6):
            x = np.random.default_rng(t).standard_normal(3).astype(np.float32)
            action, state = policy.predict(x, state, deterministic=True, reward=0.5 * t)
            assert actor.act(x, reward=0.5 * t) == action
        actor.reset()


def test_sampling_is_repeated_by_its_seed() -> None:
    policy = make()
    x = np.zeros((64, 3), np.float32)
    drawn = []
    for seed in (1, 1, 2):
        policy.seed(seed)
        drawn.append(policy.predict(x)[0])
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0] != drawn[2]).any()
    actors = [policy.actor(deterministic=False, seed=3) for _ in range(2)]
    for _ in range(20):
        assert actors[0].act(x[0]) == actors[1].act(x[0])


def test_masked_actions_are_not_taken() -> None:
    policy = make()
    masks = np.zeros((40, 4), np.int8)
    masks[np.arange(40), np.arange(40) % 4] = 1
    actions, _ = policy.predict(np.zeros((40, 3), np.float32), action_masks=masks)
    np.testing.assert_array_equal(actions, 2 + np.arange(40) % 4)
    assert policy.actor().act(np.zeros(3, np.float32), action_masks=[0, 0, 1, 0]) == 4


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda p, s: p.predict(np.zeros(4)),
            ObservationError,
            r"shape \[1, 4\]; expected",
        ),
        (
            lambda p, s: p.predict(np.zeros((3, 3)), s),
            MemoryInputError,
            "state is of 2 streams.* of 3",
        ),
        (
            lambda p, s: p.predict(np.zeros((2, 3)), s, action_masks=np.ones((2, 5))),
            ActionMaskError,
            r"mask of \[5\] entries does not fit Discrete.*; expected 4",
        ),
        *(
            (
                lambda p, s, start=start: p.predict(np.zeros((2, 3)), s, start),
                MemoryInputError,
                "episode_start is .*; it must be true or false, or one of them for each of 2",
            )
            for start in ([True], np.array([2, 0]), np.array([np.nan, 0.0]), "ab", [[True, False]])
        ),
    ],
)
def test_wrong_arguments_are_refused(call: Any, error: type[Exception], message: str) -> None:
    policy = make()
    _, state = policy.predict(np.zeros((2, 3), np.float32))
    with pytest.raises(error, match=message):
        call(policy, state)


@pytest.mark.parametrize(
    "action",
    [
        spaces.MultiDiscrete(np.array([[2, 3], [4, 2]])),
        spaces.MultiBinary([2, 3]),
        spaces.Box(-1, 1, (2, 2)),
        spaces.Box(-1, 1, ()),
    ],
    ids=str,
)
def test_an_action_of_any_shape_can_be_fed_back(action: gym.Space[Any]) -> None:
    policy = make(action=action, previous_action=True)
    state: PolicyState | None = None
    for _ in range(3):
        one, state = policy.predict(np.zeros((2, 3), np.float32), state)
        assert batch_space(action, 2).contains(np.asarray(one, dtype=action.dtype))


def test_a_dict_observation_without_a_key_is_refused_by_the_key() -> None:
    policy = make(NESTED)
    with pytest.raises(ObservationError, match="lacks 'image'"):
        policy.predict({"rest": ()})


def test_a_mask_that_forbids_everything_is_refused() -> None:
    with pytest.raises(ValueError, match="forbids every action"):
        make().predict(np.zeros(3, np.float32), action_masks=[0, 0, 0, 0])


def test_a_policy_that_is_fed_rewards_asks_for_them() -> None:
    policy = make(previous_reward=True)
    x = np.zeros(3, np.float32)
    _, state = policy.predict(x)
    with pytest.raises(ObservationError, match="pass reward="):
        policy.predict(x, state)


def test_masks_for_an_action_space_without_them_are_refused() -> None:
    with pytest.raises(ValueError, match="has no action masks"):
        make(action=ACTIONS[3]).predict(np.zeros(3), action_masks=[1, 1])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_reading_that_is_no_number_is_refused_and_leaves_the_stream_as_it_was(bad: float) -> None:
    policy = make(previous_action=True, previous_reward=True)
    rng = np.random.default_rng(0)
    readings = rng.standard_normal((12, 3)).astype(np.float32)
    clean, dropped = policy.actor(), policy.actor()
    for t, reading in enumerate(readings):
        if t == 5:
            with pytest.raises(ObservationError, match="holds NaN or infinity"):
                dropped.act(np.full(3, bad, np.float32), reward=1.0)
            with pytest.raises(ObservationError, match="must be a finite number"):
                dropped.act(reading, reward=bad)
        assert clean.act(reading, reward=0.1 * t) == dropped.act(reading, reward=0.1 * t)
    _, state = policy.predict(readings[:2])
    kept = [x.clone() for x in state.memory]
    with pytest.raises(ObservationError, match="of environment 1 holds NaN or infinity"):
        policy.predict(np.array([[0, 0, 0], [0, bad, 0]]), state, reward=0.0)
    assert all(torch.equal(a, b) for a, b in zip(kept, state.memory, strict=True))


@pytest.mark.parametrize(
    "mask",
    [
        [1, 0, 0, 0, 1],
        ([1, 0], [0, 0, 1]),
        (np.array([1, 0]), np.array([0, 0, 1], bool)),
        np.array([[1, 0, 0], [0, 0, 1]]),
        torch.tensor([True, False, False, False, True]),
        [[1, 0, 0, 0, 1], ([1, 0], [0, 0, 1]), [1, 0, 0, 0, 1]],
    ],
    ids=["list", "lists", "arrays", "matrix", "tensor", "one for each"],
)
def test_masks_are_taken_in_every_form_that_gymnasium_has(mask: Any) -> None:
    policy = make(action=spaces.MultiDiscrete([2, 3]))
    actions, _ = policy.predict(np.zeros((3, 3)), action_masks=mask)
    assert actions.tolist() == [[0, 2]] * 3


def test_a_component_with_nothing_allowed_is_refused() -> None:
    policy = make(action=spaces.MultiDiscrete([2, 3]))
    with pytest.raises(ActionMaskError, match="or every one of a component"):
        policy.predict(np.zeros(3), action_masks=[1, 0, 0, 0, 0])


def test_sampling_leaves_the_callers_random_numbers_alone() -> None:
    before = torch.get_rng_state()
    policy = make()
    torch.set_rng_state(before)
    policy.predict(np.zeros((5, 3), np.float32))
    policy.actor(deterministic=False).act(np.zeros(3, np.float32))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("device", ["nonsense", "cuda:99", "meta", "", "cpu:x"])
def test_a_device_that_there_is_not_is_refused(device: str, tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    make().save(path)
    with pytest.raises(DeviceError, match=rf"Device '{device}' cannot be used \(.*\); try cpu"):
        load_policy(path, device)


def test_what_is_batched_is_known_from_the_first_component_behind_what_is_empty() -> None:
    space = spaces.Dict({"a": spaces.Dict({}), "b": spaces.Tuple((spaces.Tuple(()), BOX))})
    policy = make(space, previous_reward=True)
    one = space.sample()
    assert ACTIONS[0].contains(policy.predict(one, reward=0.0)[0])
    many, _ = policy.predict({"a": {}, "b": ((), np.zeros((4, 3), np.float32))}, reward=0.0)
    assert len(many) == 4


def test_an_observation_that_overflows_inside_is_refused_and_the_state_stays_as_it_was() -> None:
    config = AgentConfig("matrix", hidden_size=4, encoder_layers=0, normalize_observations=False)
    box = spaces.Box(-1e30, 1e30, (2,), np.float32)
    policy = Policy(ActorCritic(box, spaces.Discrete(2), config))
    actor = policy.actor()
    actor.act(np.ones(2, np.float32))
    before = [x.clone() for x in tensors_of(actor.state.memory)]
    with pytest.raises(ObservationError, match="too large for this policy"):
        actor.act(np.full(2, 1e30, np.float32))
    assert all(map(torch.equal, tensors_of(actor.state.memory), before))
    actor.act(np.ones(2, np.float32))


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_policy_is_copied_whole_and_a_fast_actor_not_at_all(copied: Any) -> None:
    space = spaces.Box(-1, 1, (3,), np.float32)
    policy = Policy(ActorCritic(space, spaces.Box(-1, 1, (2,)), AgentConfig("gru", hidden_size=8)))
    torch.nn.init.normal_(policy.agent.head.linear.weight)
    other = copied(policy)
    other = pickle.loads(other) if isinstance(other, bytes) else other
    observation = np.ones(3, np.float32)
    expected = policy.actor().act(observation)
    np.testing.assert_array_equal(other.actor().act(observation), expected)
    fast = policy.actor(runner="fast")
    with pytest.raises(TypeError, match=r"cannot be copied.* policy\.actor\(runner=.fast"):
        copied(fast)
    np.testing.assert_allclose(fast.act(observation), expected, atol=1e-5)


@pytest.mark.parametrize("runner", ["exact", "fast"])
def test_streams_are_reset_by_flags_or_indices_and_not_by_what_may_be_either(runner: Any) -> None:
    space = spaces.Box(-1, 1, (3,), np.float32)
    policy = Policy(ActorCritic(space, spaces.Box(-1, 1, (2,)), AgentConfig("gru", hidden_size=8)))
    torch.nn.init.normal_(policy.agent.head.linear.weight)
    actor = policy.actor(runner=runner, num_envs=3)
    observation = np.ones((3, 3), np.float32)
    first = actor.act(observation)
    for streams, again in [
        ([False, True, False], {1}),
        (torch.tensor([True, False, True]), {0, 2}),
        (2, {2}),
        (0, {0}),
        (-1, {2}),
        (np.array([0, 2]), {0, 2}),
        ([0, 1], {0, 1}),
        ([2, 0, 1], {0, 1, 2}),
        (np.zeros(3, bool), set()),
        ([], set()),
        (np.flatnonzero(np.zeros(3)), set()),
        (..., {0, 1, 2}),
    ]:
        actor.act(observation)
        actor.reset(streams)
        found = actor.act(observation)
        assert {i for i in range(3) if np.array_equal(found[i], first[i])} == again
    either: list[Any] = [np.array([0, 0, 0]), [1, 0, 1], torch.tensor([0, 1, 0])]
    for streams in either:
        with pytest.raises(SettingError, match=r"may be indices, or .* Give True and False"):
            actor.reset(streams)
    wrong: list[Any] = [3, -4, [0.0], [True], [[0, 2]], None]
    for streams in wrong:
        with pytest.raises(SettingError, match=r"streams is .* it must be an index below 3"):
            actor.reset(streams)


def test_policies_and_actors_show_what_they_are_in_a_line() -> None:
    assert repr(make()) == "<Policy: lstm, Box(3,) to Discrete(4), 3 steps>"
    untrained = Policy(make(NESTED, ACTIONS[1], memory="gru").agent)
    assert repr(untrained) == "<Policy: gru, Dict of 2 to MultiDiscrete(2,)>"
    actor = make().actor()
    assert repr(actor) == "<Actor: lstm, Box(3,) to Discrete(4), deterministic>"
    fast = make().actor(False, runner="fast", num_envs=3)
    assert repr(fast) == "<FastActor: lstm, Box(3,) to Discrete(4), stochastic, 3 streams>"
