"""The defaults on environments that they were not chosen on, beside sb3-contrib's RecurrentPPO.

    python benchmarks/learning/untuned.py  # all runs, then the table
    python benchmarks/learning/untuned.py --table  # the table of the runs there are

Acrobot-v1 and LunarLander-v3 without velocities, the same number of steps, everyone's defaults;
needs `pip install -e ".[box2d,plot]"`. Ours are the runs of `recurrent-rl benchmark untuned`, which
leave a line each in benchmarks/results/untuned_ours.jsonl; the others' lines are in untuned.jsonl.
What is there is not run again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import numpy as np
from jobs import ROOT, arguments, do, keep, read_rows, run_of, suite_jobs

from recurrent_rl.experiments.comparison import Cell, markdown
from recurrent_rl.experiments.statistics import bootstrapped, probability_of_improvement
from recurrent_rl.experiments.suites import SUITES, Task
from recurrent_rl.process import available_cores
from recurrent_rl.runs.evaluation_result import WAYS
from recurrent_rl.runs.student import student_half_interval

SUITE = SUITES["untuned"]
PEER = "sb3-contrib RecurrentPPO"
sys.path.append(str(ROOT / "benchmarks" / "peers"))
from peers import RUNNERS, python_of, set_up  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "untuned.jsonl"
OURS = RESULTS.with_stem("untuned_ours")

Row = dict[str, Any]


def peer(task: Task, seed: int, episodes: int) -> Row:
    """Train and evaluate the peer, and keep the row."""
    command = [str(python_of("sb3_contrib")), str(RUNNERS / "sb3_contrib_untuned.py"), task.env_id]
    command += ["--hide", *map(str, task.env.hide_indices), "--seed", str(seed)]
    command += ["--steps", str(task.total_timesteps), "--episodes", str(episodes)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{PEER} on {task.name}, seed {seed}: {done.stderr.strip()[-300:]}")
    row: Row = {"task": task.name, "seed": seed, "episodes": episodes}
    row |= json.loads(done.stdout.splitlines()[-1])
    with RESULTS.open("a") as file:
        file.write(json.dumps(row) + "\n")
    return row


def table(memory: str, seeds: int, episodes: int) -> str:
    """Markdown: mean return over seeds ± half of its 95 % interval, and who is better."""
    lines = []
    rows = read_rows(RESULTS)
    jobs = suite_jobs("untuned", seeds, episodes, memory)
    kept = keep(jobs, OURS)
    there = [job for job in jobs if job.run_dir.name in kept]
    for task in SUITE.tasks:
        own = [job for job in there if job.config.env_id == task.env_id]
        cell = Cell(tuple(run_of(kept[job.run_dir.name], job) for job in own))
        for way in ("deterministic", "stochastic"):
            mine = np.array([result.mean_return for result in cell.of(way)])
            theirs = np.array([row[way] for row in rows if row["task"] == task.name])
            if min(len(mine), len(theirs)) < 2:
                continue
            cells = [f"{x.mean():.1f} ± {student_half_interval(x):.1f}" for x in (mine, theirs)]
            better = bootstrapped(probability_of_improvement, [mine, theirs])
            count = f"{len(mine)}" if len(mine) == len(theirs) else f"{len(mine)}, {len(theirs)}"
            steps = f"{task.total_timesteps / 1e6:g} M"
            lines.append([task.name, steps, count, WAYS[way].label, *cells, better])
    header = ["task", "steps", "seeds", "actions", "recurrent-rl", PEER, "P(ours better)"]
    return markdown(header, lines)


def main() -> None:
    parser = arguments(__doc__, SUITE.seeds, episodes=500)
    parser.add_argument("--memory", default=SUITE.memories[0])
    given = parser.parse_args()
    if not given.table:
        set_up("sb3_contrib")
        kept = {row["run"] for row in read_rows(OURS)}
        jobs = suite_jobs("untuned", given.seeds, given.episodes, given.memory)
        do([job for job in jobs if job.run_dir.name not in kept])
        there = {(row["task"], row["seed"]) for row in read_rows(RESULTS)}
        missing = [
            (task, seed)
            for seed in range(given.seeds)
            for task in SUITE.tasks
            if (task.name, seed) not in there
        ]
        pool = ThreadPoolExecutor(available_cores())
        try:
            futures = [pool.submit(peer, *one, given.episodes) for one in missing]
            for count, future in enumerate(as_completed(futures), 1):
                row = future.result()
                told = f"{row['task']}, seed {row['seed']}: {row['deterministic']:.1f}"
                print(f"{count}/{len(missing)} {PEER}, {told}", file=sys.stderr, flush=True)
        finally:  # at a failure or Ctrl-C begin no more
            pool.shutdown(cancel_futures=True)
    print(table(given.memory, given.seeds, given.episodes))


if __name__ == "__main__":
    main()
