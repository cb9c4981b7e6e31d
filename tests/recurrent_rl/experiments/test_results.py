"""What a finished run left in its folder, read again."""

from pathlib import Path

import pytest

from recurrent_rl.config import TrainConfig
from recurrent_rl.errors import UserError
from recurrent_rl.experiments.results import find_runs, load_run


def test_runs_that_cannot_be_compared_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run in"):
        find_runs([tmp_path])
    (tmp_path / "config.json").write_text(TrainConfig("recurrent_rl/TMaze-v0").to_json())
    with pytest.raises(UserError, match="no evaluation yet; make it: recurrent-rl evaluate"):
        load_run(tmp_path)
    (tmp_path / "evaluation.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        load_run(tmp_path)
