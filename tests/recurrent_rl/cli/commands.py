"""What the tests of the commands share: a short training, running a command, reading its output."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from recurrent_rl.cli import main

TINY = [
    "--num-envs=8",
    "--num-steps=16",
    "--total-timesteps=512",
    "--update-epochs=1",
    "--hidden-size=8",
    "--encoder-size=8",
]


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, where that is what is tested; else see `ended`."""
    return subprocess.run(
        [sys.executable, "-m", "recurrent_rl", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=120,
    )


def ended(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[Any, str, str]:
    """Status, output and errors of a command, run in this process."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    printed = capsys.readouterr()
    return caught.value.code, printed.out, printed.err


def one_line(printed: str) -> str:
    """The text without the box that some messages stand in, and its line ends."""
    return " ".join(re.sub(r"[^\x00-\x7f]|\|", " ", printed).split())
