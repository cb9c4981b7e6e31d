"""Does a memory hold beyond the length of its training? Trained on 200 steps, played at far more.

    python benchmarks/learning/beyond.py  # trains, plays, and prints the table
    python benchmarks/learning/beyond.py --tasks TMaze --memories gru-matrix gru
    python benchmarks/learning/beyond.py --horizons 64 16384  # gates that start at other scales
    python benchmarks/learning/beyond.py --table  # the table of what there is

A policy is trained on T-Maze and Recall with a delay of at most 200 steps, and on
RepeatPrevious-Medium (k = 32, 103 steps); then the same policy plays the same task with longer
episodes. The figure is the return of deterministic actions: 1 is every episode right, as is 0.98
and more in T-Maze; the last column says what guessing has. Each policy leaves a line in
benchmarks/results/beyond.jsonl; what is there is not done again.
"""

from __future__ import annotations

import argparse
from contextlib import closing
from itertools import product
from typing import Any, NamedTuple

from jobs import ROOT, commit, do, read_rows, write_rows

from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.policy import load_policy
from recurrent_rl.experiments.benchmark import plan
from recurrent_rl.experiments.comparison import markdown
from recurrent_rl.experiments.job import Job
from recurrent_rl.experiments.suites import Suite, Task
from recurrent_rl.process import computing
from recurrent_rl.runs.evaluation import evaluate
from recurrent_rl.vector_env.config import EnvConfig
from recurrent_rl.vector_env.vectorize import make_vector_env

RESULTS = ROOT / "benchmarks" / "results" / "beyond.jsonl"
OUT = ROOT / "runs" / "beyond"
SEED = 0
OF_EVALUATION = 1_000_003
HORIZON = AgentConfig().horizon or 0
"""The default."""


class Stretch(NamedTuple):
    """A task, and its arguments by the steps of an episode."""

    task: Task
    lengths: dict[int, dict[str, Any]]
    guessing: float


def stretch(
    name: str, env: str, steps: int, lengths: dict[int, dict[str, Any]], guessing: float
) -> Stretch:
    """Trained at the first of the lengths."""
    arguments = next(iter(lengths.values()))
    task = Task(name, f"recurrent_rl/{env}-v0", steps, EnvConfig(env_kwargs=arguments))
    return Stretch(task, lengths, guessing)


STRETCHES = (
    stretch(
        "TMaze", "TMaze", 1_000_000, {n: {"length": n} for n in (200, 1_000, 10_000, 100_000)}, 0.0
    ),
    stretch(
        "Recall",
        "Recall",
        1_000_000,
        {n: {"distance": n} for n in (200, 1_000, 10_000, 100_000)},
        -0.5,
    ),
    stretch(
        "RepeatPrevious",
        "RepeatPrevious-Medium",
        1_000_000,
        {52 * decks - 1: {"num_decks": decks} for decks in (2, 20, 200, 2_000)},
        -0.5,
    ),
)
EPISODES = {200: 1_000, 2_000: 200, 20_000: 64, 200_000: 16}
"""How many are played, by the most steps of an episode."""


def job_of(found: Stretch, memory: str, horizon: int) -> Job:
    (job,) = plan(
        Suite("beyond", (found.task,)),
        OUT,
        memories=[memory],
        seeds=1,
        episodes=1_000,
        settings={"agent": {"horizon": horizon}},
        name=None if horizon == HORIZON else f"horizon-{horizon}",
    )
    return job


def key_of(row: dict[str, Any]) -> tuple[str, str, int]:
    """Its task, memory and horizon."""
    return row["task"], row["memory"], row.get("horizon", HORIZON)


def played(found: Stretch, job: Job) -> dict[str, Any]:
    """The row of a trained policy."""
    policy = load_policy(job.run_dir / "policy.safetensors")
    returns = {}
    for length, arguments in found.lengths.items():
        episodes = next(count for most, count in EPISODES.items() if length <= most)
        env = make_vector_env(found.task.env_id, min(episodes, 64), EnvConfig(env_kwargs=arguments))
        with closing(env), computing(None):
            mean = evaluate(policy, env, episodes, seed=OF_EVALUATION).mean
        returns[str(length)] = round(mean, 4)
        print(found.task.name, job.config.agent.memory, length, returns[str(length)], flush=True)
    return {
        "task": found.task.name,
        "memory": job.config.agent.memory,
        "horizon": job.config.agent.horizon,
        "code": commit(),
        "steps": found.task.total_timesteps,
        "returns": returns,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a row for each policy, its return by the steps of an episode."""
    lines = []
    for found in STRETCHES:
        for row in rows:
            if row["task"] == found.task.name:
                means = {length: row["returns"].get(str(length)) for length in found.lengths}
                shown = ["" if mean is None else f"{n:,}: {mean:.3f}" for n, mean in means.items()]
                horizon = f"{key_of(row)[-1]:,}"
                lines.append([row["task"], row["memory"], horizon, *shown, f"{found.guessing:g}"])
    header = ("task", "memory", "horizon", "trained at", *["played at"] * 3, "guessing")
    return markdown(header, lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    names = [found.task.name for found in STRETCHES]
    parser.add_argument("--tasks", nargs="+", choices=names, default=names)
    parser.add_argument("--memories", nargs="+", default=["gru-matrix", "gru-rotor", "gru"])
    parser.add_argument("--horizons", nargs="+", type=int, default=[HORIZON])
    parser.add_argument("--table", action="store_true", help="of what there is")
    given = parser.parse_args()
    rows = {key_of(row): row for row in read_rows(RESULTS)}
    if not given.table:
        wanted = {
            key: (found, job_of(found, memory, horizon))
            for found in STRETCHES
            for memory, horizon in product(given.memories, given.horizons)
            if found.task.name in given.tasks
            and (key := (found.task.name, memory, horizon)) not in rows
        }
        do([job for _, job in wanted.values()])
        for key, (found, job) in wanted.items():
            if job.done:
                rows[key] = played(found, job)
                write_rows(RESULTS, rows.values())
    print(table(list(rows.values())))


if __name__ == "__main__":
    main()
