"""What a critic gains that sees the true state: steps of PPO to a return, with and without.

    python benchmarks/learning/asymmetric.py  # about forty minutes of one core, then the table
    python benchmarks/learning/asymmetric.py --table  # of what there is

The task is POPGym's NoisyPositionOnlyCartPole, whose actor sees two positions with noise. The
critic sees the same, or positions and velocities without noise too. Each training leaves a line in
benchmarks/results/asymmetric.jsonl; what is there is not done again.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jobs import POINTS, ROOT, arguments, commit, curve_of, measure_all, read_rows

from recurrent_rl.agents.actor_critic import AgentConfig
from recurrent_rl.config import EnvConfig, TrainConfig
from recurrent_rl.experiments.comparison import markdown

RESULTS = ROOT / "benchmarks" / "results" / "asymmetric.jsonl"
STEPS = 500_000
GOALS = {"Medium": 0.5, "Hard": 0.3}
"""By difficulty, about three quarters of what published agents reach (0.659 and 0.404)."""
WAYS: dict[str, dict[str, Any]] = {
    "what the actor sees": {},
    "the true state too": {"critic_keys": ("state",)},
    "what the actor sees, own memory": {"separate_memory": True},
    "the true state too, own memory": {"critic_keys": ("state",), "separate_memory": True},
}
"""What the critic sees: settings of the agent."""


def measure(level: str, way: str, seed: int) -> dict[str, Any]:
    """The row of one training."""
    settings = WAYS[way]
    config = TrainConfig(
        f"recurrent_rl/NoisyPositionOnlyCartPole-{level}-v0",
        total_timesteps=STEPS,
        seed=seed,
        agent=AgentConfig(**settings),
        env=EnvConfig({"true_state": True} if "critic_keys" in settings else {}),
    )
    at, returns = curve_of(config)
    above = at[returns >= GOALS[level]]
    kept = np.unique(np.linspace(0, len(at) - 1, min(POINTS, len(at))).astype(int))
    return {
        "level": level,
        "way": way,
        "seed": seed,
        "reached": int(above[0]) if len(above) else None,
        "last": round(float(returns[-1]), 4),
        "steps": at[kept].tolist(),
        "returns": [round(float(mean), 4) for mean in returns[kept]],
        "code": commit(),
    }


def table() -> str:
    """The rows as Markdown."""
    lines = []
    for level, goal in GOALS.items():
        for way in WAYS:
            rows = [x for x in read_rows(RESULTS) if (x["level"], x["way"]) == (level, way)]
            reached = [f"{row['reached']:,}" if row["reached"] else "never" for row in rows]
            last = [f"{row['last']:.2f}" for row in rows]
            lines.append((level, way, f"{goal:g}", ", ".join(reached), ", ".join(last)))
    head = ("task", "the critic sees", "goal", "steps to it", f"return after {STEPS:,} steps")
    return markdown(head, lines)


def main() -> None:
    given = arguments(__doc__, seeds=3).parse_args()
    done = {(row["level"], row["way"], row["seed"]) for row in read_rows(RESULTS)}
    if not given.table:
        todo = [
            (level, way, seed)
            for seed in range(given.seeds)
            for level in GOALS
            for way in WAYS
            if (level, way, seed) not in done
        ]
        measure_all(RESULTS, measure, todo, 1)
    print(table())


if __name__ == "__main__":
    main()
