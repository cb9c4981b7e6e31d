"""Models of sb3-contrib are converted exactly or refused by name, and nothing in them is run.

Here a small one that `tests/data/recurrent_ppo.py` has made; where Stable-Baselines3 is installed,
`tests/test_stable_baselines3.py` compares many kinds.
"""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch.overrides import TorchFunctionMode

from recurrent_rl import (
    ActorCritic,
    Policy,
    PolicyFileError,
    SettingError,
    UnsupportedSpaceError,
    UserError,
    convert_sb3,
    load_policy,
)
from recurrent_rl.agents.warm_start import begin_with

DATA = Path(__file__).parents[1] / "data"
MODEL = DATA / "recurrent_ppo.zip"
TOLD: dict[str, Any] = json.loads((DATA / "recurrent_ppo.json").read_text())
NORMALISER: dict[str, Any] = TOLD["normaliser"]
OBSERVATION = spaces.Dict({"place": spaces.Box(-50, 50, (2,)), "sign": spaces.Discrete(3)})
ACTION = spaces.Box(np.array([-1, -3], np.float32), np.array([2, 1], np.float32))
Weights = dict[str, torch.Tensor]


def converted(path: Path = MODEL, **changes: Any) -> Policy:
    given: dict[str, Any] = {
        "observation_space": OBSERVATION,
        "action_space": ACTION,
        "normaliser": NORMALISER,
    }
    return convert_sb3(path, **(given | changes))


def altered(
    path: Path, data: dict[str, Any] | None = None, weights: Callable[[Weights], Any] | None = None
) -> Path:
    """The model with other things told of it, or other weights."""
    with zipfile.ZipFile(MODEL) as whole:
        told = json.loads(whole.read("data")) | (data or {})
        state = torch.load(io.BytesIO(whole.read("policy.pth")), weights_only=True)
    packed = io.BytesIO()
    torch.save(state if weights is None else weights(dict(state)), packed)
    with zipfile.ZipFile(path, "w") as new:
        new.writestr("data", json.dumps(told))
        new.writestr("policy.pth", packed.getvalue())
    return path


def test_a_model_that_is_loaded_as_a_policy_is_answered_with_the_command() -> None:
    with pytest.raises(PolicyFileError, match=r"It is a zip archive.*`recurrent-rl convert`"):
        load_policy(Path(__file__).parents[1] / "data" / "recurrent_ppo.zip")


def test_a_recorded_model_acts_and_expects_the_same_here(tmp_path: Path) -> None:
    random_state = torch.get_rng_state()
    converted().save(tmp_path / "p.safetensors")
    assert torch.equal(torch.get_rng_state(), random_state)
    policy = load_policy(tmp_path / "p.safetensors")
    state, memory = policy.initial_state(1), policy.agent.initial_state(1)
    actions = []
    for step in TOLD["steps"]:
        seen = {"place": np.array([step["place"]], np.float32), "sign": np.array([step["sign"]])}
        action, state = policy.predict(seen, state, step["start"], deterministic=True)
        components = {k: torch.as_tensor(x) for k, x in policy.agent.reader.read(seen).items()}
        output, memory = policy.agent.step(components, memory, torch.tensor([step["start"]]))
        assert output.value.item() == pytest.approx(step["value"], abs=1e-5)
        actions.append(action[0])
    expected = [step["action"] for step in TOLD["steps"]]
    np.testing.assert_allclose(actions, expected, rtol=0, atol=1e-5)
    assert np.std(actions, axis=0).min() > 0.05


def test_stochastic_actions_spread_as_far_as_there(tmp_path: Path) -> None:
    stds = torch.tensor([0.05, 0.4])
    policy = converted(altered(tmp_path / "m.zip", {}, lambda w: w | {"log_std": stds.log()}))
    policy.seed(0)
    step = TOLD["steps"][0]
    seen = {
        "place": np.tile(np.array(step["place"], np.float32), (5000, 1)),
        "sign": np.full(5000, step["sign"]),
    }
    actions, _ = policy.predict(seen)
    np.testing.assert_allclose(actions.std(axis=0), stds, rtol=0.05)
    np.testing.assert_allclose(actions.mean(axis=0), step["action"], rtol=0, atol=0.02)


