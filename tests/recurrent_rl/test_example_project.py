"""The example project of the docs, run as its reader would run it."""

import re
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import pytest
import torch

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.policy import Policy

PROJECT = Path(__file__).parents[2] / "docs" / "example-project"


def test_the_example_project_plays_with_an_imported_policy(tmp_path: Path) -> None:
    space = gym.spaces.Discrete(4)
    policy = tmp_path / "policy.safetensors"
    torch.manual_seed(0)
    Policy(ActorCritic(space, space, AgentConfig("gru", hidden_size=8))).save(policy)
    result = subprocess.run(
        [sys.executable, "main.py", str(policy)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    assert "a warehouse of this project, an agent of this project, and gru" in result.stdout
    actor, predict = map(float, re.findall(r"mean return (-?\d\.\d+)", result.stdout))
    # The same twenty decks by both ways, and an untrained policy that guesses.
    assert actor == pytest.approx(predict, abs=1.1e-3)  # three digits are printed
    assert -1 <= actor < 0
