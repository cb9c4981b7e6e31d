"""What memory is worth: four tasks without memory and with each of four, and what resetting costs.

    python benchmarks/memory.py            # all runs, then the table and docs/learning_curve.png
    python benchmarks/memory.py --table    # those of the runs there are

The runs are those of `recurrent-rl benchmark memory`.
"""

from __future__ import annotations

from jobs import ROOT, arguments, do, suite_jobs

from recurrent_rl.experiments.comparison import Cell, Comparison
from recurrent_rl.experiments.results import load_run
from recurrent_rl.experiments.suites import SUITES

SUITE = SUITES["memory"]


def on_and_off(cell: Cell) -> str:
    """The return, and in brackets that with the state reset at every step."""
    on, off = cell.shown("greedy"), cell.shown("without_memory")
    return f"{on} ({off})" if off else on


def main() -> None:
    asked = arguments(__doc__, SUITE.seeds, episodes=1000).parse_args()
    jobs = suite_jobs("memory", asked.seeds, asked.episodes)
    if not asked.table:
        do(jobs)
    comparison = Comparison([load_run(job.run_dir) for job in jobs if job.done])
    print(comparison.table(on_and_off))
    comparison.draw(ROOT / "docs" / "learning_curve.png")


if __name__ == "__main__":
    main()
