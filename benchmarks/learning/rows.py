"""A policy of each agent of the results table, trained for a short time: to export, not to play.

    python benchmarks/learning/rows.py  # minutes on one core
    python benchmarks/exports/policies.py runs/rows

To an export, rows are alike whose tasks have the same spaces and whose agents the same memory,
units and other settings that begin with `agent.`: these are one run here, with the settings of the
first of them. Those of which an export is listed in benchmarks/results/exported_policies.jsonl are
left out. Runs stay in runs/rows, and what is done there is not done again.
"""

from __future__ import annotations

import argparse
import json
from functools import cache
from typing import Any

import gymnasium as gym
from jobs import ROOT, do, read_rows
from published import RESULTS as PUBLISHED

import recurrent_rl.envs  # noqa: F401
from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.experiments.job import Job
from recurrent_rl.experiments.suites import SUITES, change

EXPORTED = ROOT / "benchmarks" / "results" / "exported_policies.jsonl"
RUNS = ROOT / "runs" / "rows"
OTHER = ("device", "total_timesteps")
"""Settings of a row that these short runs do not take."""


def settings_of(row: dict[str, Any]) -> dict[str, Any]:
    """A row's settings, nested as `change` takes them."""
    found: dict[str, Any] = {"agent": {"memory": row["memory"]}}
    for text in filter(None, row["settings"].split(", ")):
        name, value = text.split(" ")
        if name not in OTHER:
            inside = found["agent"] if name.startswith("agent.") else found
            inside[name.removeprefix("agent.")] = json.loads(value)
    return found


@cache
def spaces_of(env_id: str) -> str:
    """Of a task, as text."""
    env = gym.make(env_id)
    return f"{env.observation_space} {env.action_space}"


def agent_of(row: dict[str, Any]) -> dict[str, Any]:
    """What an agent's step depends on beside its spaces."""
    agent: dict[str, Any] = settings_of(row)["agent"]
    return {"hidden_size": AgentConfig().hidden_size} | agent


def jobs_of(steps: int) -> list[Job]:
    """The runs, in the order of the table."""
    tasks = {task.name: task for name in ("popgym", "control") for task in SUITES[name].tasks}
    lines = read_rows(EXPORTED)
    runs = {line["run"] for line in lines}
    done = [
        (spaces_of(line["task"]), {name: line[name] for name in ("memory", "hidden_size")})
        for line in lines
    ]
    jobs = []
    for row in read_rows(PUBLISHED):
        task, agent = tasks[row["task"]], agent_of(row)
        kind = (spaces_of(task.env_id), agent)
        if kind in done:
            continue
        done.append(kind)
        settings = settings_of(row)
        label = "-".join(map(str, settings["agent"].values()))
        settings |= {"log_dir": str(RUNS), "threads": 1, "name": label, "eval_episodes": 0}
        folder = RUNS / f"{task.name}__{label}__0"
        if folder.name not in runs:
            jobs.append(Job(folder, change(task.config(steps), settings)))
    return jobs


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--total-timesteps", type=int, default=10_000)
    do(jobs_of(parser.parse_args().total_timesteps))


if __name__ == "__main__":
    main()
