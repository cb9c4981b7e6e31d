"""Two rooms of MiniGrid, of which only the image ahead is seen, with each memory and without.

    pip install -e ".[minigrid]"
    python benchmarks/learning/images.py  # all runs, then two tables and docs/images.png
    python benchmarks/learning/images.py --tasks RedBlueDoors-6x6 --memories gru-rotor --seeds 3
    python benchmarks/learning/images.py --table  # of the rows there are

The runs are those of `recurrent-rl benchmark images`, once with the defaults, whose rollouts are
whole episodes, and once with the preset, whose rollouts are shorter than an episode. Finished runs
leave a line each in benchmarks/results/images.jsonl.
"""

from __future__ import annotations

from itertools import chain

from jobs import ROOT, arguments, do, keep, run_of, suite_jobs

from recurrent_rl.experiments.comparison import Cell, Comparison, task_name
from recurrent_rl.experiments.presets import PRESETS
from recurrent_rl.experiments.suites import SUITES

SUITE = SUITES["images"]
RESULTS = ROOT / "benchmarks" / "results" / "images.jsonl"
WAYS = {"defaults": {}, "preset": PRESETS["RedBlueDoors-6x6"].settings}


def both(cell: Cell) -> str:
    """The return of deterministic actions, and in brackets that of stochastic ones."""
    return f"{cell.shown('deterministic')} ({cell.shown('stochastic')})"


def main() -> None:
    parser = arguments(__doc__, SUITE.seeds, episodes=500)
    parser.add_argument("--tasks", nargs="+", default=[""], help="whose names begin so")
    parser.add_argument("--memories", nargs="+", choices=SUITE.memories, default=SUITE.memories)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    given = parser.parse_args()
    jobs = {
        way: [
            job
            for memory in given.memories
            for job in suite_jobs(
                "images",
                given.seeds,
                given.episodes,
                memory,
                WAYS[way],
                None if way == "defaults" else way,
            )
            if task_name(job.config).startswith(tuple(given.tasks))
        ]
        for way in given.ways
    }
    every = sorted(chain(*jobs.values()), key=lambda job: job.config.seed)
    try:
        if not given.table:
            do(every)
    finally:
        rows = keep(every, RESULTS)
    for way, of_way in jobs.items():
        runs = [run_of(rows[job.run_dir.name], job) for job in of_way if job.run_dir.name in rows]
        if runs:
            comparison = Comparison(runs)
            print(f"{way}:\n{comparison.table(both)}\n")
            if way == "preset":
                comparison.draw(ROOT / "docs" / "images.png")


if __name__ == "__main__":
    main()
