"""Exports every trained policy to every format, each with its check of 1,000 steps.

    python benchmarks/exports/policies.py runs/benchmark-popgym runs/benchmark-control
    python benchmarks/exports/policies.py --table  # of what there is

A policy is that of a run folder: a folder that is given, or one at any depth in it, of whatever
training; the two above are where published.py leaves those of the results tables. All formats
step one stream here. Each export leaves a line in benchmarks/results/exported_policies.jsonl, and
is not done again for the same run. The exported files are thrown away; `--out FOLDER` keeps them.
What is refused is said below the table.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from cells import off_by, read_lines, versions_of
from rich.console import Console
from rich.progress import track

from recurrent_rl.agents.errors import UserError
from recurrent_rl.agents.export.formats import FORMATS
from recurrent_rl.runs.folder import RunFolder
from recurrent_rl.runs.trained_on import policy_of

RESULTS = Path(__file__).parents[1] / "results" / "exported_policies.jsonl"


def measure(run: RunFolder, to: str, out: Path) -> dict[str, Any]:
    """Export one policy to one format."""
    config = run.load_config()
    line = {
        "run": run.path.name,
        "task": config.environment,
        "memory": config.agent.memory,
        "hidden_size": config.agent.hidden_size,
        "to": to,
    }
    begin = time.perf_counter()
    try:
        policy = policy_of(run.path)
        line["steps"] = policy.summary.get("timesteps")
        found = policy.export(out / run.path.name / FORMATS[to].file, to)
    except UserError as error:
        return line | {"error": str(error)}
    line |= {"bytes": found.size, "seconds": time.perf_counter() - begin}
    line["versions"] = versions_of(to)
    if found.check is not None:
        line |= {"worst": found.check.worst, "own": found.check.own}
    return line


def cell(line: dict[str, Any] | None) -> str:
    """The error of an export, its size and the time that it took with its check."""
    if line is None:
        return ""
    if "error" in line:
        return "refused"
    checked = off_by(line) if "worst" in line else "not checked"
    return f"{checked}, {line['bytes'] / 1000:,.0f} kB, {line['seconds']:.0f} s"


def agent_of(line: dict[str, Any]) -> str:
    """Its memory and units, and for how long it was trained, where the line says so."""
    steps = f", {line['steps'] / 1e6:.2g} M steps" if line.get("steps") else ""
    return f"{line['memory']}, {line['hidden_size']} units{steps}"


def table(found: list[dict[str, Any]]) -> str:
    """A Markdown table, the versions, and what was refused."""
    forms = [to for to in FORMATS if any(line["to"] == to for line in found)]
    rows = [f"| task | memory | {' | '.join(forms)} |", "|---" * (len(forms) + 2) + "|"]
    cells = {(line["run"], line["to"]): line for line in found}
    names = {line["run"]: (line["task"], agent_of(line)) for line in found}
    for run, (task, agent) in sorted(names.items(), key=lambda item: item[1]):
        texts = " | ".join(cell(cells.get((run, to))) for to in forms)
        task = task.removeprefix("recurrent_rl/").removesuffix("-v0")
        rows.append(f"| {task} | {agent} | {texts} |")
    versions = {name: v for line in found for name, v in line.get("versions", {}).items()}
    stated = ", ".join(f"{name} {v}" for name, v in sorted(versions.items()))
    refused = [f"{line['run']}, {line['to']}: {line['error']}" for line in found if "error" in line]
    return "\n".join([*rows, "", f"Versions: {stated}.", *refused])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folders", nargs="*", type=Path, help="of runs, at any depth")
    parser.add_argument("--to", nargs="+", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--out", type=Path, help="a folder for the exported files")
    parser.add_argument("--table", action="store_true", help="of the exports there are")
    given = parser.parse_args()
    done = {(line["run"], line["to"]) for line in read_lines(RESULTS)}
    if not given.folders and not given.table:
        parser.error("name folders of runs, or --table")
    runs = [run for run in RunFolder.find(given.folders) if run.policy.exists()]
    left = [(run, to) for run in runs for to in given.to if (run.path.name, to) not in done]
    with tempfile.TemporaryDirectory() as folder:
        for run, to in track(left, "exporting", console=Console(stderr=True)):
            line = measure(run, to, given.out or Path(folder))
            with RESULTS.open("a") as file:
                file.write(json.dumps(line) + "\n")
    print(table(read_lines(RESULTS)))


if __name__ == "__main__":
    main()
