"""`recurrent-rl check`: findings with their fixes, and a status for scripts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from recurrent_rl.cli import main


class Loud(gym.Env[Any, Any]):
    """Rewards are no numbers at times; where it begins is random."""

    observation_space = gym.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, reward: Any = 1.0) -> None:
        self.reward = reward

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self.seen(), {}

    def step(self, action: Any) -> Any:
        return self.seen(), self.reward, bool(self.np_random.random() < 0.2), False, {}

    def seen(self) -> Any:
        return self.np_random.uniform(-1, 1, 1).astype(np.float32)


@pytest.fixture
def env_id() -> Iterator[str]:
    gym.register("Loud-v0", lambda **kwargs: Loud(**kwargs))
    yield "Loud-v0"
    gym.registry.pop("Loud-v0")


def test_the_command_prints_findings_and_ends_with_1_where_there_is_a_fault(
    env_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["check", env_id])
    assert capsys.readouterr().out == "Loud-v0: no faults, no notes.\n"
    with pytest.raises(SystemExit, match="1"):
        main(["check", env_id, "--env-kwargs", '{"reward": "[bold]"}'])
    fault, fix, *_, last = capsys.readouterr().out.splitlines()
    assert fault == (
        "fault  At step 1 after reset(seed=0): the reward is '[bold]', which is no number."
    )
    assert fix == "fix    Return a float."
    assert last.startswith("Loud-v0: 1 fault, ")


def test_the_command_selects_and_wraps_as_training_does(
    env_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["check", env_id, "--wrapper", "frame-stack:2", "--wrapper", "flatten"])
    assert capsys.readouterr().out == "Loud-v0: no faults, no notes.\n"
    with pytest.raises(SystemExit, match="2"):
        main(["check", env_id, "--observe", "image"])
    assert "observe is ['image'], but" in capsys.readouterr().err


def test_notes_alone_end_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["check", "recurrent_rl.envs:recurrent_rl/Probe-Constant-v0"])
    printed = capsys.readouterr().out
    assert printed.startswith("note   With the same actions every episode is the same")
    assert printed.endswith("Probe-Constant-v0: no faults, 1 note.\n")


def test_an_id_that_there_is_not_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["check", "CartPol-v1"])
    assert "Did you mean CartPole-v" in capsys.readouterr().err
