"""Stable-Baselines3 plays our policies, and the models of its recurrent PPO become ours."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import recurrent_rl
from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.policy import Policy

pytest.importorskip("stable_baselines3")  # not among our dependencies


class Recall(gym.Env[Any, Any]):
    """Shows a bit first and asks for it at the fourth step: 1 for a right answer, else 0."""

    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.bit, self.time = int(self.np_random.integers(2)), 0
        return np.array([2 * self.bit - 1, 0], np.float32), {}

    def step(self, action: Any) -> Any:
        self.time += 1
        asked = self.time == 4
        reward = float(asked and int(action) == self.bit)
        return np.array([0, self.time == 3], np.float32), reward, asked, False, {}


@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize("with_memory", [True, False])
def test_evaluate_policy_plays_our_policies_with_their_memory(
    num_envs: int, with_memory: bool, tmp_path: Path
) -> None:
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

    config = AgentConfig(
        "tests.own_parts:Latch" if with_memory else "none",
        encoder_layers=0,
        previous_action=False,
        normalize_observations=False,
    )
    agent: Any = ActorCritic(Recall.observation_space, Recall.action_space, config)
    with torch.no_grad():  # action 1 where the first number is positive
        agent.head.linear.weight.zero_()
        agent.head.linear.bias.copy_(torch.tensor([0.0, -1e-3]))
        agent.head.linear.weight[1, 0] = 1.0
    Policy(agent).save(tmp_path / "policy.safetensors")
    policy: Any = recurrent_rl.load_policy(tmp_path / "policy.safetensors")

    env: Any = VecMonitor(DummyVecEnv([Recall] * num_envs))
    env.seed(0)
    played: Any = evaluate_policy(policy, env, n_eval_episodes=40, return_episode_rewards=True)
    returns, lengths = played
    assert lengths == [4] * 40
    if with_memory:
        assert returns == [1.0] * 40
    else:
        assert 8 < sum(map(float, returns)) < 32  # it can only guess


class Drawn(gym.Env[Any, Any]):
    """Observations out of their space at random."""

    def __init__(self, observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> None:
        self.observation_space, self.action_space = observation_space, action_space
        observation_space.seed(0)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        return self.observation_space.sample(), 0.0, False, False, {}


Spaces = gym.spaces
VECTOR = Spaces.Box(-3, 3, (4,))
IMAGE = Spaces.Box(0, 255, (40, 44, 3), np.uint8)
KEYS = Spaces.Dict(
    {
        "image": Spaces.Box(0, 255, (36, 36, 1), np.uint8),
        "grid": Spaces.Box(-1, 1, (2, 2)),
        "value": Spaces.Discrete(40),
        "bits": Spaces.MultiBinary(3),
    }
)
FEW = Spaces.Discrete(4)
BOX = Spaces.Box(np.array([-2, 0], np.float32), np.array([2, 5], np.float32))
RELU = {"activation_fn": torch.nn.ReLU}
NO_LSTM = {"enable_critic_lstm": False}
SHARED = {"enable_critic_lstm": False, "shared_lstm": True}
MODELS: dict[str, tuple[str, Any, Any, dict[str, Any]]] = {
    "discrete actions": ("Mlp", VECTOR, FEW, {}),
    "continuous actions": ("Mlp", VECTOR, BOX, RELU),
    "several discrete actions": ("Mlp", VECTOR, Spaces.MultiDiscrete([3, 4]), {}),
    "bits for actions": ("Mlp", VECTOR, Spaces.MultiBinary(4), {"activation_fn": torch.nn.ELU}),
    "discrete observations": ("Mlp", Spaces.Discrete(50), FEW, RELU),
    "bits": ("Mlp", Spaces.MultiBinary((2, 3)), FEW, {"activation_fn": torch.nn.SiLU}),
    "bytes in a row": ("Mlp", Spaces.Box(0, 255, (5,), np.uint8), FEW, {}),
    "float64": ("Mlp", Spaces.Box(-9, 9, (5,), np.float64), FEW, {}),
    "one LSTM": ("Mlp", VECTOR, BOX, {**SHARED, "net_arch": {"pi": [7], "vf": []}}),
    "critic without LSTM": ("Mlp", VECTOR, BOX, {**NO_LSTM, **RELU}),
    "linear critic": ("Mlp", VECTOR, FEW, {**NO_LSTM, "net_arch": []}),
    "two layers": ("Mlp", VECTOR, BOX, {"n_lstm_layers": 2, "net_arch": {"vf": [9, 5, 3]}}),
    "image": ("Cnn", IMAGE, FEW, {}),
    "channels first": (
        "Cnn",
        Spaces.Box(0, 255, (3, 40, 44), np.uint8),
        FEW,
        {"net_arch": [5], "share_features_extractor": False},
    ),
    "image as it is": ("Cnn", IMAGE, FEW, {"normalize_images": False}),
    "float image": (
        "Cnn",
        Spaces.Box(-2, 2, (3, 36, 36)),
        FEW,
        {
            "normalize_images": False,
            "features_extractor_kwargs": {"features_dim": 20, "normalized_image": True},
        },
    ),
    "keys": ("MultiInput", KEYS, BOX, {}),
    "keys, critic without LSTM": (
        "MultiInput",
        KEYS,
        BOX,
        {**NO_LSTM, "share_features_extractor": False},
    ),
}


def model_of(kind: str, env: Any, settings: dict[str, Any]) -> Any:
    """A RecurrentPPO with random weights, none of them as it was initialised."""
    from sb3_contrib import RecurrentPPO

    settings = {"lstm_hidden_size": 6, **settings}
    model = RecurrentPPO(f"{kind}LstmPolicy", env, seed=0, device="cpu", policy_kwargs=settings)
    with torch.no_grad():
        for weight in model.policy.parameters():
            scale = 0.1 if weight.dim() < 2 else 1.5 / weight[0].numel() ** 0.5
            weight.copy_(scale * torch.randn(weight.shape))
    return model


def same_play(
    model: Any, policy: Any, normalise: Any = lambda seen: seen, tolerance: float = 1e-5
) -> None:
    """1,000 steps with random ends: the same actions, and the same values."""
    from sb3_contrib.common.recurrent.type_aliases import RNNStates

    starts = np.random.default_rng(0).random(1000) < 0.05
    zeros = torch.zeros(model.policy.lstm_hidden_state_shape)
    state, theirs, both = policy.initial_state(1), None, RNNStates((zeros, zeros), (zeros, zeros))
    read, actions, values = [], set(), []
    for start in starts:
        seen = policy.observation_space.sample()
        batch = {k: x[None] for k, x in seen.items()} if isinstance(seen, dict) else seen[None]
        expected, theirs = model.predict(normalise(batch), theirs, start[None], True)
        action, state = policy.predict(batch, state, start, deterministic=True)
        assert action.dtype == policy.action_space.dtype
        np.testing.assert_allclose(action, expected, rtol=0, atol=1e-5)
        actions.add(str(action.round(1)))
        with torch.no_grad():
            tensors, _ = model.policy.obs_to_tensor(normalise(batch))
            _, value, _, both = model.policy(tensors, both, torch.tensor([float(start)]))
        values.append(value.item())
        read.append(policy.agent.reader.read(batch))
    assert len(actions) > 1

    components = {path: torch.as_tensor(np.stack([x[path] for x in read])) for path in read[0]}
    with torch.no_grad():
        fresh, flags = policy.agent.initial_state(1), torch.as_tensor(starts).unsqueeze(-1)
        output, _ = policy.agent.unroll(components, fresh, flags)
    np.testing.assert_allclose(output.value.squeeze(-1), values, rtol=tolerance, atol=tolerance)
    assert np.std(values) > 0.01


@pytest.mark.parametrize("name", MODELS)
def test_a_recurrent_model_of_sb3_contrib_acts_and_expects_the_same_as_ours(
    name: str, tmp_path: Path
) -> None:
    pytest.importorskip("sb3_contrib")
    kind, observation, action, settings = MODELS[name]
    model = model_of(kind, Drawn(observation, action), settings)
    model.save(tmp_path / "model.zip")
    recurrent_rl.convert_sb3(tmp_path / "model.zip", observation, action).save(tmp_path / "policy")
    # Pixels up to 255 make numbers in the thousands, of which float32 keeps seven digits.
    tolerance = 1e-4 if name == "image as it is" else 1e-5
    same_play(model, recurrent_rl.load_policy(tmp_path / "policy"), tolerance=tolerance)


@pytest.mark.parametrize("keys", [None, ["a"]])
def test_what_was_trained_behind_vec_normalize_is_normalised_inside(
    keys: list[str] | None, tmp_path: Path
) -> None:
    pytest.importorskip("sb3_contrib")
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    space: Any = Spaces.Box(np.array([-1, 90], np.float32), np.array([5, 100], np.float32))
    if keys:
        space = Spaces.Dict({"a": space, "b": VECTOR, "c": Spaces.Discrete(3)})
    env: Any = VecNormalize(DummyVecEnv([lambda: Drawn(space, FEW)]), norm_obs_keys=keys)
    model = model_of("MultiInput" if keys else "Mlp", env, {})
    model.learn(300)
    model.save(tmp_path / "model.zip")
    policy = recurrent_rl.convert_sb3(tmp_path / "model.zip", space, FEW, normaliser=env)
    assert policy.config.normalize_observations
    same_play(model, policy, env.normalize_obs)
    with pytest.raises(recurrent_rl.SettingError, match="trained behind a VecNormalize"):
        recurrent_rl.convert_sb3(tmp_path / "model.zip", space, FEW)


def test_state_dependent_exploration_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("sb3_contrib")
    from sb3_contrib import RecurrentPPO

    model = RecurrentPPO("MlpLstmPolicy", Drawn(VECTOR, BOX), use_sde=True)
    model.save(tmp_path / "model.zip")
    with pytest.raises(recurrent_rl.PolicyFileError, match="use_sde"):
        recurrent_rl.convert_sb3(tmp_path / "model.zip", VECTOR, BOX)


def test_a_model_without_memory_is_refused(tmp_path: Path) -> None:
    from stable_baselines3 import PPO

    PPO("MlpPolicy", Drawn(VECTOR, FEW)).save(tmp_path / "model.zip")
    with pytest.raises(
        recurrent_rl.PolicyFileError, match="only models of sb3-contrib's Recurrent"
    ):
        recurrent_rl.convert_sb3(tmp_path / "model.zip", VECTOR, FEW)


def test_the_page_on_migrating_converts_as_written(tmp_path: Path) -> None:
    pytest.importorskip("sb3_contrib")
    page = (Path(__file__).parents[1] / "docs" / "migrating.md").read_text()
    blocks = re.findall(r"^```(python)?\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    for language, text in blocks:
        commands = [["-c", text]] if language else [line.split() for line in text.splitlines()]
        for command in commands:
            arguments = command if language else ["-m", "recurrent_rl", *command[1:]]
            done = subprocess.run(
                [sys.executable, "-W", "ignore", *arguments], cwd=tmp_path, capture_output=True
            )
            assert done.returncode == 0, done.stderr
    assert len(blocks) == 3
    assert recurrent_rl.load_policy(tmp_path / "policy.safetensors").config.normalize_observations
