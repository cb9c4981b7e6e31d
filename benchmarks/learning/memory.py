"""What memory is worth: four tasks without memory and with each of four, and what resetting costs.

    python benchmarks/learning/memory.py  # all runs, then the table and docs/learning_curve.png
    python benchmarks/learning/memory.py --table  # the table and the picture of the rows there are

The runs are those of `recurrent-rl benchmark memory`. Finished runs leave a line each in
benchmarks/results/memory.jsonl, with a curve thinned to 100 points: table and picture are made of
these lines.
"""

from __future__ import annotations

from jobs import ROOT, arguments, do, keep, run_of, suite_jobs

from recurrent_rl.experiments.comparison import Cell, Comparison
from recurrent_rl.experiments.suites import SUITES

SUITE = SUITES["memory"]
RESULTS = ROOT / "benchmarks" / "results" / "memory.jsonl"


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
    if runs:
        comparison = Comparison(runs)
        print(comparison.table(on_and_off))
        comparison.draw(ROOT / "docs" / "learning_curve.png")


if __name__ == "__main__":
    main()
