"""What a critic gains that sees the true state: steps of PPO to a return, with and without.

    python benchmarks/learning/asymmetric.py  # about ten minutes of one core, then the table
    python benchmarks/learning/asymmetric.py --table  # of what there is

The task is POPGym's NoisyPositionOnlyCartPole-Hard, whose actor sees two positions with noise. The
critic sees the same, or positions and velocities without noise too. Each training leaves a line in
benchmarks/results/asymmetric.jsonl; what is there is not done again.
"""

from __future__ import annotations

from operator import itemgetter
from typing import Any

import numpy as np
from jobs import POINTS, ROOT, arguments, commit, curve_of, measure_all

from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.config import TrainConfig
from recurrent_rl.experiments.comparison import markdown
from recurrent_rl.process import available_cores
from recurrent_rl.vector_env.config import EnvConfig

RESULTS = ROOT / "benchmarks" / "results" / "asymmetric.jsonl"
ENV_ID = "recurrent_rl/NoisyPositionOnlyCartPole-Hard-v0"
STEPS = 200_000
GOALS = (0.25, 0.3)
"""About 60 % and 75 % of what published agents reach (0.404)."""
SIZES: dict[str, Any] = {"memory": "gru", "hidden_size": 64, "encoder_size": 64}
STATE: dict[str, Any] = {"critic_keys": ("state",)}
WAYS: dict[str, dict[str, Any]] = {
    "what the actor sees": {},
    "the true state too": STATE,
    "what the actor sees, own memory": {"separate_memory": True},
    "the true state too, own memory": STATE | {"separate_memory": True},
}
"""What the critic sees, and whether it has a memory of its own: settings of the agent."""


def measure(way: str, seed: int) -> dict[str, Any]:
    """The row of one training."""
    settings = WAYS[way]
    config = TrainConfig(
        ENV_ID,
        total_timesteps=STEPS,
        seed=seed,
        agent=AgentConfig(**SIZES, **settings),
        env=EnvConfig({"true_state": True} if "critic_keys" in settings else {}),
    )
    at, returns = curve_of(config)
    reached = [at[returns >= goal] for goal in GOALS]
    kept = np.unique(np.linspace(0, len(at) - 1, min(POINTS, len(at))).astype(int))
    return {
        "way": way,
        "seed": seed,
        "reached": [int(steps[0]) if len(steps) else None for steps in reached],
        "last": round(float(returns[-1]), 4),
        "steps": at[kept].tolist(),
        "returns": [round(float(mean), 4) for mean in returns[kept]],
        "code": commit(),
    }


def table(every: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = []
    for way in WAYS:
        rows = [row for row in every if row["way"] == way]
        cells = [
            ", ".join(f"{steps:,}" if steps else "never" for steps in column)
            for column in zip(*(row["reached"] for row in rows), strict=True)
        ] or [""] * len(GOALS)
        lines.append((way, *cells, ", ".join(f"{row['last']:.2f}" for row in rows)))
    goals = (f"steps to {goal}" for goal in GOALS)
    head = ("the critic sees", *goals, f"return after {STEPS:,} steps")
    return markdown(head, lines)


def main() -> None:
    given = arguments(__doc__, seeds=3, jobs=available_cores()).parse_args()
    wanted = [(way, seed) for seed in range(given.seeds) for way in WAYS]
    todo = [] if given.table else wanted
    print(table(measure_all(RESULTS, measure, todo, itemgetter("way", "seed"), given.jobs)))


if __name__ == "__main__":
    main()
