"""What a strict type checker says of a user's program."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import recurrent_rl

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = """
import dataclasses
import recurrent_rl
from recurrent_rl import AgentConfig, ActionHead, Memory, TrainConfig
from torch import nn

class Mine(Memory):
    pass

class Features(nn.Module):
    pass

class Head(ActionHead):
    pass

config = AgentConfig(memory=Mine, encoder=Features, head=Head)
config = AgentConfig("lstm", 64, encoder="mine:Features", head=None)
config = dataclasses.replace(config, memory=Mine)
memory: str = config.memory
encoder: str | None = config.encoder
path: str = str(recurrent_rl.train(TrainConfig("CartPole-v1", agent=config)).policy_path)
"""
MISTAKES = {
    "AgentConfig(memory=nn.GRU)": 'expected "str | type[Memory]"',
    "AgentConfig(memory=Mine(1, 1))": 'expected "str | type[Memory]"',
    "AgentConfig(head=Features)": 'expected "str | type[ActionHead] | None"',
    "AgentConfig(hidden_sise=64)": 'Unexpected keyword argument "hidden_sise" for "AgentConfig"',
    "recurrent_rl.trian(TrainConfig())": 'Module has no attribute "trian"',
}


def test_a_type_checker_is_told_of_the_public_names_what_use_finds() -> None:
    tree = ast.parse(Path(recurrent_rl.__file__).read_text())
    imported = {
        alias.name: node.module.removeprefix("recurrent_rl.")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("recurrent_rl.")
        for alias in node.names
        if node.module is not None and alias.asname == alias.name
    }
    assert imported == recurrent_rl._HOMES


def test_every_public_name_is_in_the_reference() -> None:
    pages = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md"))
    shown = set(re.findall(r"^\.\. auto\w+:: recurrent_rl\.(\S+)$", pages, re.MULTILINE))
    homes = recurrent_rl._HOMES.items()
    assert [name for name, home in homes if not shown & {name, f"{home}.{name}"}] == []


@pytest.mark.slow
def test_a_strict_type_checker_takes_a_users_program_and_finds_its_mistakes(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM + "\n".join(MISTAKES))
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", str(program)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    first = len(PROGRAM.splitlines()) + 1
    # Of the library's own lines `make types` tells, with the settings that they were written for.
    found = [line for line in run.stdout.splitlines() if "program.py:" in line and "error:" in line]
    for i, expected in enumerate(MISTAKES.values()):
        (line,) = [one for one in found if f"program.py:{first + i}:" in one]
        assert expected in line
    assert len(found) == len(MISTAKES), run.stdout
