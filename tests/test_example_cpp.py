"""The program of docs/example-cpp plays what the policy plays."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from gymnasium import spaces

from recurrent_rl.agents.policy import Policy
from recurrent_rl.envs.tmaze import TMaze
from tests.agents.export.test_export import HAS_ONNX, make

EXAMPLE = Path(__file__).parents[1] / "docs" / "example-cpp"
ROOT = os.environ.get("ONNXRUNTIME_ROOT", "")
LENGTH = 5
pytestmark = [
    pytest.mark.skipif(not ROOT, reason="ONNXRUNTIME_ROOT names no folder of ONNX Runtime"),
    pytest.mark.skipif(not shutil.which("c++"), reason="there is no C++ compiler"),
    pytest.mark.skipif(not HAS_ONNX, reason="the extra onnx is not installed"),
]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, built."""
    folder = tmp_path_factory.mktemp("cpp") / "project"
    shutil.copytree(EXAMPLE, folder)
    flags = "-std=c++17 -O2 -Wall -Wextra -Werror -pedantic"
    command = ["make", "-s", f"ONNXRUNTIME_ROOT={ROOT}", f"CXXFLAGS={flags}"]
    subprocess.run(command, cwd=folder, check=True)
    return folder


def played(policy: Policy) -> list[list[int]]:
    """The actions of four episodes, with the signs of the example."""
    actor, found = policy.actor(), []
    for sign in (0, 1, 0, 1):
        env, seen = TMaze(length=LENGTH), sign
        env.reset(seed=0)
        env.goal[:] = sign
        actor.reset()
        actions: list[int] = []
        for _ in range(2 * LENGTH + 2):
            actions.append(int(actor.act(seen)))
            observations, _, terminated, _, _ = env.step([actions[-1]])
            if terminated[0]:
                break
            seen = int(observations[0])
        found.append(actions)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("memory", ["lstm", "gru-matrix"])
def test_the_program_plays_what_the_policy_plays(project: Path, memory: str) -> None:
    agent = make(spaces.Discrete(4), spaces.Discrete(4), memory=memory)
    with torch.no_grad():
        agent.head.linear.weight.mul_(30)
    policy = Policy(agent)
    policy.export(project / "policy.onnx")
    command = ["./play", "policy.onnx", str(LENGTH)]
    ran = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True)
    lines = [line.split()[:-1] for line in ran.stdout.splitlines()]
    expected = played(policy)
    assert [[int(action) for action in line] for line in lines] == expected
    assert len({action for actions in expected for action in actions}) > 1


@pytest.mark.slow
def test_the_program_says_what_is_missing(project: Path) -> None:
    ran = subprocess.run(["./play", "none.onnx"], cwd=project, capture_output=True, text=True)
    assert ran.returncode == 1
    assert "none.onnx" in ran.stderr
