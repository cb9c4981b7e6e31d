"""A policy of each agent of the results table, trained for a short time: to export, not to play.

    python benchmarks/learning/rows.py  # minutes on one core
    python benchmarks/exports/policies.py runs/rows

Rows of a task whose agents are alike (memory, units and other settings that begin with `agent.`)
are one run here, with the settings of the first of them. Agents of which an export is listed in
benchmarks/results/exported_policies.jsonl are left out, unless `--all`. Runs stay in runs/rows, and
what is done there is not done again.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from jobs import ROOT, do, read_rows
from published import RESULTS as PUBLISHED

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


def jobs_of(steps: int, every: bool) -> list[Job]:
    """The runs, in the order of the table."""
    tasks = {task.name: task for name in ("popgym", "control") for task in SUITES[name].tasks}
    units = AgentConfig().hidden_size
    lines = [] if every else read_rows(EXPORTED)
    done = {(line["task"], json.dumps([line["memory"], line["hidden_size"]])) for line in lines}
    jobs: dict[str, Job] = {}
    for row in read_rows(PUBLISHED):
        settings, task = settings_of(row), tasks[row["task"]]
        agent = {"hidden_size": units} | settings["agent"]
        known = json.dumps([agent.pop("memory"), agent.pop("hidden_size"), *agent.items()])
        if (task.env_id, known) in done:
            continue
        label = "-".join(map(str, settings["agent"].values()))
        settings |= {"log_dir": str(RUNS), "threads": 1, "name": label}
        config = change(task.config(steps), settings | {"seed": 0, "eval_episodes": 0})
        folder = f"{task.name}__{label}__0"
        jobs.setdefault(folder, Job(RUNS / folder, config))
    return [*jobs.values()]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--total-timesteps", type=int, default=10_000)
    parser.add_argument("--all", action="store_true", help="also of agents that were exported")
    given = parser.parse_args()
    do(jobs_of(given.total_timesteps, given.all))


if __name__ == "__main__":
    main()
