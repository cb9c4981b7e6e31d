"""Policies elsewhere: the same actions as in training, from raw observations, in any form."""

import dataclasses
import json
import random
import resource
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

from recurrent_rl.agents.acting import PolicyState
from recurrent_rl.agents.action_masks import ActionMaskError
from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.files import PolicyFileError, load_tensors, save_tensors
from recurrent_rl.agents.kernels.safeguards import MemoryInputError
from recurrent_rl.agents.memory.registry import MEMORIES
from recurrent_rl.agents.memory.states import tensors_of
from recurrent_rl.agents.policy import DeviceError, Policy, load_policy
from recurrent_rl.agents.policy_file import KIND, VERSION
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
    assert policy.actor().act(np.zeros(3, np.float32), action_mask=[0, 0, 1, 0]) == 4


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


def test_a_file_that_this_version_cannot_build_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    save_tensors(path, {}, {"agent": '{"memory": "hopfield"}', "library_version": '"9.0"'}, KIND, 1)
    with pytest.raises(PolicyFileError, match=r"written by recurrent-rl .*9\.0"):
        load_policy(path)


def states_of_random_numbers() -> tuple[Any, ...]:
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 (the global one)
    return python, str(numpy), torch.get_rng_state().tolist()


def test_loading_leaves_the_callers_random_numbers_type_and_device_alone(tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    expected = make(NESTED, memory="gru-rotor")
    expected.save(path)
    before = states_of_random_numbers()
    load_policy(path)
    assert states_of_random_numbers() == before
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            policy = load_policy(path)
        assert torch.get_default_dtype() is torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    observation = NESTED.sample()
    action, _ = policy.predict(observation, deterministic=True)
    assert action == expected.predict(observation, deterministic=True)[0]


@pytest.mark.parametrize("device", ["nonsense", "cuda:99", "meta", "", "cpu:x"])
def test_a_device_that_there_is_not_is_refused(device: str, tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    make().save(path)
    with pytest.raises(DeviceError, match=rf"Device '{device}' cannot be used \(.*\); try cpu"):
        load_policy(path, device)


def forge(path: Path, tensors: dict[str, Any] | None = None, **text: Any) -> Path:
    """A policy file with its right digest whose tensors (None: without) and text are changed."""
    make(memory="gru").save(path)
    whole, metadata = load_tensors(path, KIND, VERSION)
    changed = {n: x for n, x in {**whole, **(tensors or {})}.items() if x is not None}
    written = {name: x if isinstance(x, str) else json.dumps(x) for name, x in text.items()}
    save_tensors(path, changed, {**metadata, **written}, KIND, VERSION)
    return path


def changed_agent(**changes: Any) -> dict[str, Any]:
    return {**dataclasses.asdict(make(memory="gru").config), **changes}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("hidden_size", 13, r" is of torch.float32 and shape .*; expected "),
        ("hidden_size", 60_000, "such an agent has more weights than the file"),
        ("hidden_size", 10**9, "at most 65,536"),
        ("hidden_size", 2**62, "at most 65,536"),
        ("hidden_size", 10**30, r"a whole number below 2\*\*63"),
        ("encoder_size", 50_000, "such an agent has more weights than the file"),
        ("num_layers", 1000, "1,000 layers are made of 2. tensors"),
        ("encoder_layers", 1000, "1,000 layers are made of 2. tensors"),
        ("actor_layers", [1] * 1000, "1,000 layers are made of 2. tensors"),
        ("critic_layers", [1] * 1001, "at most 1,000 layers"),
        ("actor_layers", [0], r"actor_layers\[0\] is 0; it must be at least 1"),
        ("critic_layers", [12], "'critic_layers.0.bias' is missing|more weights than the file"),
        ("num_layers", 2, "the tensor '.*l1' is missing|more weights than the file"),
        ("separate_memory", True, "the tensor 'trunks.1.* is missing|more weights than the file"),
        ("hidden_size", "12", "hidden_size is '12'; it must be a whole number"),
        ("hidden_size", 12.5, "hidden_size is 12.5; it must be a whole number"),
        ("hidden_size", True, "hidden_size is True; it must be a whole number"),
        ("previous_action", "yes", "previous_action is 'yes'; it must be True or False"),
        ("action_persistence", float("nan"), "action_persistence is nan"),
        ("memory", ["lstm"], r"memory is \['lstm'\]; it must be text"),
        ("memory", "hopfield", "memory is 'hopfield'; it must be one of none, rnn"),
        ("memory", None, "memory is None; it must be text"),
        ("colour", "red", "colour is no setting of AgentConfig"),
        ("horizon", 2**62, "none: no tensor depends on it"),
    ],
)
def test_settings_that_do_not_fit_the_weights_are_refused_without_memory_for_them(
    name: str, value: Any, message: str, tmp_path: Path
) -> None:
    path = forge(tmp_path / "p.safetensors", agent=changed_agent(**{name: value}))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if name == "horizon":  # nothing in the file depends on it
        assert load_policy(path).config.horizon == value
    else:
        with pytest.raises(PolicyFileError, match=message):
            load_policy(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


def test_a_policy_without_memory_may_have_any_number_of_layers(tmp_path: Path) -> None:
    make(memory="none", num_layers=1000).save(tmp_path / "p.safetensors")
    assert load_policy(tmp_path / "p.safetensors").config.num_layers == 1000


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("observation_space", {"type": "MultiDiscrete", "nvec": [2**62], "start": [0]}, "dtype"),
        (
            "observation_space",
            {"type": "MultiDiscrete", "nvec": [2**62], "start": [0], "dtype": "int64"},
            "there is no memory for a learnt vector",
        ),
        (
            "observation_space",
            {"type": "Box", "low": 0, "high": 1, "shape": [10**12], "dtype": "float32"},
            "has 1,000,000,000,000 entries, more than 16,777,216",
        ),
        (
            "observation_space",
            {"type": "Box", "low": 0, "high": 1, "shape": [84, 84, 4], "dtype": "uint8"},
            "the tensor .* is missing|more weights than the file",
        ),
        ("observation_space", "[" * 100_000 + "]" * 100_000, "nested too deeply"),
        ("observation_space", "{", "cannot build"),
        ("action_space", {"type": "Discrete", "n": 10**9, "start": 0}, "has 1,000,000,000 actions"),
        ("action_space", {"type": "Dict", "spaces": []}, "is not supported"),
        ("action_space", 7, "no space is described"),
        ("agent", [], r"AgentConfig is made of .*; it must be a dictionary"),
        ("training", [1], "the training summary is no JSON object"),
        ("training", "no JSON", "cannot build"),
        ("library_version", "\x1b[2J" + "9" * 1000, "written by recurrent-rl '"),
    ],
)
def test_forged_text_is_refused(name: str, value: Any, message: str, tmp_path: Path) -> None:
    broken: dict[str, Any] = {name: value}
    if name == "library_version":
        broken["agent"] = []
    with pytest.raises(PolicyFileError, match=message) as caught:
        load_policy(forge(tmp_path / "p.safetensors", **broken))
    assert len(str(caught.value)) < 1000
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"critic.bias": None}, "the tensor 'critic.bias' is missing"),
        ({"spare": torch.zeros(3)}, "there is no tensor 'spare' in such an agent"),
        ({"critic.bias": torch.zeros(2)}, r"critic.bias is of .*\[2\]; expected .*\[1\]"),
        ({"critic.bias": torch.zeros(1, dtype=torch.float64)}, "critic.bias is of torch.float64"),
        ({"critic.bias": torch.zeros(1, dtype=torch.complex64)}, "torch.complex64"),
        ({"critic.bias": torch.tensor([torch.nan])}, "critic.bias holds NaN or infinity"),
        (
            {"return_normaliser.std": torch.tensor(torch.inf)},
            "return_normaliser.std holds NaN or infinity",
        ),
        (
            {"observation_normaliser.moments.0.mean": torch.full((3,), -torch.inf).double()},
            "moments.0.mean holds NaN or infinity",
        ),
    ],
)
def test_forged_tensors_are_refused(tensors: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(PolicyFileError, match=message):
        load_policy(forge(tmp_path / "p.safetensors", tensors))


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


def test_a_policy_loads_from_the_folder_of_a_run(tmp_path: Path) -> None:
    with pytest.raises(PolicyFileError, match=r"holds no policy\.safetensors yet"):
        load_policy(tmp_path)
    space = gym.spaces.Discrete(2)
    policy = Policy(ActorCritic(space, space, AgentConfig("gru", hidden_size=4)))
    policy.save(tmp_path / "policy.safetensors")
    for loaded in (load_policy(tmp_path), load_policy(str(tmp_path / "policy.safetensors"))):
        for name, x in policy.agent.state_dict().items():
            assert torch.equal(loaded.agent.state_dict()[name], x)
