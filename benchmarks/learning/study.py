"""What makes recurrent PPO learn: one change at a time to the defaults, on four tasks.

    python benchmarks/learning/study.py  # all runs, then the table and docs/study.png
    python benchmarks/learning/study.py --only memory lambda  # some changes, by their beginnings
    python benchmarks/learning/study.py --table  # those of the runs there are

The tasks are those of `recurrent-rl benchmark memory`, with fewer steps. Shown is the mean return
over the whole training, so that what learns sooner stands higher. The runs are in runs/study:
resumable, as many side by side as there are cores.
"""

from __future__ import annotations

import dataclasses
from itertools import chain
from typing import Any

import numpy as np
from figures import panels, save
from jobs import ROOT, arguments, do, over_training

from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.experiments.benchmark import plan
from recurrent_rl.experiments.comparison import markdown, task_name
from recurrent_rl.experiments.curves import common_curves
from recurrent_rl.experiments.job import Job
from recurrent_rl.experiments.results import EvaluatedRun, load_evaluated_run
from recurrent_rl.experiments.suites import SUITES

STEPS = (150_000, 150_000, 250_000, 100_000)
TASKS = tuple(
    dataclasses.replace(task, total_timesteps=steps)
    for task, steps in zip(SUITES["memory"].tasks, STEPS, strict=True)
)
SUITE = dataclasses.replace(SUITES["memory"], tasks=TASKS)
OUT = ROOT / "runs" / "study"
DEFAULTS = "defaults"
SEEDS_OF_DEFAULTS = 5
"""How far seeds lie apart is measured once, with the defaults."""


def of_agent(**fields: Any) -> dict[str, Any]:
    return {"agent": fields}


# Changes to the defaults, by what they are about.
GROUPS: dict[str, dict[str, dict[str, Any]]] = {
    "memory": {
        f"memory {name}": of_agent(memory=name)
        for name in ("rnn", "lstm", "gru", "mingru", "lru", "rotor")
    },
    "agent": {
        "no previous action": of_agent(previous_action=False),
        "previous reward": of_agent(previous_reward=True),
        "memory of its own for the critic": of_agent(separate_memory=True),
        "gates start half open": of_agent(horizon=None),
        "64 units": of_agent(hidden_size=64),
        "two layers": of_agent(num_layers=2),
    },
    "sequences": {
        "rollouts of 128 steps": {"num_steps": 128},
        "rollouts of 32 steps": {"num_steps": 32},
        "sequences of 8 steps": {"num_steps": 128, "seq_len": 8},
        "sequences of 8, states refreshed": {
            "num_steps": 128,
            "seq_len": 8,
            "refresh_state": True,
        },
    },
    "returns and exploration": {
        "lambda 0.95": {"gae_lambda": 0.95},
        "lambda 1": {"gae_lambda": 1.0},
        "gamma 0.9": {"gamma": 0.9},
        "gamma 0.999": {"gamma": 0.999},
        "no entropy bonus": {"ent_coef": 0.0},
        "entropy bonus steady": {"ent_schedule": "constant"},
    },
    "scales": {
        "returns as they are": of_agent(normalize_returns=False),
        "observations as they are": of_agent(normalize_observations=False),
        "advantages as they are": {"normalize_advantages": False},
    },
    "optimisation": {
        "2 epochs": {"update_epochs": 2},
        "10 epochs": {"update_epochs": 10},
        "no end by KL": {"target_kl": None},
        "8 minibatches": {"num_minibatches": 8},
        "rate 3e-4": {"learning_rate": 3e-4},
        "rate 3e-3": {"learning_rate": 3e-3},
        "rate steady": {"lr_schedule": "constant"},
    },
}
CHANGES = dict(chain.from_iterable(group.items() for group in GROUPS.values()))


def jobs_of(change: str, seeds: int, episodes: int) -> list[Job]:
    settings = CHANGES.get(change, {})
    memory = settings.get("agent", {}).get("memory", AgentConfig.memory)
    return plan(
        SUITE,
        OUT,
        memories=[memory],
        seeds=max(seeds, SEEDS_OF_DEFAULTS) if change == DEFAULTS else seeds,
        episodes=episodes,
        settings=settings | {"memory_interval": None},
        name=change,
    )


Found = dict[str, dict[str, list[EvaluatedRun]]]
"""Runs by change and task."""


def found_runs(changes: list[str], seeds: int, episodes: int) -> Found:
    found: Found = {}
    for change in changes:
        found[change] = {task.name: [] for task in TASKS}
        for job in jobs_of(change, seeds, episodes):
            if job.done:
                found[change][task_name(job.config)].append(load_evaluated_run(job.run_dir))
    return found


def table(found: Found) -> str:
    """Markdown: mean over seeds; of the defaults with the range of seeds."""
    names = [task.name for task in TASKS]
    rows = []
    for change, of_task in found.items():
        cells = []
        for name in names:
            scores = [over_training(run.steps, run.returns) for run in of_task[name]]
            cell = f"{np.mean(scores):.3g}" if scores else ""
            if len(scores) > 1:
                cell += f" ({min(scores):.3g} to {max(scores):.3g})"
            cells.append(cell)
        rows.append([change, *cells])
    return markdown(["change", *names], rows)


def draw(found: Found) -> None:
    """A row for each group of changes, a column for each task; black: the defaults' seeds."""
    figure, axes = panels(len(GROUPS), len(TASKS), size=(13, 2.4 * len(GROUPS)))
    for row, group in zip(axes, GROUPS.values(), strict=True):
        for axis, task in zip(row, TASKS, strict=True):
            for number, change in enumerate([DEFAULTS, *group], -1):
                runs = found[change][task.name]
                if runs:
                    steps, curves = common_curves(runs)
                    colour = "black" if change == DEFAULTS else f"C{number}"
                    axis.plot(steps / 1e3, curves.mean(axis=0), color=colour, label=change)
                    if len(runs) > 1:
                        low, high = curves.min(axis=0), curves.max(axis=0)
                        axis.fill_between(steps / 1e3, low, high, color=colour, alpha=0.15, lw=0)
        if row[-1].has_data():
            row[-1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
        row[0].set_ylabel("episode return")
    for axis, task in zip(axes[0], TASKS, strict=True):
        axis.set_title(task.name, fontsize=10)
    for axis in axes[-1]:
        axis.set_xlabel("thousand steps")
    save(figure, "study")


def main() -> None:
    parser = arguments(__doc__, seeds=1, episodes=100)
    parser.add_argument("--only", nargs="+", default=[""], metavar="CHANGE")
    given = parser.parse_args()
    much = given.seeds, given.episodes
    if not given.table:
        chosen = [name for name in CHANGES if name.startswith(tuple(given.only))]
        jobs = [job for change in [DEFAULTS, *chosen] for job in jobs_of(change, *much)]
        do(sorted(jobs, key=lambda job: job.config.seed))  # seeds outermost
    found = found_runs([DEFAULTS, *CHANGES], *much)
    print(table(found))
    draw(found)


if __name__ == "__main__":
    main()
