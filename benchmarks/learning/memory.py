"""What memory is worth: four tasks without memory and with each of four, and what resetting costs.

    python benchmarks/learning/memory.py  # all runs, then the table and docs/learning_curve.png
    python benchmarks/learning/memory.py --table  # the table and the picture of the rows there are

The runs are those of `recurrent-rl benchmark memory`. Finished runs leave a line each in
benchmarks/results/memory.jsonl, with a curve thinned to 100 points: table and picture are made of
these lines.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jobs import ROOT, arguments, do, read_rows, suite_jobs, thinned, write_rows

from recurrent_rl.experiments.benchmark import Job
from recurrent_rl.experiments.comparison import Cell, Comparison
from recurrent_rl.experiments.results import Run, load_run
from recurrent_rl.experiments.suites import SUITES
from recurrent_rl.runs.figures import SavedEvaluation

SUITE = SUITES["memory"]
RESULTS = ROOT / "benchmarks" / "results" / "memory.jsonl"


def row_of(job: Job) -> dict[str, Any]:
    """What is kept of a finished run."""
    run = load_run(job.run_dir)
    return {
        "run": job.run_dir.name,
        "evaluation": run.evaluation.to_json(),
        **thinned(run),
    }


def run_of(row: dict[str, Any], job: Job) -> Run:
    """The inverse of `row_of`."""
    evaluation = SavedEvaluation.from_json(row["evaluation"])
    steps, returns = np.array(row["steps"]), np.array(row["returns"])
    return Run(job.run_dir, job.config, evaluation, steps, returns)


def keep(jobs: list[Job], path: Path) -> dict[str, dict[str, Any]]:
    """Write the rows of finished runs in place of older ones; returns all rows by their run."""
    rows = {row["run"]: row for row in read_rows(path)}
    rows |= {job.run_dir.name: row_of(job) for job in jobs if job.done}
    write_rows(path, (rows[name] for name in sorted(rows)))
    return rows


def on_and_off(cell: Cell) -> str:
    """The return, and in brackets that with the state reset at every step."""
    on, off = cell.shown("deterministic"), cell.shown("memory_ablation")
    return f"{on} ({off})" if off else on


def main() -> None:
    given = arguments(__doc__, SUITE.seeds, episodes=1000).parse_args()
    jobs = suite_jobs("memory", given.seeds, given.episodes)
    try:
        if not given.table:
            do(jobs)
    finally:
        rows = keep(jobs, RESULTS)
    runs = [run_of(rows[job.run_dir.name], job) for job in jobs if job.run_dir.name in rows]
    comparison = Comparison(runs)
    print(comparison.table(on_and_off))
    comparison.draw(ROOT / "docs" / "learning_curve.png")


if __name__ == "__main__":
    main()
