"""Two findings that one setting each decides: how long a rollout is, and the entropy bonus.

    python benchmarks/learning/findings.py  # both, then docs/rollouts.png and docs/entropy.png
    python benchmarks/learning/findings.py --only rollouts --seeds 3
    python benchmarks/learning/findings.py --table  # those of what there is

The table has the mean return over the last tenth of each training, over the seeds that there are.
Each training leaves a line in benchmarks/results/findings.jsonl; what is there is not done again.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from figures import legend, panels, save
from jobs import ROOT, arguments, commit, curve_of, measure_all

from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.config import TrainConfig
from recurrent_rl.experiments.comparison import markdown
from recurrent_rl.process import available_cores
from recurrent_rl.vector_env.config import EnvConfig

RESULTS = ROOT / "benchmarks" / "results" / "findings.jsonl"
Row = dict[str, Any]


@dataclass(frozen=True)
class Finding:
    """One task, trained with each of some settings."""

    task: str
    env_id: str
    env_kwargs: dict[str, Any]
    memory: str
    steps: int
    ways: dict[str, dict[str, Any]]
    """Settings by what they are called."""


FINDINGS = {
    "rollouts": Finding(
        "Ladder: four bits, held for 64 steps",
        "recurrent_rl/Ladder-v0",
        {"horizon": 64, "bits": 4},
        "gru",
        300_000,
        {"rollouts of whole episodes (default)": {}, "rollouts of 32 steps": {"num_steps": 32}},
    ),
    "entropy": Finding(
        "Autoencode-Easy: 52 cards in reverse",
        "recurrent_rl/Autoencode-Easy-v0",
        {},
        "gru-matrix",
        250_000,
        {"entropy bonus of 0.01, falling (default)": {}, "no entropy bonus": {"ent_coef": 0.0}},
    ),
}


def measure(name: str, way: str, seed: int) -> Row:
    """The row of one training."""
    finding = FINDINGS[name]
    config = TrainConfig(
        finding.env_id,
        total_timesteps=finding.steps,
        seed=seed,
        env=EnvConfig(env_kwargs=finding.env_kwargs),
        agent=AgentConfig(memory=finding.memory),
        **finding.ways[way],
    )
    at, returns = curve_of(config)
    return {
        **{"finding": name, "way": way, "seed": seed, "code": commit()},
        "steps": at.tolist(),
        "returns": [round(float(mean), 3) for mean in returns],
    }


def last(row: Row) -> float:
    """The mean return over the last tenth of a training."""
    return float(np.mean(row["returns"][-(-9 * len(row["returns"]) // 10) :]))


def table(rows: list[Row]) -> str:
    """Markdown: a row for each setting, with the range of its seeds."""
    lines = []
    for name, finding in FINDINGS.items():
        for way in finding.ways:
            ends = [last(row) for row in of_way(rows, name, way)]
            cell = f"{np.mean(ends):.2f} ({min(ends):.2f} to {max(ends):.2f})" if ends else ""
            lines.append([finding.task, finding.memory, way, cell, str(len(ends))])
    return markdown(["task", "memory", "setting", "return at the end", "seeds"], lines)


def of_way(rows: list[Row], name: str, way: str) -> list[Row]:
    return [row for row in rows if (row["finding"], row["way"]) == (name, way)]


def draw(rows: list[Row]) -> None:
    """For each finding a figure: a line for each training."""
    for name, finding in FINDINGS.items():
        figure, ((axis,),) = panels(size=(7.5, 2.6))
        for number, way in enumerate(finding.ways):
            for row in of_way(rows, name, way):
                label = way if row["seed"] == 0 else None
                steps = np.array(row["steps"]) / 1e3
                axis.plot(steps, row["returns"], color=f"C{number}", lw=1.3, label=label)
        axis.set_title(f"{finding.task} ({finding.memory})", fontsize=9)
        axis.set_xlabel("thousand steps", fontsize=8)
        axis.set_ylabel("mean return", fontsize=8)
        legend(figure, axis)
        save(figure, name)


def main() -> None:
    parser = arguments(__doc__, seeds=2, jobs=available_cores())
    parser.add_argument("--only", nargs="+", choices=FINDINGS, default=list(FINDINGS))
    given = parser.parse_args()
    wanted = [
        (name, way, seed)
        for seed, name in product(range(given.seeds), given.only)
        for way in FINDINGS[name].ways
    ]
    todo = [] if given.table else wanted
    rows = measure_all(RESULTS, measure, todo, itemgetter("finding", "way", "seed"), given.jobs)
    print(table(rows))
    draw(rows)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
