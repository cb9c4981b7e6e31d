"""What the benchmarks of learning share: doing the runs that are missing."""

from __future__ import annotations

import sys

from recurrent_rl.benchmark import Job, run_all
from recurrent_rl.trainer import available_cores


def do(jobs: list[Job]) -> None:
    """Do what is not done yet, one run on each core; failures are told, a stop ends the script."""
    outcome = run_all(jobs, available_cores())
    for run_dir, reason in outcome.failed.items():
        print(f"failed: {run_dir}: {reason}", file=sys.stderr)
    if outcome.stopped_by is not None:
        raise SystemExit(128 + outcome.stopped_by)
