"""A finished run, for the tests of the commands that read one."""

from pathlib import Path

import pytest

from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.config import TrainConfig
from recurrent_rl.runs.training import train


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = TrainConfig(
        "recurrent_rl/TMaze-v0",
        log_dir=str(tmp_path_factory.mktemp("runs")),
        num_envs=8,
        num_steps=16,
        total_timesteps=256,
        eval_episodes=0,
        agent=AgentConfig("lstm", hidden_size=8, encoder_size=8),
    )
    return train(config, progress=False).run_dir
