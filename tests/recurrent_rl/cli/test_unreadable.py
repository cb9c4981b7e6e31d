"""A run that another user owns and nobody else may read: told in a sentence by every command."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

UNPRIVILEGED = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
"""Before a command: root itself may then not read what it is not permitted to."""
COMMANDS = """
import contextlib, io, json, sys
from recurrent_rl.cli import main
said = []
for arguments in json.load(sys.stdin):
    with contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            main(arguments)
        except SystemExit as end:
            said.append([end.code, err.getvalue().strip()])
        except Exception as error:
            said.append([repr(error), err.getvalue().strip()])
print(json.dumps(said))
"""


def ended_without_rights(*commands: list[str], cwd: Path) -> list[tuple[object, str]]:
    """Status and errors of these commands, of a user who is not root."""
    is_root = os.geteuid() == 0
    if is_root and shutil.which("setpriv") is None:
        pytest.skip("root may read everything, and there is no setpriv")
    run = subprocess.run(
        [*UNPRIVILEGED * is_root, sys.executable, "-c", COMMANDS],
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    return [tuple(one) for one in json.loads(run.stdout.splitlines()[-1])]


OF_A_RUN = [
    ["train", "--resume", "X", "-q"],
    ["evaluate", "X", "--episodes=2", "-q"],
    ["compare", "X"],
    ["info", "X"],
    ["export", "X", "--to=numpy", "-q"],
    ["share", "X", "a/b", "--folder=card"],
]


@pytest.fixture
def others(finished: Path, tmp_path: Path) -> Path:
    """A folder with the run X in it."""
    shutil.copytree(finished, tmp_path / "X")
    return tmp_path


def test_settings_that_may_not_be_read_are_told(others: Path) -> None:
    (others / "X" / "config.json").chmod(0)
    for command, said in zip(OF_A_RUN, ended_without_rights(*OF_A_RUN, cwd=others), strict=True):
        expected = (2, "error: X/config.json cannot be read: Permission denied.")
        assert said == expected, command


def test_a_folder_that_may_not_be_read_is_told(others: Path) -> None:
    commands = [*OF_A_RUN, ["evaluate", "X/policy.safetensors", "--episodes=2", "-q"]]
    (others / "X").chmod(0)
    try:
        said = ended_without_rights(*commands, cwd=others)
    finally:
        (others / "X").chmod(0o755)
    expected = (2, "error: X/config.json cannot be read: Permission denied.")
    assert said[:-1] == [expected] * len(OF_A_RUN)
    assert said[-1][0] == 2
    assert "error: X/policy.safetensors cannot be read: " in said[-1][1]
    assert "Permission denied" in said[-1][1]


def test_a_run_that_may_not_be_read_is_named_among_those_that_are_left_out(others: Path) -> None:
    shutil.copytree(others / "X", others / "Y")
    (others / "X").chmod(0)
    try:
        ((status, said),) = ended_without_rights(["compare", str(others)], cwd=others)
    finally:
        (others / "X").chmod(0o755)
    assert (status, said) == (
        2,
        f"error: {others}/X/config.json cannot be read: Permission denied.",
    )
