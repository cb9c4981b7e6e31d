"""What a finished run left in its folder, read again."""

from pathlib import Path

import pytest

from recurrent_rl.config import TrainConfig
from recurrent_rl.errors import UserError
from recurrent_rl.experiments.results import load_run
from recurrent_rl.runs.folder import RunFolder


def test_runs_that_cannot_be_compared_say_what_to_do(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.save_config(TrainConfig("recurrent_rl/TMaze-v0"))
    with pytest.raises(UserError, match="no evaluation yet; make it: recurrent-rl evaluate"):
        load_run(tmp_path)
    folder.evaluation.write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        load_run(tmp_path)
