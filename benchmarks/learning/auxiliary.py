"""Whether it helps to have the memory foretell the next observation: `--aux-loss next-observation`.

    python benchmarks/learning/auxiliary.py  # all, then docs/auxiliary.png; hours
    python benchmarks/learning/auxiliary.py --tasks Pendulum CartPole --seeds 5  # that begin so
    python benchmarks/learning/auxiliary.py --table  # of what there is

The defaults with and without it, on the tasks of defaults.py and of the suite `untuned` (which
needs the extra box2d). Each training leaves a line in benchmarks/results/auxiliary.jsonl: its mean
return over the training, that of 200 episodes of its final policy with deterministic actions, and
how long the training took beside the others. What is there is not done again.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from operator import itemgetter
from typing import Any

import numpy as np
from defaults import TASKS as OF_DEFAULTS
from figures import dots, legend, panels, save
from jobs import ROOT, arguments, commit, measure_all, over_training

from recurrent_rl.agents.policy import load_policy
from recurrent_rl.experiments.comparison import markdown
from recurrent_rl.experiments.results import learning_curve
from recurrent_rl.experiments.suites import SUITES
from recurrent_rl.process import available_cores
from recurrent_rl.runs.evaluation import evaluate
from recurrent_rl.runs.training import train

RESULTS = ROOT / "benchmarks" / "results" / "auxiliary.jsonl"
Row = dict[str, Any]
EPISODES = 200
FIRST_SEED = 300
TASKS = {task.name: task for task in (*(one for one, _ in OF_DEFAULTS), *SUITES["untuned"].tasks)}
WAYS = {"none": None, "next-observation": "next-observation"}


def measure(name: str, way: str, seed: int) -> Row:
    """The row of one training."""
    with tempfile.TemporaryDirectory() as folder:
        config = dataclasses.replace(
            TASKS[name].config(),
            aux_loss=WAYS[way],
            seed=seed,
            log_dir=folder,
            threads=1,
            memory_interval=None,
            eval_episodes=0,
        )
        began = time.perf_counter()
        run = train(config, progress=False).run_dir
        seconds = time.perf_counter() - began
        curve, policy = learning_curve(run), load_policy(run)
    played = evaluate(policy, config.environment, EPISODES, env_config=config.env)
    return {
        **{"task": name, "way": way, "seed": seed, "code": commit()},
        **{"steps": config.total_timesteps, "seconds": round(seconds)},
        "training": over_training(*curve),
        "deterministic": played.mean,
    }


def of(rows: list[Row], task: str, way: str, what: str) -> list[float]:
    """The figures of all seeds."""
    return [row[what] for row in rows if (row["task"], row["way"]) == (task, way)]


def shown(rows: list[Row], task: str, way: str) -> str:
    """Means over the seeds, during training and of the final policies, the worst and the best."""
    training, final = (of(rows, task, way, what) for what in ("training", "deterministic"))
    if not training:
        return ""
    means = f"{np.mean(training):.3g}; {np.mean(final):.3g}"
    return f"{means} ({min(final):.3g} to {max(final):.3g}; {len(final)})"


def table(rows: list[Row]) -> str:
    """Markdown: a row for each task."""
    lines = [
        [name, f"{TASKS[name].config().total_timesteps / 1e6:g} M"]
        + [shown(rows, name, way) for way in WAYS]
        for name in TASKS
        if of(rows, name, "next-observation", "training")
    ]
    return markdown(["task", "steps", *WAYS], lines)


def draw(rows: list[Row]) -> None:
    """A panel for each task: a mark for each training's mean return."""
    tasks = [name for name in TASKS if of(rows, name, "next-observation", "training")]
    columns = 3
    figure, axes = panels(-(-len(tasks) // columns) or 1, columns, (7.5, 4.0), sharey=True)
    for axis, name in zip(axes.flat, tasks, strict=False):
        dots(axis, [""], {way: [of(rows, name, way, "training")] for way in WAYS})
        axis.set_title(name, fontsize=8)
    for axis in axes.flat[len(tasks) :]:
        axis.axis("off")
    legend(figure, axes.flat[0])
    save(figure, "auxiliary")


def main() -> None:
    parser = arguments(__doc__, seeds=4, jobs=available_cores())
    parser.add_argument("--tasks", nargs="+", default=[""], help="that begin so")
    given = parser.parse_args()
    wanted = [
        (name, way, seed)
        for seed in range(FIRST_SEED, FIRST_SEED + given.seeds)
        for name in TASKS
        if name.startswith(tuple(given.tasks))
        for way in WAYS
    ]
    todo = [] if given.table else wanted
    rows = measure_all(RESULTS, measure, todo, itemgetter("task", "way", "seed"), given.jobs)
    print(table(rows))
    draw(rows)


if __name__ == "__main__":
    main()
