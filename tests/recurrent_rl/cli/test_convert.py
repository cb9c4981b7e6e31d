"""`recurrent-rl convert`: a policy file, the commands to go on with, and clear refusals."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from recurrent_rl import load_policy
from recurrent_rl.cli import main
from recurrent_rl.cli.terminal import parse
from recurrent_rl.cli.train_arguments import GROUPS, TrainArguments
from tests.agents.test_sb3 import ACTION, MODEL, NORMALISER, OBSERVATION


class Wandering(gym.Env[Any, Any]):
    observation_space = OBSERVATION
    action_space = ACTION

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return {"place": np.zeros(2, np.float32), "sign": 0}, {}

    def step(self, action: Any) -> Any:
        return self.reset()[0], 0.0, True, False, {}


@pytest.fixture
def env_id() -> Iterator[str]:
    gym.register("Wandering-v0", lambda **_: Wandering())
    yield "Wandering-v0"
    gym.registry.pop("Wandering-v0")


def convert(*arguments: str | Path) -> None:
    main(["convert", *map(str, arguments)])


def test_the_command_writes_a_policy_and_says_how_to_go_on(
    env_id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    statistics, out = tmp_path / "statistics.json", tmp_path / "a policy.safetensors"
    statistics.write_text(json.dumps(NORMALISER))
    with pytest.raises(SystemExit, match="0"):
        convert(MODEL, "--env-id", env_id, "--normaliser", statistics, "--out", out)
    policy = load_policy(out)
    assert policy.summary["env_id"] == env_id
    saved, evaluate, train = capsys.readouterr().out.splitlines()
    assert saved == f"Saved {out}"
    assert evaluate == f"Evaluate it: recurrent-rl evaluate '{out}' --env-id {env_id}"
    _, _, *arguments = shlex.split(train.removeprefix("Train it on: "))
    config = parse(TrainArguments, "train", arguments, GROUPS).config
    assert config.agent == policy.config
    assert config.init_from == str(out)


def test_what_cannot_be_converted_is_said_without_a_traceback(
    env_id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases: list[tuple[list[str | Path], str]] = [
        ([MODEL, "--env-id", env_id], "was trained behind a VecNormalize"),
        ([MODEL, "--env-id", env_id, "--normaliser", MODEL], "recurrent_ppo.zip cannot be read"),
        ([tmp_path / "x.zip", "--env-id", env_id], "x.zip cannot be read: No such file"),
        ([MODEL, "--env-id", "No-v0"], "No-v0"),
    ]
    for arguments, message in cases:
        with pytest.raises(SystemExit, match="2"):
            convert(*arguments)
        error = capsys.readouterr().err
        assert re.match("error: ", error)
        assert message in error
