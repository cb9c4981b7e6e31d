"""Runs that version 0.1.0 stopped half-way: its files are read, and the run ends as it did then.

Each folder holds such a run, and in end.safetensors the policy that version came to.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from recurrent_rl.agents.policy import load_policy
from recurrent_rl.runs.training import resume

FOLDERS = sorted((Path(__file__).parent / "files-0.1.0").iterdir())


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_policy_of_then_plays(folder: Path) -> None:
    policy = load_policy(folder / "policy.safetensors")
    observations = np.array([policy.observation_space.sample() for _ in range(4)])
    actions, state = policy.predict(observations)
    actions, _ = policy.predict(observations, state, deterministic=True)
    assert all(policy.action_space.contains(action) for action in actions)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_run_of_then_is_resumed_to_the_same_weights(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "run")
    result = resume(tmp_path / "run", progress=False)
    assert result.resumed_from == result.timesteps // 2
    then = load_policy(folder / "end.safetensors").agent.state_dict()
    now = load_policy(result.policy_path).agent.state_dict()
    assert now.keys() == then.keys()
    for name, x in now.items():  # to the bit on one machine; instruction sets round otherwise
        torch.testing.assert_close(x, then[name], rtol=1e-3, atol=1e-4)
