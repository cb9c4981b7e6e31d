"""Each line of README and pages that installs something is run as written, in a clone."""

import os
import re
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
INSTALLS = re.compile(r"make install|pip install|-m build|-m venv")
CODE = re.compile(r"^```\w*\n(.*?)^```|`([^`\n]+)`", re.DOTALL | re.MULTILINE)


def install_lines(page: Path) -> list[str]:
    """Those of its blocks and code spans, in their order."""
    code = [block or span for block, span in CODE.findall(page.read_text(encoding="utf-8"))]
    return [line for text in code for line in text.splitlines() if INSTALLS.search(line)]


LINES = {page: install_lines(page) for page in PAGES}
INSTALLING = [page for page, lines in LINES.items() if lines]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_mention_of_an_installation_is_a_line_that_is_run(page: Path) -> None:
    """By the test below, which finds its lines in blocks and code spans."""
    mentions = INSTALLS.findall(page.read_text(encoding="utf-8"))
    assert INSTALLS.findall("\n".join(LINES[page])) == mentions


def test_the_pages_that_say_how_to_install_are_found() -> None:
    names = {"README.md", "CONTRIBUTING.md", "getting-started.md", "results.md"}
    assert names <= {page.name for page in INSTALLING}


@pytest.fixture
def clone() -> Iterator[Path]:
    """Where to clone to; removed afterwards, for an environment is of more than a gigabyte."""
    with TemporaryDirectory() as folder:
        yield Path(folder) / "clone"


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a clone of the repository")
@pytest.mark.parametrize("page", INSTALLING, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_install_lines_of_a_page_run_as_written(page: Path, clone: Path) -> None:
    """One after the other in a fresh clone of what is committed, with an environment of its own."""
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True, timeout=60)
    before = []
    if not re.search("make install|-m venv", "\n".join(LINES[page])):
        venv.create(clone / ".venv", with_pip=True)
        before = ["pip install -e . -c constraints.txt"]  # as who reads of an extra has done
    folders = [clone / ".venv" / "bin", Path(sys.base_prefix) / "bin"]
    outer = {"PYTHONPATH", "VIRTUAL_ENV", "VENV"}
    environment = {name: value for name, value in os.environ.items() if name not in outer}
    environment["PIP_NO_COMPILE"] = "1"  # takes half of the time
    environment["PATH"] = os.pathsep.join([*map(str, folders), os.environ["PATH"]])
    for line in [*before, *LINES[page], "recurrent-rl info"]:
        result = subprocess.run(
            ["sh", "-c", line],
            cwd=clone,
            env=environment,
            capture_output=True,
            text=True,
            timeout=1200,
        )
        assert result.returncode == 0, f"{line}\n{result.stdout[-2000:]}{result.stderr[-2000:]}"
    assert (clone / ".venv" / "bin" / "recurrent-rl").exists()  # this one, and no other, was asked
