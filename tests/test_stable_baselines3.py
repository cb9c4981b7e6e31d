"""Stable-Baselines3's own evaluation plays our policies, unchanged, on its vector environments."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import recurrent_rl
from recurrent_rl.agents.actor_critic import ActorCritic, AgentConfig
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
