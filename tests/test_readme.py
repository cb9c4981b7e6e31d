"""The README's blocks run as written."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import pytest

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.policy import Policy

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
PYTHON_BLOCKS = [text for language, text in BLOCKS if language == "python"]
COMMANDS = [
    line.split("#")[0].strip()
    for language, text in BLOCKS
    if not language
    for line in text.splitlines()
    if line.startswith("recurrent-rl ") and "RUN" not in line and "my_package" not in line
]


def test_the_blocks_are_found() -> None:
    assert len(PYTHON_BLOCKS) == 2
    assert len(COMMANDS) == 7


@pytest.mark.parametrize("block", PYTHON_BLOCKS, ids=["train", "import"])
def test_a_python_block_runs_as_written(block: str, tmp_path: Path) -> None:
    space = gym.spaces.Discrete(4)
    Policy(ActorCritic(space, space, AgentConfig())).save(tmp_path / "policy.safetensors")
    result = subprocess.run(
        [sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("command", [c for c in COMMANDS if "monitor" not in c])
def test_a_command_runs_as_written(command: str, tmp_path: Path) -> None:
    arguments = shlex.split(command)[1:]
    if arguments[0] == "train" and "--help" not in arguments:
        # As written, but for the length of the training.
        arguments += ["--total-timesteps", "8192", "--eval-episodes", "5"]
    if arguments[:2] == ["benchmark", "memory"]:
        arguments += ["--total-timesteps", "2048", "--episodes", "5", "--seeds", "1"]
        arguments += ["--tasks", "TMaze", "--memories", "gru"]
    result = subprocess.run(
        [sys.executable, "-m", "recurrent_rl", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr


def test_the_make_targets_are_the_pip_lines_it_stands_for() -> None:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    result = subprocess.run(
        ["make", "--dry-run", "--always-make", "train", "VENV=.venv", "SEED=0", "ARGS="],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    wanted = next(line for line in README.splitlines() if line.startswith(".venv/bin/recurrent"))
    assert " ".join(wanted.split()) in " ".join(result.stdout.split())


def anchors(page: Path) -> set[str]:
    """Those of a page's headings, as GitHub and our Sphinx make them."""
    headings = re.findall(r"^#+ (.*)$", without_code(page), re.MULTILINE)
    words = (re.sub(r"[^\w\s-]", "", heading.lower()) for heading in headings)
    return {re.sub(r"\s", "-", heading) for heading in words}


def without_code(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def test_links_lead_somewhere() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
    for page in pages:
        for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", without_code(page)):
            to = page.parent / target if target else page
            assert to.exists(), f"{page.name} links to {target}"
            if anchor:
                assert anchor in anchors(to), f"{page.name} links to {target}#{anchor}"