def test_training_goes_on_with_a_converted_policy() -> None:
    policy = converted()
    agent = ActorCritic(OBSERVATION, ACTION, policy.config)
    begin_with(agent, policy)
    for name, x in policy.agent.state_dict().items():
        assert torch.equal(agent.state_dict()[name], x)
    far = {name: dict(x) for name, x in NORMALISER.items()}
    far["mean"]["place"] = [1e6, 0.0]
    with pytest.raises(UserError, match=r"trained with the scaling .*centred"):
        begin_with(agent, converted(normaliser=far))


def test_what_is_far_from_zero_is_normalised_as_there() -> None:
    mean, std = np.array([1e5, -3e6]), np.array([0.5, 3.0])
    given = {"mean": mean, "var": std**2, "count": 5.0, "epsilon": 0.0}
    by_key = {k: x if k == "epsilon" else {"place": x} for k, x in given.items()}
    policy = converted(normaliser=by_key)
    seen = np.array([[99_999.1875, -3_000_004.25]], np.float32)
    read = policy.agent.reader.read({"place": seen, "sign": np.zeros(1, int)})
    components = {k: torch.as_tensor(x) for k, x in read.items()}
    normalised = policy.agent.observation_normaliser(components)["place"]
    np.testing.assert_allclose(normalised, (seen.astype(float) - mean) / std, rtol=1e-5)


def without(name: str) -> Callable[[Weights], Weights]:
    return lambda weights: {key: x for key, x in weights.items() if key != name}


def with_(name: str, *shape: int) -> Callable[[Weights], Weights]:
    return lambda weights: weights | {name: torch.zeros(shape)}


