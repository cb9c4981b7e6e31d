"""`recurrent-rl info`: what a report of a fault should say."""

from pathlib import Path

import pytest

from tests.recurrent_rl.cli.commands import ended


def test_info_says_what_a_report_of_a_fault_should(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = ended(["info", str(finished)], capsys)
    said = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert status == 0
    assert {"recurrent-rl", "python", "torch", "kernels", "cores", "device"} <= set(said)
    assert (said["env_id"], said["agent.memory"]) == ("recurrent_rl/TMaze-v0", "lstm")
    assert "gamma" not in said  # it is the default
