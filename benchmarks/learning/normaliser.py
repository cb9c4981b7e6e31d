"""Whether a policy may move with the statistics that normalise what it sees.

    python benchmarks/learning/normaliser.py  # all, then docs/normaliser.png; an hour of two cores
    python benchmarks/learning/normaliser.py --only still --seeds 5
    python benchmarks/learning/normaliser.py --only CartPole-v1 --seeds 5
    python benchmarks/learning/normaliser.py --only Hopper-v5 --seeds 2  # needs the extra mujoco
    python benchmarks/learning/normaliser.py --table  # of what there is

Each task is trained with the defaults (Hopper without memory), and once more without
`Encoder.keep_outputs`, which makes up for what the statistics do to the policy. In "still",
CartPole-v1's learning ends after 45 rollouts, so that in 40 more nothing but the statistics
changes. Returns are those of the final policy, of 200
episodes of deterministic actions. Each training leaves a line in
benchmarks/results/normaliser.jsonl; what is there is not done again.
"""

from __future__ import annotations

import dataclasses
import tempfile
from contextlib import AbstractContextManager, closing, nullcontext
from operator import itemgetter
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from figures import dots, panels, save
from jobs import ROOT, arguments, commit, measure_all

from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.encoders import Encoder
from recurrent_rl.agents.policy import Policy, load_policy
from recurrent_rl.config import TrainConfig
from recurrent_rl.experiments.comparison import markdown
from recurrent_rl.process import available_cores
from recurrent_rl.runs.evaluation import evaluate
from recurrent_rl.runs.training import train
from recurrent_rl.trainer import Trainer
from recurrent_rl.vector_env.config import EnvConfig

RESULTS = ROOT / "benchmarks" / "results" / "normaliser.jsonl"
Row = dict[str, Any]
EPISODES = 200
K = 1_000
TASKS: dict[str, tuple[int, tuple[int, ...]]] = {
    "CartPole-v1": (300 * K, (1, 3)),
    "Acrobot-v1": (100 * K, (4, 5)),
    "LunarLander-v3": (100 * K, (2, 3, 5)),
    "Pendulum-v1": (100 * K, (2,)),
    "MountainCarContinuous-v0": (300 * K, (1,)),
    "recurrent_rl/PositionOnlyCartPole-Medium-v0": (1_000 * K, ()),
    "Hopper-v5": (3_000 * K, tuple(range(5, 11))),
}
"""Steps, and the entries that are hidden: the velocities."""
MEMORIES = {"Hopper-v5": "none"}
"""By task; else the default. Without memory the body takes a third of the time."""
WAYS = ("moves", "stays")
"""What the policy does when the statistics change; it stays by default."""
STILL = "still"
NAMES = (STILL, *TASKS)


def ways_of(name: str) -> tuple[str, ...]:
    """The ways to train; and before nothing more was learnt."""
    return ("before", *WAYS) if name == STILL else WAYS


def moving(moves: bool) -> AbstractContextManager[Any]:
    """Whether policies move with the statistics, inside."""
    keep_nothing = patch.object(Encoder, "keep_outputs", lambda encoder, rescalings: None)
    return keep_nothing if moves else nullcontext()


def trained(name: str, way: str, seed: int, folder: str) -> tuple[TrainConfig, Policy]:
    """The policy of one training, and its settings."""
    task = "CartPole-v1" if name == STILL else name
    steps, hidden = TASKS[task]
    config = TrainConfig(
        task,
        seed=seed,
        log_dir=folder,
        threads=1,
        total_timesteps=steps,
        memory_interval=None,
        eval_episodes=0,
        agent=AgentConfig(MEMORIES.get(task, AgentConfig().memory)),
        env=EnvConfig(hide_indices=hidden),
    )
    if name != STILL:
        with moving(way == "moves"):
            return config, load_policy(train(config, progress=False).run_dir)
    with closing(Trainer(config)) as trainer:
        with moving(True):
            for _ in range(45):
                trainer.iterate()
        trainer.config = dataclasses.replace(trainer.config, learning_rate=1e-30)
        with moving(way == "moves"):
            for _ in range(0 if way == "before" else 40):
                trainer.iterate()
        return config, Policy(trainer.agent)


def measure(name: str, way: str, seed: int) -> Row:
    """The row of one training."""
    with tempfile.TemporaryDirectory() as folder:
        config, policy = trained(name, way, seed, folder)
    played = evaluate(policy, config.environment, EPISODES, env_config=config.env)
    return {
        **{"task": name, "way": way, "seed": seed, "code": commit()},
        "deterministic": played.mean,
        "deterministic_ci95": played.ci95,
    }


def ends(rows: list[Row], task: str, way: str) -> list[float]:
    """Returns of the final policies, the worst first."""
    return sorted(row["deterministic"] for row in rows if (row["task"], row["way"]) == (task, way))


def table(rows: list[Row]) -> str:
    """Markdown: for each task and way the mean, the worst, the median and the best seed."""
    lines = []
    for name in NAMES:
        for way in ways_of(name):
            if found := ends(rows, name, way):
                of = (np.mean(found), found[0], np.median(found), found[-1])
                lines.append([name, way, str(len(found)), *(f"{x:.4g}" for x in of)])
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
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    given = parser.parse_args()
    wanted = [
        (name, way, seed)
        for name in given.only
        for way in ways_of(name)
        for seed in range(given.seeds)
    ]
    todo = [] if given.table else wanted
    rows = measure_all(RESULTS, measure, todo, itemgetter("task", "way", "seed"), given.jobs)
    print(table(rows))
    draw(rows)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
