"""What a policy was trained on: a run's settings before its policy's word, and nothing imported."""

from pathlib import Path

import gymnasium as gym
import pytest
import torch

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.policy import Policy
from recurrent_rl.config import TrainConfig
from recurrent_rl.errors import UserError
from recurrent_rl.runs.folder import RunFolder
from recurrent_rl.runs.trained_on import environment_of
from recurrent_rl.vector_env.config import EnvConfig


def a_policy(**summary: object) -> Policy:
    torch.manual_seed(0)
    space = gym.spaces.Discrete(2)
    return Policy(ActorCritic(space, space, AgentConfig("gru", hidden_size=4)), summary)


def test_a_runs_settings_go_before_what_its_policy_says(tmp_path: Path) -> None:
    env = EnvConfig(flicker=0.25)
    RunFolder(tmp_path).save_config(TrainConfig("mine:Task-v0", env=env))
    policy = a_policy(env_id="Other-v0")
    assert environment_of(policy, tmp_path) == ("mine:Task-v0", env)
    assert environment_of(policy, tmp_path, "Task-v0") == ("Task-v0", env)
    assert environment_of(policy, tmp_path, "Else-v0") == ("Else-v0", EnvConfig())


def test_a_policy_file_that_names_a_module_is_asked_about(tmp_path: Path) -> None:
    source = tmp_path / "a policy"
    with pytest.raises(UserError, match=r"name it: --env-id ID"):
        environment_of(a_policy(), source)
    with pytest.raises(UserError, match=r"evaluate '.*/a policy' --env-id nowhere:Task-v0"):
        environment_of(a_policy(env_id="nowhere:Task-v0"), source)
    with pytest.raises(UserError, match="Evaluate its run folder instead"):
        environment_of(a_policy(env_id="CartPole-v1", env="x"), source)
