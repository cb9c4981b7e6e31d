"""What makes recurrent PPO learn: one change at a time to the defaults, on six tasks.

    python benchmarks/study.py                     # all runs, then the table
    python benchmarks/study.py --only memory lru   # some variants: names or their beginnings
    python benchmarks/study.py --table             # the table of the runs there are

The runs are those of `recurrent-rl benchmark`: resumable, as many side by side as there are cores.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from jobs import do

from recurrent_rl.agents.actor_critic import AgentConfig
from recurrent_rl.agents.registry import MEMORIES
from recurrent_rl.benchmark import Job, plan
from recurrent_rl.comparison import with_interval
from recurrent_rl.config import EnvConfig
from recurrent_rl.evaluation import Figures, SavedEvaluation
from recurrent_rl.suites import Suite, Task

STEPS = 1_000_000
BASE = "base"


def task(name: str, steps: int = STEPS, kwargs: str = "{}") -> Task:
    return Task(name, f"recurrent_rl/{name}-v0", steps, EnvConfig(env_kwargs=kwargs))


SUITE = Suite(
    "what stands for each kind of demand",
    (
        task("RepeatPrevious-Medium"),  # an exact delay of 32 steps
        task("Autoencode-Easy"),  # much, in an order
        task("CountRecall-Easy"),  # counting
        task("MultiarmedBandit-Easy"),  # exploration, and its result
        task("NoisyPositionOnlyCartPole-Medium"),  # filtering noise
        task("Recall", kwargs='{"distance": 64}'),  # one thing, for long
    ),
)

# Changes to the defaults; lists in the order of the table.
VARIANTS: dict[str, dict[str, Any]] = {
    BASE: {},
    **{
        f"memory-{name}": {"agent": {"memory": name}}
        for name in MEMORIES
        if name != AgentConfig.memory
    },
    "units-64": {"agent": {"hidden_size": 64}},
    "units-256": {"agent": {"hidden_size": 256}},
    "layers-2": {"agent": {"num_layers": 2}},
    "previous-nothing": {"agent": {"previous_action": False}},
    "previous-action-reward": {"agent": {"previous_reward": True}},
    "separate-memory": {"agent": {"separate_memory": True}},
    "chrono-none": {"agent": {"horizon": 0}},
    "chrono-128": {"agent": {"horizon": 128}},
    "chrono-8192": {"agent": {"horizon": 8192}},
    "sequences-16": {"seq_len": 16},
    "sequences-32": {"seq_len": 32},
    "sequences-32-refreshed": {"seq_len": 32, "refresh_state": True},
    "sequences-256": {"num_steps": 256, "num_envs": 32},
    "sequences-512": {"num_steps": 512, "num_envs": 16},
    "copies-16": {"num_envs": 16},
    "copies-256": {"num_envs": 256},
    "epochs-2": {"update_epochs": 2},
    "epochs-8": {"update_epochs": 8},
    "minibatches-2": {"num_minibatches": 2},
    "minibatches-8": {"num_minibatches": 8},
    "rate-3e-4": {"learning_rate": 3e-4},
    "rate-3e-3": {"learning_rate": 3e-3},
    "rate-constant": {"lr_schedule": "constant"},
    "gamma-0.9": {"gamma": 0.9},
    "gamma-0.999": {"gamma": 0.999},
    "lambda-0.8": {"gae_lambda": 0.8},
    "lambda-1": {"gae_lambda": 1.0},
    "entropy-0": {"ent_coef": 0.0},
    "entropy-0.01": {"ent_coef": 0.01},
    "clip-0.1": {"clip_coef": 0.1},
    "gradient-norm-2": {"max_grad_norm": 2.0},
    "returns-as-they-are": {"agent": {"normalize_returns": False}},
    "observations-as-they-are": {"agent": {"normalize_observations": False}},
    "advantages-as-they-are": {"normalize_advantages": False},
}


def jobs_of(names: list[str], out: Path, seeds: int, steps: int) -> list[Job]:
    jobs = []
    for name in names:
        settings = dict(VARIANTS[name])
        agent = dict(settings.pop("agent", {}))
        memory = agent.pop("memory", AgentConfig.memory)
        jobs += plan(
            SUITE,
            out,
            memories=[memory],
            seeds=seeds,
            episodes=500,
            settings=settings | {"agent": agent, "memory_interval": 0},
            name=name,
            total_timesteps=steps,
        )
    return sorted(jobs, key=lambda job: job.config.seed)  # seeds outermost


def table(names: list[str], out: Path, seeds: int, steps: int) -> str:
    """Markdown: each variant's return, ± half of its 95 % interval over seeds; of one, episodes."""
    titles = [one.name for one in SUITE.tasks]
    lines = ["| change | " + " | ".join(titles) + " |", "|---|" + "---|" * len(titles)]
    for name in names:
        found: dict[str, list[Figures]] = {title: [] for title in titles}
        for job in jobs_of([name], out, seeds, steps):
            if evaluation := SavedEvaluation.load(job.run_dir):
                found[job.run_dir.name.partition("__")[0]].append(evaluation.greedy)
        cells = [
            with_interval([one.mean_return for one in of_task], of_task[0].ci95) if of_task else ""
            for of_task in found.values()
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", nargs="+", default=[""], metavar="VARIANT")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--out", type=Path, default=Path("runs/study"))
    parser.add_argument("--table", action="store_true")
    asked = parser.parse_args()
    names = [name for name in VARIANTS if name == BASE or name.startswith(tuple(asked.only))]
    if not asked.table:
        do(jobs_of(names, asked.out, asked.seeds, asked.steps))
    print(table(names, asked.out, asked.seeds, asked.steps))


if __name__ == "__main__":
    main()
