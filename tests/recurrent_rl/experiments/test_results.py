"""What a finished run left in its folder, read again."""

from pathlib import Path
from typing import Any

import pytest

from recurrent_rl.config import TrainConfig
from recurrent_rl.errors import UserError
from recurrent_rl.experiments.results import load_run
from recurrent_rl.runs.folder import RunFolder
from recurrent_rl.runs.training import resume, train
from tests.recurrent_rl.runs.small_runs import config


def test_runs_that_cannot_be_compared_say_what_to_do(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.save_config(TrainConfig("recurrent_rl/TMaze-v0"))
    with pytest.raises(UserError, match="no evaluation yet; make it: recurrent-rl evaluate"):
        load_run(tmp_path)
    folder.evaluation.write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        load_run(tmp_path)


def test_a_run_is_compared_after_all_its_steps_or_where_its_settings_ended_it(
    tmp_path: Path,
) -> None:
    ends_early: dict[str, Any] = {"eval_interval": 256, "eval_episodes": 2, "stop_at_return": -9.0}
    folder = RunFolder(train(config(tmp_path, **ends_early), progress=False).run_dir)
    assert load_run(folder.path).evaluation.timesteps == 256
    settings = config(tmp_path, eval_interval=256, eval_episodes=2)
    folder.save_config(settings)
    with pytest.raises(UserError, match=r"is of 256 of 768 steps\. Resume it \(recurrent-rl train"):
        load_run(folder.path)
    resume(folder.path, progress=False)
    assert load_run(folder.path).evaluation.timesteps == 768
