"""Whether exported policies compute what the policies do: every memory, several spaces, all forms.

    python benchmarks/exports/cells.py  # all cells, then the table; ten minutes or more
    python benchmarks/exports/cells.py --table  # of what there is

A cell is one export with its check of 1,000 steps: an agent of 128 units, seed 0, whose weights
were all moved by 0.1 of a standard normal, so that none is what it starts as; the batch is dynamic
(3 streams), of C and NumPy one stream. Figures are differences from the policy in double precision.
Finished cells leave a line each in benchmarks/results/exports.jsonl, and are not done again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from rich.console import Console
from rich.progress import track

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.export.formats import FORMATS, export
from recurrent_rl.agents.export.names import FormatName
from recurrent_rl.agents.memory.registry import MEMORIES

RESULTS = Path(__file__).parents[1] / "results" / "exports.jsonl"
SPACES: dict[str, tuple[Any, Any]] = {
    "vector, Discrete": (spaces.Box(-5, 5, (8,)), spaces.Discrete(6, start=1)),
    "image, Box": (spaces.Box(0, 255, (12, 12, 3), np.uint8), spaces.Box(-2, 2, (4,))),
    "Dict and Tuple, MultiDiscrete": (
        spaces.Dict(
            a=spaces.Tuple((spaces.Discrete(3), spaces.MultiBinary(2))),
            b=spaces.MultiDiscrete([4, 5]),
            c=spaces.Box(-1, 1, (2, 2)),
        ),
        spaces.MultiDiscrete([3, 4], start=[1, 2]),
    ),
}
PACKAGES = {"torch": ("torch",), "onnx": ("onnx", "onnxruntime", "torch"), "numpy": ("numpy",)}
"""Whose versions are stated, by form."""
ONE_STREAM = ("c", "numpy")


def read_lines(results: Path) -> list[dict[str, Any]]:
    """What was measured, in its order; nothing where there is no file."""
    if not results.exists():
        return []
    return [json.loads(line) for line in results.read_text().splitlines()]


def done() -> dict[tuple[str, str, str], dict[str, Any]]:
    """The lines there are, by memory, spaces and form."""
    return {(line["memory"], line["spaces"], line["to"]): line for line in read_lines(RESULTS)}


def measure(memory: str, name: str, to: FormatName) -> dict[str, Any]:
    """Export and check one agent."""
    torch.manual_seed(0)
    agent = ActorCritic(*SPACES[name], AgentConfig(memory=memory)).eval()
    with torch.no_grad():
        for parameter in agent.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    with tempfile.TemporaryDirectory() as folder:
        batch: Any = 1 if to in ONE_STREAM else "dynamic"
        found = export(agent, Path(folder) / "exported", to, batch)
    assert found.check is not None
    return {
        "memory": memory,
        "spaces": name,
        "to": to,
        "versions": versions_of(to),
        "bytes": found.size,
        "worst": found.check.worst,
        "own": found.check.own,
    }


def versions_of(to: str) -> dict[str, str]:
    """Of the packages that a form needs."""
    return {package: version(package) for package in PACKAGES.get(to, ())}


def off_by(*lines: dict[str, Any]) -> str:
    """How far exports are off: in multiples of float32's own error, and in logits or means.

    Of several the largest; nothing of none.
    """
    if not lines:
        return ""
    ratio = max(line["worst"][name] / line["own"][name] for line in lines for name in line["worst"])
    said = max(line["worst"].get(name, 0.0) for line in lines for name in ("logits", "mean"))
    return f"{ratio:.1f} ({said:.0e})"


def table(lines: dict[tuple[str, str, str], dict[str, Any]]) -> str:
    """A Markdown table of the largest errors over all spaces, and the versions."""
    forms = [to for to in FORMATS if any(key[2] == to for key in lines)]
    rows = [f"| memory | {' | '.join(forms)} |", "|---" * (len(forms) + 1) + "|"]
    for memory in MEMORIES:
        of_forms = [
            [line for key, line in lines.items() if key[0] == memory and key[2] == to]
            for to in forms
        ]
        rows.append(f"| {memory} | {' | '.join(off_by(*found) for found in of_forms)} |")
    versions = {package: v for line in lines.values() for package, v in line["versions"].items()}
    stated = ", ".join(f"{package} {v}" for package, v in sorted(versions.items()))
    return "\n".join([*rows, "", f"Versions: {stated}."])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--table", action="store_true", help="of the cells there are")
    forms = [name for name, form in FORMATS.items() if form.checked]
    cells = [(memory, name, to) for name in SPACES for memory in MEMORIES for to in forms]
    if not parser.parse_args().table:
        left = [one for one in cells if one not in done()]
        for one in track(left, "exporting", console=Console(stderr=True)):
            line = measure(*one)
            with RESULTS.open("a") as file:
                file.write(json.dumps(line) + "\n")
    print(table(done()))


if __name__ == "__main__":
    main()
