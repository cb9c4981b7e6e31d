"""A policy's file: it may come from anyone, so what is wrong in it is refused by name."""

import dataclasses
import json
import random
import resource
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.files import PolicyFileError, load_tensors, save_tensors
from recurrent_rl.agents.policy import Policy, load_policy
from recurrent_rl.agents.policy_file import KIND, VERSION
from tests.agents.test_policy import NESTED, make


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


def forge(path: Path, tensors: dict[str, Any] | None = None, **text: Any) -> Path:
    """A policy file with its right digest whose tensors (None: without) and text are changed."""
    make(memory="gru").save(path)
    whole, metadata = load_tensors(path, KIND, VERSION)
    changed = {n: x for n, x in {**whole, **(tensors or {})}.items() if x is not None}
    written = {name: x if isinstance(x, str) else json.dumps(x) for name, x in text.items()}
    save_tensors(path, changed, {**metadata, **written}, KIND, VERSION)
    return path


def seen(hidden: Any) -> dict[str, Any]:
    return {"hide_indices": hidden, "scaling": {"": "none"}}


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
        ("memory", "hopfield", "needs the memory 'hopfield', which is not known"),
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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ({"agent": changed_agent(memory="matrix", hidden_size=6000)}, "more weights than the file"),
        (
            {
                "observation_space": {
                    "type": "Box",
                    "low": 0,
                    "high": 1,
                    "shape": [2**24],
                    "dtype": "float64",
                }
            },
            "16,777,216 entries, more than",
        ),
    ],
)
def test_no_memory_is_taken_for_weights_of_zeros_or_for_bounds(
    text: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = forge(tmp_path / "p.safetensors", **text)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(PolicyFileError, match=message):
        load_policy(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def test_a_policy_that_hides_most_of_a_vector_loads(tmp_path: Path) -> None:
    space = gym.spaces.Box(-1, 1, (5000,))
    config = AgentConfig("none", encoder_size=2, previous_action=False)
    agent = ActorCritic(space, gym.spaces.Discrete(2), config, range(4999))
    Policy(agent).save(tmp_path / "p.safetensors")
    assert load_policy(tmp_path / "p.safetensors").agent.reader.kept == [4999]


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
            r"has 1,000,000,000,000 entries, more than [\d,]{5}$",
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
        ("preprocessing", seen(["0"]), r"hide_indices is \['0'\], not a list of integers"),
        ("preprocessing", seen("01"), "hide_indices is '01', not a list of integers"),
        ("preprocessing", seen([True]), r"hide_indices is \[True\], not a list of integers"),
        ("preprocessing", {"hide_indices": [], "scaling": {}}, "not of the observation's compo"),
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


def test_a_policy_loads_from_the_folder_of_a_run(tmp_path: Path) -> None:
    with pytest.raises(PolicyFileError, match=r"holds no policy\.safetensors yet"):
        load_policy(tmp_path)
    space = gym.spaces.Discrete(2)
    policy = Policy(ActorCritic(space, space, AgentConfig("gru", hidden_size=4)))
    policy.save(tmp_path / "one" / "policy.safetensors")
    with pytest.raises(PolicyFileError, match=r"a folder of runs; name one .*, such as .*/one\."):
        load_policy(tmp_path)
    policy.save(tmp_path / "policy.safetensors")
    for loaded in (load_policy(tmp_path), load_policy(str(tmp_path / "policy.safetensors"))):
        for name, x in policy.agent.state_dict().items():
            assert torch.equal(loaded.agent.state_dict()[name], x)
