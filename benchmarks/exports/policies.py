"""Exports every trained policy to every format, each with its check of 1,000 steps.

    python benchmarks/exports/policies.py runs/benchmark-popgym runs/benchmark-control
    python benchmarks/exports/policies.py runs/rows  # short trainings of learning/rows.py
    python benchmarks/exports/policies.py --table  # of what there is

A policy is that of a run folder: a folder that is given, or one at any depth in it, of whatever
training; the first two are where published.py leaves those of the results tables. All formats
step one stream here. Each export leaves a line in benchmarks/results/exported_policies.jsonl, and
is not done again for the same run. The exported files are thrown away; `--out FOLDER` keeps them.
The table has the largest errors by memory; what is refused is said below it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from cells import off_by, read_lines, versions_of
from rich.console import Console
from rich.progress import track

from recurrent_rl.agents.errors import UserError
from recurrent_rl.agents.export.formats import FORMATS, export_each
from recurrent_rl.agents.export.names import FormatName
from recurrent_rl.runs.folder import RunFolder
from recurrent_rl.runs.trained_on import policy_of

RESULTS = Path(__file__).parents[1] / "results" / "exported_policies.jsonl"


def measure(run: RunFolder, forms: list[FormatName], out: Path) -> list[dict[str, Any]]:
    """Export one policy to these formats."""
    config, policy = run.load_config(), policy_of(run.path)
    fields = {
        "run": run.path.name,
        "task": config.environment,
        "memory": config.agent.memory,
        "hidden_size": config.agent.hidden_size,
        "steps": policy.summary.get("timesteps"),
    }
    paths = {to: out / run.path.name / FORMATS[to].file for to in forms}
    lines = []
    for to, found in export_each(policy.agent, paths).items():
        line = fields | {"to": to, "versions": versions_of(to)}
        if isinstance(found, UserError):
            line["error"] = str(found)
        else:
            line["bytes"] = found.size
            if found.check is not None:
                line |= {"worst": found.check.worst, "own": found.check.own}
        lines.append(line)
    return lines


def cell(lines: list[dict[str, Any]]) -> str:
    """The largest error of the exports to a format, and their sizes."""
    lines = [line for line in lines if "error" not in line]
    if not lines:
        return ""
    checked = [line for line in lines if "worst" in line]
    sizes = [line["bytes"] / 1000 for line in lines]
    of = f"{min(sizes):,.0f} to {max(sizes):,.0f} kB" if len(sizes) > 1 else f"{sizes[0]:,.0f} kB"
    return f"{off_by(*checked) or 'not checked'}, {of}"


def table(found: list[dict[str, Any]]) -> str:
    """A Markdown table by memory and units, the versions, the largest error, what was refused."""
    forms = [to for to in FORMATS if any(line["to"] == to for line in found)]
    rows = [f"| memory | policies | {' | '.join(forms)} |", "|---" * (len(forms) + 2) + "|"]
    agents = sorted({(line["memory"], line["hidden_size"]) for line in found})
    for agent in agents:
        of_agent = [line for line in found if (line["memory"], line["hidden_size"]) == agent]
        texts = [cell([line for line in of_agent if line["to"] == to]) for to in forms]
        count = len({line["run"] for line in of_agent})
        rows.append(f"| {agent[0]}, {agent[1]} units | {count} | {' | '.join(texts)} |")
    versions = {name: v for line in found for name, v in line.get("versions", {}).items()}
    stated = ", ".join(f"{name} {v}" for name, v in sorted(versions.items()))
    worst = max((line for line in found if "worst" in line), key=lambda one: float(ratio(one)))
    refused = [f"{line['run']}, {line['to']}: {line['error']}" for line in found if "error" in line]
    return "\n".join(
        [
            *(*rows, "", f"Versions: {stated}."),
            f"{len(found) - len(refused)} exports, {len(refused)} refused; largest ratio "
            f"{ratio(worst)}: {worst['run']}, {worst['to']}.",
            *refused,
        ]
    )


def ratio(line: dict[str, Any]) -> str:
    """The largest error of an export, in multiples of single precision's own."""
    return off_by(line).split(" ")[0]


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
    left = {run: [to for to in given.to if (run.path.name, to) not in done] for run in runs}
    todo = [(run, forms) for run, forms in left.items() if forms]
    with tempfile.TemporaryDirectory() as folder:
        for run, forms in track(todo, "exporting", console=Console(stderr=True)):
            lines = measure(run, forms, given.out or Path(folder))
            with RESULTS.open("a") as file:
                file.writelines(json.dumps(line) + "\n" for line in lines)
    print(table(read_lines(RESULTS)))


if __name__ == "__main__":
    main()
