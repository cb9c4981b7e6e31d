"""How many long episodes a rollout should hold: as few as fill 8,192 steps, or 32.

    python benchmarks/learning/episodes.py  # all runs, then the table; hours
    python benchmarks/learning/episodes.py --tasks RepeatFirst-Hard  # tasks that begin so
    python benchmarks/learning/episodes.py --table  # of the rows there are

Each training is made with both, all else alike: whole episodes of 8 to 20 environments in 4
minibatches, as the defaults once were, and of 32 environments in 8 or 16 minibatches, which have
about as many steps each. Shown are the mean return over the training and that of the policy it ends
with. Finished runs leave a line each in benchmarks/results/episodes.jsonl; what is there is not
done again. RedBlueDoors needs the extra `minigrid`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jobs import ROOT, arguments, commit, do, merged, over_training, read_rows, write_rows

from recurrent_rl.experiments.benchmark import plan
from recurrent_rl.experiments.comparison import markdown, task_name
from recurrent_rl.experiments.job import Job
from recurrent_rl.experiments.presets import AT_ONCE
from recurrent_rl.experiments.results import load_evaluated_run
from recurrent_rl.experiments.suites import Suite, Task, ours

RESULTS = ROOT / "benchmarks" / "results" / "episodes.jsonl"
OUT = ROOT / "runs" / "episodes"
FIRST_SEED = 200
KEY = ("task", "way", "seed")
FEW, MANY = "8 to 20", "32"
K = 1_000
TASKS: tuple[tuple[Task, dict[str, Any]], ...] = (
    (ours("RedBlueDoors-6x6", 500 * K), {"num_steps": 720}),
    (ours("RepeatFirst-Medium", 600 * K), {"num_steps": 416}),
    (ours("RepeatFirst-Hard", 600 * K), {"num_steps": 832}),
    (
        ours("Recall", 1_000 * K, distance=1024),
        {"num_steps": 1026, "memory": "gru"} | AT_ONCE,
    ),
    (ours("PositionOnlyCartPole-Medium", 1_000 * K), {"num_steps": 400}),
    (ours("PositionOnlyCartPole-Hard", 1_000 * K), {"num_steps": 600}),
    (ours("NoisyPositionOnlyCartPole-Medium", 400 * K), {"num_steps": 400}),
    (ours("Ladder", 500 * K, horizon=256, bits=4), {"num_steps": 257}),
)
"""Tasks, and the settings that are not the defaults."""

Row = dict[str, Any]


def sizes(steps: int, total: int, way: str) -> dict[str, int]:
    """Environments and minibatches for rollouts of so many steps each, in a run of `total`."""
    batch = min(8192, total // 100)
    if way == FEW:
        return {"num_envs": 4 * max(2, batch // (4 * steps)), "num_minibatches": 4}
    parts = 4 * 2 ** round(np.log2(32 * steps / batch))
    return {"num_envs": 32, "num_minibatches": parts}


def jobs_of(seeds: int, episodes: int, names: list[str]) -> list[Job]:
    """The runs, seeds outermost."""
    jobs = []
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        for task, given in TASKS:
            if not task.name.startswith(tuple(names)):
                continue
            settings = {name: value for name, value in given.items() if name != "memory"}
            for way in (FEW, MANY):
                size = sizes(settings["num_steps"], task.total_timesteps, way)
                jobs += plan(
                    Suite("episodes", (task,)),
                    OUT,
                    memories=[given.get("memory", "gru-rotor")],
                    seeds=1,
                    episodes=episodes,
                    settings=settings | size | {"seed": seed, "memory_interval": None},
                    name=f"{size['num_envs']}-{seed}",
                )
    return jobs


def key_of(job: Job) -> tuple[Any, ...]:
    config = job.config
    return task_name(config), MANY if config.num_envs == int(MANY) else FEW, config.seed


def row_of(job: Job) -> Row:
    """What is kept of a finished run."""
    run = load_evaluated_run(job.run_dir)
    return dict(zip(KEY, key_of(job), strict=True)) | {
        "envs": run.config.num_envs,
        "code": commit(),
        "over_training": round(over_training(run.steps, run.returns), 4),
        "last": round(run.evaluation.deterministic.mean_return, 4),
    }


def table(rows: list[Row]) -> str:
    """Markdown: by task the means over seeds."""
    lines = []
    for task, _ in TASKS:
        cells = []
        for way in (FEW, MANY):
            own = [row for row in rows if (row["task"], row["way"]) == (task.name, way)]
            over, last = (
                np.mean([row[name] for row in own] or [np.nan])
                for name in ("over_training", "last")
            )
            cells.append(f"{over:.3f}; {last:.3f} ({len(own)})" if own else "")
        lines.append([task.name, *cells])
    return markdown(["task", *(f"{way} episodes" for way in (FEW, MANY))], lines)


def main() -> None:
    parser = arguments(__doc__, seeds=4, episodes=200)
    parser.add_argument("--tasks", nargs="+", default=[""], help="that begin so")
    given = parser.parse_args()
    jobs = jobs_of(given.seeds, given.episodes, given.tasks)
    if not given.table:
        done = {tuple(row[name] for name in KEY) for row in read_rows(RESULTS)}
        todo = [job for job in jobs if key_of(job) not in done]
        try:
            do(todo)
        finally:
            made = (row_of(job) for job in todo if job.done)
            write_rows(RESULTS, merged(RESULTS, made, *KEY))
    print(table(read_rows(RESULTS)))


if __name__ == "__main__":
    main()