@pytest.mark.parametrize(
    ("data", "weights", "message"),
    [
        ({"policy_class": {"__module__": "mine"}}, None, "its policy is a class of mine; only"),
        ({"policy_class": "pickle"}, None, "its policy is a class of None; only"),
        ({"use_sde": True}, None, "trained with use_sde"),
        ({"policy_kwargs": {"squash_output": True}}, None, "trained with squash_output"),
        ({"policy_kwargs": {"activation_fn": "<class 'a.Swish'>"}}, None, "activation is a.Swish"),
        (
            {"policy_kwargs": {"features_extractor_class": "<class 'mine.Deep'>"}},
            None,
            "features extractor is mine.Deep; only",
        ),
        ({"observation_space": {"spaces": "{'sign': 1, 'place': 2}"}}, None, "in the same order"),
        ({"observation_space": {"spaces": "{'place': 2}"}}, None, "the same keys"),
        ({}, without("lstm_actor.weight_hh_l0"), "has no LSTM; only models of"),
        ({}, with_("lstm_actor.weight_ih_l0_reverse", 16, 5), "bidirectional or proj_size"),
        ({}, with_("lstm_actor.weight_hr_l0", 2, 4), "bidirectional or proj_size"),
        ({}, without("lstm_critic.bias_hh_l0"), "has no lstm_critic.bias_hh_l0"),
        ({}, without("log_std"), "has no log_std"),
        ({}, with_("mlp_extractor.shared_net.0.weight", 3, 3), "counterpart to its mlp_extr"),
        ({}, with_("action_net.weight", 2, 9), r"its action_net.weight is \[2, 9\], and .* \[2, 4"),
        ({}, with_("lstm_actor.weight_ih_l0", 16, 7), "reads 7 features, and .* gives 5. Give the"),
        ({}, with_("log_std", 3), r"its log_std is \[3\]"),
        (
            {},
            lambda weights: weights | {"log_std": torch.tensor([9.0, 0.0])},
            "deviations of its actions are 8.1e.03, 1",
        ),
        ({}, with_("pi_features_extractor.extractors.place.cnn.0.weight", 1, 1), "as an image"),
        ({}, lambda w: w | {"log_std": torch.tensor([0.0, float("nan")])}, "NaN or infinity"),
        (
            {},
            lambda w: w | {"log_std": torch.zeros(2, dtype=torch.int64)},
            "'log_std' is torch.int",
        ),
        ({}, lambda w: w | {"log_std": [0.0, 0.0]}, "'log_std' is list, not a tensor"),
        ({}, lambda w: list(w.values()), "'policy.pth' is a list, not values by name"),
    ],
)
def test_what_has_no_counterpart_is_refused_by_name(
    data: dict[str, Any], weights: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(PolicyFileError, match=message):
        converted(altered(tmp_path / "m.zip", data, weights))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"observation_space": spaces.Box(-1, 1, (2,))},
            SettingError,
            "under 'place', where there",
        ),
        (
            {"observation_space": spaces.Dict({**OBSERVATION, "sign": spaces.Discrete(4)})},
            PolicyFileError,
            "reads 5 features, and .* gives 6",
        ),
        ({"observation_space": spaces.Discrete(3, start=1)}, UnsupportedSpaceError, "from 0"),
        ({"action_space": spaces.Discrete(3, start=1)}, UnsupportedSpaceError, "from 0"),
        (
            {"observation_space": spaces.Tuple([spaces.Discrete(2)])},
            UnsupportedSpaceError,
            "takes no Tuple",
        ),
        ({"action_space": spaces.Discrete(3)}, PolicyFileError, "counterpart to its log_std"),
        ({"action_space": spaces.Text(3)}, UnsupportedSpaceError, "Text"),
        ({"normaliser": None}, SettingError, "trained behind a VecNormalize"),
        ({"normaliser": 3}, SettingError, "normaliser is 3; it must be the VecNormalize"),
        ({"normaliser": {"mean": 0.0}}, SettingError, "it must be the VecNormalize"),
        ({"normaliser": NORMALISER | {"clip_obs": 5}}, SettingError, "clip_obs is 5.0"),
        ({"normaliser": NORMALISER | {"clip": 5}}, SettingError, "normaliser holds 'clip'"),
        ({"normaliser": NORMALISER | {"var": [1.0, 1.0]}}, SettingError, "both by key, or neither"),
        ({"normaliser": NORMALISER | {"var": {}}}, SettingError, "var under 'place' is None"),
        (
            {"normaliser": NORMALISER | {"var": {"place": [1.0, -1.0]}}},
            SettingError,
            "var under 'place' is below zero",
        ),
        (
            {"normaliser": NORMALISER | {"mean": {"place": [1.0]}}},
            SettingError,
            r"mean under 'place' is of shape \[1\]; it must be finite numbers \[2\]",
        ),
        (
            {"normaliser": NORMALISER | {"mean": {"place": [1.0, float("inf")]}}},
            SettingError,
            "is not finite",
        ),
        ({"path": 3}, SettingError, "path is 3; it must be a path"),
    ],
)
def test_wrong_spaces_and_statistics_are_told(
    changes: dict[str, Any], error: type[UserError], message: str
) -> None:
    with pytest.raises(error, match=message):
        converted(**changes)


def test_weights_of_any_shape_and_anything_that_a_model_tells_are_taken_or_refused(
    tmp_path: Path,
) -> None:
    with zipfile.ZipFile(MODEL) as whole:
        names = list(torch.load(io.BytesIO(whole.read("policy.pth")), weights_only=True))
    names += ["critic.weight", "critic.bias", "mlp_extractor.policy_net.2.weight"]
    shapes = [(), (0,), (4,), (2, 3), (0, 4), (4, 4, 4)]
    changed: list[Any] = [({}, with_(name, *shape)) for name in names for shape in shapes]
    changed += [({}, without(name)) for name in names]
    keys = ("policy_class", "policy_kwargs", "observation_space", "num_timesteps", "use_sde")
    odd: list[Any] = [
        None,
        3,
        "x",
        [],
        {},
        {"activation_fn": []},
        {"spaces": 3},
        {"__module__": {}},
    ]
    changed += [({key: value}, None) for key in keys for value in odd]
    refusals = []
    for told, weights in changed:
        try:
            converted(altered(tmp_path / "m.zip", told, weights))
        except UserError as error:
            refusals.append(str(error))
    assert len(refusals) > len(names) * len(shapes)
    assert [text for text in refusals if "\n" in text] == []


