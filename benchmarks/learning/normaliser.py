"""Whether a policy may move with the statistics that normalise what it sees.

    python benchmarks/learning/normaliser.py  # all, then docs/normaliser.png; an hour of two cores
    python benchmarks/learning/normaliser.py --only CartPole-v1 --seeds 5
    python benchmarks/learning/normaliser.py --table  # of what there is

Each task is trained with the defaults, and once more without `Encoder.keep_outputs`, which makes up
for what the statistics do to the policy. Returns are those of the final policy, of 200 episodes of
deterministic actions. Each training leaves a line in benchmarks/results/normaliser.jsonl; what is
there is not done again.
"""

from __future__ import annotations

import tempfile
from contextlib import nullcontext
from itertools import product
from operator import itemgetter
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from figures import dots, panels, save
from jobs import ROOT, arguments, commit, measure_all

from recurrent_rl.agents.encoders import Encoder
from recurrent_rl.config import TrainConfig
from recurrent_rl.experiments.comparison import markdown
from recurrent_rl.experiments.results import load_run
from recurrent_rl.process import available_cores
from recurrent_rl.runs.training import train
from recurrent_rl.vector_env.config import EnvConfig

RESULTS = ROOT / "benchmarks" / "results" / "normaliser.jsonl"
Row = dict[str, Any]
K = 1_000
TASKS: dict[str, tuple[int, tuple[int, ...]]] = {
    "CartPole-v1": (300 * K, (1, 3)),
    "Acrobot-v1": (100 * K, (4, 5)),
    "LunarLander-v3": (100 * K, (2, 3, 5)),
    "Pendulum-v1": (100 * K, (2,)),
    "MountainCarContinuous-v0": (300 * K, (1,)),
    "recurrent_rl/PositionOnlyCartPole-Medium-v0": (1_000 * K, ()),
}
"""Steps, and the entries that are hidden: the velocities."""
WAYS = ("moves", "stays")
"""What the policy does when the statistics change; it stays by default."""


def measure(task: str, way: str, seed: int) -> Row:
    """The row of one training."""
    steps, hidden = TASKS[task]
    moves = patch.object(Encoder, "keep_outputs", lambda encoder, rescalings: None)
    with tempfile.TemporaryDirectory() as folder, moves if way == "moves" else nullcontext():
        config = TrainConfig(
            task,
            seed=seed,
            log_dir=folder,
            threads=1,
            total_timesteps=steps,
            memory_interval=None,
            eval_episodes=200,
            env=EnvConfig(hide_indices=hidden),
        )
        evaluation = load_run(train(config, progress=False).run_dir).evaluation.deterministic
    return {
        **{"task": task, "way": way, "seed": seed, "code": commit()},
        "deterministic": evaluation.mean_return,
        "deterministic_ci95": evaluation.ci95,
    }


def ends(rows: list[Row], task: str, way: str) -> list[float]:
    """Returns of the final policies, the worst first."""
    return sorted(row["deterministic"] for row in rows if (row["task"], row["way"]) == (task, way))


def table(rows: list[Row]) -> str:
    """Markdown: for each task and way the mean, the worst, the median and the best seed."""
    lines = []
    for task, way in product(TASKS, WAYS):
        if found := ends(rows, task, way):
            of = (np.mean(found), found[0], np.median(found), found[-1])
            lines.append([task, way, str(len(found)), *(f"{x:.4g}" for x in of)])
    return markdown(["task", "policy", "seeds", "mean", "worst", "median", "best"], lines)


def draw(rows: list[Row]) -> None:
    """A panel for each task: a mark for each final policy."""
    tasks = [task for task in TASKS if ends(rows, task, "stays")]
    columns = 3
    figure, axes = panels(-(-len(tasks) // columns) or 1, columns, (7.5, 3.0), sharey=True)
    for axis, task in zip(axes.flat, tasks, strict=False):
        dots(axis, list(WAYS), {"": [ends(rows, task, way) for way in WAYS]})
        axis.set_title(task.removeprefix("recurrent_rl/").rsplit("-v", 1)[0], fontsize=9)
    for axis in axes.flat[len(tasks) :]:
        axis.axis("off")
    save(figure, "normaliser")


def main() -> None:
    parser = arguments(__doc__, seeds=10, jobs=available_cores())
    parser.add_argument("--only", nargs="+", choices=TASKS, default=list(TASKS))
    given = parser.parse_args()
    wanted = [] if given.table else product(given.only, WAYS, range(given.seeds))
    rows = measure_all(RESULTS, measure, wanted, itemgetter("task", "way", "seed"), given.jobs)
    print(table(rows))
    draw(rows)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
