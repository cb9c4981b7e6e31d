"""What the benchmarks of learning share: doing the runs that are missing, and reading rows."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from recurrent_rl.benchmark import Job, run_all
from recurrent_rl.trainer import available_cores


def do(jobs: list[Job]) -> None:
    """Do what is not done yet, one run on each core; failures are told, a stop ends the script."""
    outcome = run_all(jobs, available_cores())
    for run_dir, reason in outcome.failed.items():
        print(f"failed: {run_dir}: {reason}", file=sys.stderr)
    if outcome.stopped_by is not None:
        raise SystemExit(128 + outcome.stopped_by)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file that holds one JSON object a line; none where there is no file."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]