class NoneLarge(TorchFunctionMode):
    """Fails where a tensor of a million numbers takes memory."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.device.type == "cpu":
            assert result.numel() < 1_000_000
        return result


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (with_("lstm_actor.weight_hh_l0", 1, 2000), r"these spaces need \[8000, 6\]"),
        (
            lambda w: (
                w
                | {f"mlp_extractor.policy_net.{i}.weight": torch.zeros(2000, 1) for i in (0, 2)}
                | {f"mlp_extractor.policy_net.{i}.bias": torch.zeros(1) for i in (0, 2)}
            ),
            r"these spaces need \[2, 2000\]",
        ),
        (
            lambda w: (
                {name: x for name, x in w.items() if not name.startswith("lstm_critic")}
                | {"critic.weight": torch.zeros(1, 2000), "critic.bias": torch.zeros(1)}
                | {"mlp_extractor.value_net.0.weight": torch.zeros(2000, 1)}
            ),
            "its critic reads 2,000 features, and its LSTM 5",
        ),
        (lambda w: w | {"log_std": torch.zeros(1).expand(10**7)}, "more numbers than it holds"),
        (
            lambda w: w | dict.fromkeys(map(str, range(10_000)), torch.zeros(90_000)),
            "more numbers than it holds",
        ),
    ],
    ids=["memory", "layers", "critic", "one number", "many names"],
)
def test_a_small_file_takes_no_large_memory(weights: Any, message: str, tmp_path: Path) -> None:
    path = altered(tmp_path / "m.zip", {}, weights)
    with NoneLarge(), pytest.raises(PolicyFileError, match=message):
        converted(path)


class Code:
    """Pickled, it writes a file where it is read."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return (Path.touch, (self.trace,))


def test_nothing_in_a_file_is_run(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    evil = altered(tmp_path / "m.zip", weights=lambda weights: weights | {"a": Code(trace)})
    with pytest.raises(PolicyFileError, match="no model that Stable-Baselines3 has saved"):
        converted(evil)
    assert not trace.exists()


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    path, whole = tmp_path / "m.zip", MODEL.read_bytes()
    for length in [*range(0, len(whole), 997), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(PolicyFileError, match="or it is damaged"):
            converted(path)
    with pytest.raises(PolicyFileError, match="cannot be read: No such file"):
        converted(tmp_path / "nowhere.zip")
    with pytest.raises(PolicyFileError, match="cannot be read: Is a directory"):
        converted(tmp_path)
    with zipfile.ZipFile(path, "w") as new:
        new.writestr("data", "{}")
    with pytest.raises(PolicyFileError, match=r"holds no 'policy\.pth'"):
        converted(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        new.writestr("data", "[" * 100_000)
        new.writestr("policy.pth", b"")
    with pytest.raises(PolicyFileError, match="says that it holds 100,000 bytes"):
        converted(path)


def test_any_changed_byte_is_refused_or_of_no_matter(tmp_path: Path) -> None:
    path, whole = tmp_path / "m.zip", MODEL.read_bytes()
    rng, refused = np.random.default_rng(0), 0
    for place in rng.integers(len(whole), size=200):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x21]) + whole[place + 1 :])
        try:
            converted(path)
        except UserError:
            refused += 1
    assert refused > 150


def space_of_pixels(*shape: int) -> gym.Space[Any]:
    return spaces.Box(0, 255, shape, np.uint8)


@pytest.mark.parametrize(
    "space", [space_of_pixels(40, 40, 3), space_of_pixels(9, 9), spaces.Box(-1, 1, (2, 2, 2))]
)
def test_what_the_model_flattens_and_ours_would_see_as_an_image_is_refused(
    space: gym.Space[Any], tmp_path: Path
) -> None:
    model = altered(tmp_path / "m.zip", {"_last_original_obs": None})
    with pytest.raises(PolicyFileError, match="as numbers, which is an image here"):
        converted(model, observation_space=space, normaliser=None)
