"""Runs that were stopped half-way in version 0.1.0: read now, they end as they ended then.

Each folder holds such a run, and in end.safetensors the policy it came to. The policies are of the
first files, which lack the settings of later ones and hold `env_kwargs` as text.
"""

import shutil
from pathlib import Path

import pytest
import torch

from recurrent_rl.agents.files import load_tensors, save_tensors
from recurrent_rl.agents.policy import load_policy
from recurrent_rl.agents.policy_file import KIND, VERSION
from recurrent_rl.runs.evaluation import evaluate
from recurrent_rl.runs.trained_on import environment_of
from recurrent_rl.runs.training import resume

FOLDERS = sorted((Path(__file__).parent / "files-0.1.0").iterdir())


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_policy_of_then_plays_where_it_was_trained(folder: Path, tmp_path: Path) -> None:
    file = Path(shutil.copy(folder / "policy.safetensors", tmp_path))
    policy = load_policy(file)
    env_id, env = environment_of(policy, file)
    assert env.env_kwargs == ({"length": 5} if folder.name == "gru-rotor-separate" else {})
    played = evaluate(policy, env_id, 4, env_config=env, num_envs=2)
    assert len(played.returns) == 4


def test_a_policy_of_then_without_a_horizon_has_none_now(tmp_path: Path) -> None:
    tensors, text = load_tensors(FOLDERS[0] / "policy.safetensors", KIND, VERSION)
    text["agent"] = text["agent"].replace('"horizon": 1024', '"horizon": 0')
    save_tensors(tmp_path / "p.safetensors", tensors, text, KIND, VERSION)
    assert load_policy(tmp_path / "p.safetensors").config.horizon is None


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
