"""The command line as a user meets it: what it prints, how it ends, and never a traceback."""

import subprocess
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from recurrent_rl.agents.actor_critic import AgentConfig
from recurrent_rl.config import TrainConfig
from recurrent_rl.training import train

TINY = [
    "--num-envs=8",
    "--num-steps=16",
    "--total-timesteps=512",
    "--hidden-size=8",
    "--encoder-size=8",
]


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "recurrent_rl", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=120,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = TrainConfig(
        "recurrent_rl/TMaze-v0",
        log_dir=str(tmp_path_factory.mktemp("runs")),
        num_envs=8,
        num_steps=16,
        total_timesteps=256,
        agent=AgentConfig("lstm", hidden_size=8, encoder_size=8),
    )
    return train(config, progress=False).run_dir


def test_training_ends_with_an_evaluation_and_the_next_commands(tmp_path: Path) -> None:
    result = run(
        "train", "recurrent_rl/TMaze-v0", *TINY, "--eval-episodes=20", "--memory=lstm", cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    (run_dir,) = (tmp_path / "runs").iterdir()
    text = result.stdout.replace("\n", "")
    for expected in (
        "Trained for 512 steps",
        "20 episodes",
        "95 % interval",
        "best memoryless",
        f"Policy:    runs/{run_dir.name}/policy.safetensors",
        "recurrent-rl monitor runs",
        f"recurrent-rl evaluate runs/{run_dir.name}",
        "recurrent_rl.load_policy(",
    ):
        assert expected in text
    assert "Training: 512 of 512" in result.stderr
    events = EventAccumulator(str(tmp_path / "runs" / run_dir.name))
    events.Reload()
    (evaluated,) = events.Scalars("eval/mean_reward")
    assert evaluated.step == 512
    again = run("train", "--resume", str(run_dir), "--total-timesteps=1024", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "Trained for 1,024 steps" in again.stdout


def test_evaluation_shows_what_memory_is_worth(finished: Path) -> None:
    for target in (finished, finished / "policy.safetensors"):
        result = run("evaluate", str(target), "--episodes=30", "--num-envs=10")
        assert result.returncode == 0, result.stderr
        for expected in (
            "30 episodes",
            "likeliest actions",
            "sampled actions",
            "memory reset",
            "best possible",
            "success",
        ):
            assert expected in result.stdout
    again = run("evaluate", str(finished), "--episodes=30", "--num-envs=10")
    assert again.stdout == result.stdout


def test_a_policy_plays_in_another_environment_of_the_same_spaces(finished: Path) -> None:
    result = run(
        "evaluate",
        str(finished),
        "--episodes=5",
        "--env-id=recurrent_rl/RepeatFirst-Easy-v0",
        "--no-compare",
    )
    assert result.returncode == 0, result.stderr
    assert "RepeatFirst-Easy" in result.stdout
    assert "memory reset" not in result.stdout


def test_environments_are_listed_with_what_can_be_earned() -> None:
    result = run("envs")
    assert result.returncode == 0, result.stderr
    for expected in ("recurrent_rl/TMaze-v0", "Discrete(4)", "memoryless", "-0.49"):
        assert expected in result.stdout
    assert "Probe" not in result.stdout
    assert "Probe" in run("envs", "--probes").stdout


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--help"],
        ["--version"],
        *([c, "--help"] for c in ("train", "evaluate", "envs", "monitor")),
    ],
)
def test_help_is_help(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.returncode == 0
    assert "recurrent-rl" in result.stdout
    if arguments == ["train", "--help"]:
        for expected in ("--num-envs", "--memory", "Memory cell: none, rnn", "--hide-indices"):
            assert expected in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tarin"], "Unknown command 'tarin'; use one of train, evaluate, envs, monitor"),
        (["train", "CartPol-v1"], "Did you mean CartPole-v1"),
        (["train", "CartPole-v1", "--memory", "lsmt"], "Did you mean lstm"),
        (["train", "CartPole-v1", "--num-envs", "-1"], "num_envs is -1; it must be at least 0"),
        (["train", "CartPole-v1", "--hidden-size", "-3"], "hidden_size is -3"),
        (["train", "CartPole-v1", "--num-envs", "6"], "does not divide the 6 chunks"),
        (["train", "CartPole-v1", "--env-kwargs", "{"], "not JSON"),
        (["train", "CartPole-v1", "--device", "tpu"], "Device 'tpu' cannot be used"),
        (["train", "CartPole-v1", "--colour", "red"], "--colour"),
        (["train", "--resume", "nowhere"], "nowhere holds no run"),
        (["evaluate", "nowhere.safetensors"], "There is no file nowhere.safetensors"),
        (["monitor", "nowhere"], "no folder 'nowhere'"),
    ],
)
def test_a_mistake_is_answered_with_the_fix_status_2_and_no_traceback(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    result = run(*arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert message in (result.stderr + result.stdout).replace("\n", " ")
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "runs").exists()


def test_a_damaged_policy_or_one_for_other_spaces_is_refused(
    finished: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "policy.safetensors"
    damaged.write_bytes((finished / "policy.safetensors").read_bytes()[:-9])
    result = run("evaluate", str(damaged))
    assert (result.returncode, "is truncated" in result.stderr) == (2, True)
    result = run("evaluate", str(finished), "--env-id=CartPole-v1")
    assert (result.returncode, "CartPole" in result.stderr or "Box" in result.stderr) == (2, True)
    result = run("evaluate", str(finished / "checkpoint.safetensors"))
    assert (result.returncode, "is not a recurrent_rl.policy file" in result.stderr) == (2, True)


FAILING = """
import gymnasium as gym
import numpy as np

class Failing(gym.Env):
    observation_space, action_space = gym.spaces.Box(-1, 1, (2,)), gym.spaces.Discrete(2)
    t = 0
    def reset(self, *, seed=None, options=None):
        return np.zeros(2, np.float32), {}
    def step(self, action):
        self.t += 1
        if self.t > 40:
            raise ConnectionError("simulator lost")
        return np.zeros(2, np.float32), 1.0, self.t % 5 == 0, False, {}

gym.register("Failing-v0", Failing)
"""


def test_an_error_of_an_environment_keeps_its_traceback_which_ends_in_how_to_go_on(
    tmp_path: Path,
) -> None:
    (tmp_path / "my_envs.py").write_text(FAILING)
    result = run("train", "my_envs:Failing-v0", *TINY, cwd=tmp_path)
    assert result.returncode == 1
    (run_dir,) = (tmp_path / "runs").iterdir()
    assert "ConnectionError: simulator lost" in result.stderr
    assert f"recurrent-rl train --resume runs/{run_dir.name}" in result.stderr
    assert (run_dir / "checkpoint.safetensors").exists()
    if sys.version_info >= (3, 11):
        assert result.stderr.splitlines()[-1].startswith("The run on my_envs:Failing-v0 failed in")
