"""What a finished run left in its folder, read again."""

import math
from pathlib import Path

import pytest
from torch.utils.tensorboard import SummaryWriter

from recurrent_rl.config import TrainConfig
from recurrent_rl.errors import UserError
from recurrent_rl.experiments.results import Fall, fall_of, load_run
from recurrent_rl.runs.folder import RunFolder


def test_runs_that_cannot_be_compared_say_what_to_do(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.save_config(TrainConfig("recurrent_rl/TMaze-v0"))
    with pytest.raises(UserError, match="no evaluation yet; make it: recurrent-rl evaluate"):
        load_run(tmp_path)
    folder.evaluation.write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        load_run(tmp_path)


@pytest.mark.parametrize(
    ("returns", "noise", "expected"),
    [
        ([20, 200, 500, 400, 100], 3.0, Fall(500, 3_000, 100)),
        ([20, 40, 500, 400, 300], 3.0, None),  # less than half of what was gained
        ([20, 200, 500, 400, 490], 3.0, None),
        ([-0.125, 0.125, 0.25, 0, -0.25], 0.6, None),  # nothing but noise
        ([-0.125, 0.125, 0.25, 0, -0.25], math.nan, Fall(0.25, 3_000, -0.25)),
        ([500, 400, 100, 50, 20], 3.0, Fall(400, 2_000, 20)),  # the first is of few episodes
        ([500], 3.0, None),
        ([], 3.0, None),
    ],
)
def test_a_return_that_fell_is_told_from_noise(
    returns: list[float], noise: float, expected: Fall | None, tmp_path: Path
) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        for number, mean in enumerate(returns):
            step = 1_000 * (number + 1)
            writer.add_scalar("rollout/ep_rew_mean", mean, step)
            writer.add_scalar("rollout/ep_len_mean", 15, step)
    assert fall_of(tmp_path, noise) == expected
