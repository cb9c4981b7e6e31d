"""What memory is worth: tasks without memory and with each of several, and what resetting costs.

    python benchmarks/learning/memory.py  # all runs, then the table and docs/learning_curve.png
    python benchmarks/learning/memory.py --table  # the table and the picture of the rows there are
    python benchmarks/learning/memory.py --suite images --seeds 1  # rooms; needs the extra minigrid
    python benchmarks/learning/memory.py --suite images --memories none --tasks RedBlueDoors-6x6
    python benchmarks/learning/memory.py --suite bodies --seeds 1 --tasks Hopper  # needs mujoco
    python benchmarks/learning/memory.py --suite long --seeds 1 --memories gru-rotor

The runs are those of `recurrent-rl benchmark memory`, or of the suite that is named. Finished runs
leave a line each in benchmarks/results/, in a file of the suite's name, with a curve thinned to 100
points: the table of a suite, and its picture in docs/ if it has one, are made of these lines.
"""

from __future__ import annotations

from figures import lighten
from jobs import ROOT, arguments, do, keep, run_of, suite_jobs

from recurrent_rl.experiments.comparison import Cell, Comparison, task_name
from recurrent_rl.experiments.suites import SUITES

PICTURES = {"memory": "learning_curve", "images": "images", "bodies": "bodies", "long": None}
"""By suite, in docs; None: it has none."""


def on_and_off(cell: Cell) -> str:
    """The return, and in brackets that with the state reset at every step."""
    on, off = cell.shown("deterministic"), cell.shown("memory_ablation")
    return f"{on} ({off})" if off else on


def main() -> None:
    parser = arguments(__doc__, 3, episodes=1000)
    parser.add_argument("--suite", choices=PICTURES, default="memory")
    parser.add_argument("--tasks", nargs="+", default=[""], help="that begin so")
    parser.add_argument("--memories", nargs="+", help="by default all of the suite")
    given = parser.parse_args()
    path = ROOT / "benchmarks" / "results" / f"{given.suite}.jsonl"
    jobs = [
        job
        for memory in given.memories or SUITES[given.suite].memories
        for job in suite_jobs(given.suite, given.seeds, given.episodes, memory)
        if task_name(job.config).startswith(tuple(given.tasks))
    ]
    try:
        if not given.table:
            do(sorted(jobs, key=lambda job: job.config.seed))
    finally:
        rows = keep(jobs, path)
    runs = [run_of(rows[job.run_dir.name], job) for job in jobs if job.run_dir.name in rows]
    if runs:
        comparison = Comparison(runs)
        print(comparison.table(on_and_off))
        if (name := PICTURES[given.suite]) is not None:
            picture = ROOT / "docs" / f"{name}.png"
            comparison.draw(picture)
            lighten(picture)


if __name__ == "__main__":
    main()
