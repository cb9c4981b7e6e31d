"""The pages that are read with a terminal beside them run as written, block by block."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"^```(\w*)(?: file=(\S+))?\n(.*?)^```", re.DOTALL | re.MULTILINE)

HAS_ONNX = all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime", "onnxscript"))

NEEDS_ONNX = pytest.mark.skipif(not HAS_ONNX, reason="the extra onnx is not installed")
PAGES = (
    *("getting-started.md", "your-environment.md", "your-parts.md", "training.md", "sharing.md"),
    *("watching.md", "tuning.md", "experiments.md", "using.md"),
    pytest.param("export.md", marks=NEEDS_ONNX),
)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs_as_written(page: str, tmp_path: Path) -> None:
    """Commands stand in blocks without a language, in `python` code or a file; `text` is shown."""
    command = tmp_path / "bin" / "recurrent-rl"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m recurrent_rl "$@"\n')
    command.chmod(0o755)
    environment = {**os.environ, "PATH": f"{command.parent}:{os.environ['PATH']}"}
    ran = 0
    for language, file, text in BLOCK.findall((DOCS / page).read_text()):
        if file:
            (tmp_path / file).write_text(text)
        elif language == "python":
            ran += run([sys.executable, "-c", text], tmp_path, environment)
        elif not language:
            for line in text.splitlines():
                # As written, but for the length of the training.
                less = " --total-timesteps 4096 --eval-episodes 5" if " train " in line else ""
                if " tune " in line:
                    less = " --total-timesteps 2048 --eval-episodes 5 --trials 2 --confirm-seeds 1"
                ran += run(["sh", "-c", line + less], tmp_path, environment)
    assert ran >= 4


def run(command: list[str], folder: Path, environment: dict[str, str]) -> int:
    """One command that succeeded."""
    result = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )
    assert result.returncode == 0, f"{command[-1]}: {result.stderr}"
    return 1
