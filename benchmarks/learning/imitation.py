"""What recorded episodes save: steps of PPO to a return of 0.9, with and without imitating first.

    python benchmarks/learning/imitation.py  # about ten minutes on two cores, then the table
    python benchmarks/learning/imitation.py --table  # of what there is

The task is RepeatPrevious-Medium. The recorded episodes are those of a script that knows the
answers. Each training leaves a line in benchmarks/results/imitation.jsonl; what is there is not
done again.
"""

from __future__ import annotations

import tempfile
from operator import itemgetter
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from jobs import ROOT, arguments, commit, curve_of, measure_all

from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.config import TrainConfig
from recurrent_rl.experiments.comparison import markdown
from recurrent_rl.process import available_cores
from recurrent_rl.runs.imitation import imitate
from recurrent_rl.runs.recorded import RecordedEpisode
from recurrent_rl.trainer import Trainer

RESULTS = ROOT / "benchmarks" / "results" / "imitation.jsonl"
ENV_ID, DELAY = "recurrent_rl/RepeatPrevious-Medium-v0", 32
GOAL = 0.9
MEMORY, STEPS, EPISODES = "gru-matrix", 400_000, (0, 20)
"""The memory that solves the task, steps of PPO, and how many recorded episodes come first."""


def scripted(episodes: int, seed: int) -> list[RecordedEpisode]:
    """Episodes of a player that writes down what it sees."""
    env = gym.make(ENV_ID)
    recorded = []
    for i in range(episodes):
        observation, _ = env.reset(seed=100_000 + 1_000 * seed + i)
        seen, actions, rewards, done = [observation], [], [], False
        while not done:
            action = seen[-DELAY] if len(seen) >= DELAY else 0
            observation, reward, terminated, truncated, _ = env.step(action)
            seen.append(observation)
            actions.append(action)
            rewards.append(float(reward))
            done = terminated or truncated
        assert np.isclose(sum(rewards), 1.0)
        recorded.append(RecordedEpisode(seen, actions, rewards))
    return recorded


def measure(episodes: int, seed: int) -> dict[str, Any]:
    """The row of one training."""
    with tempfile.TemporaryDirectory() as folder:
        config = TrainConfig(
            ENV_ID,
            total_timesteps=STEPS,
            seed=seed,
            threads=1,
            agent=AgentConfig(MEMORY),
        )
        agreement = None
        if episodes:
            trainer = Trainer(config)
            policy = trainer.policy()
            found = imitate(policy, scripted(episodes, seed), epochs=200, progress=False)
            agreement = round(found.agreement[-1], 4)
            path = Path(folder) / "imitated.safetensors"
            policy.save(path)
            trainer.close()
            config = TrainConfig(**vars(config) | {"init_from": str(path)})
        at, returns = curve_of(config)
    above = at[returns >= GOAL]
    return {
        "memory": MEMORY,
        "episodes": episodes,
        "seed": seed,
        "agreement": agreement,
        "first": round(float(returns[0]), 4),
        "reached": int(above[0]) if len(above) else None,
        "last": round(float(returns[-1]), 4),
        "steps": int(at[-1]),
        "code": commit(),
    }


def table(every: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = []
    for episodes in EPISODES:
        rows = [row for row in every if row["episodes"] == episodes]
        reached = [f"{row['reached']:,}" if row["reached"] else "never" for row in rows]
        first = [f"{row['first']:.2f}" for row in rows]
        lines.append((MEMORY, str(episodes), ", ".join(first), ", ".join(reached)))
    return markdown(("memory", "episodes imitated", "first return", "steps to 0.9"), lines)


def main() -> None:
    given = arguments(__doc__, seeds=3, jobs=available_cores()).parse_args()
    wanted = [(episodes, seed) for seed in range(given.seeds) for episodes in EPISODES]
    todo = [] if given.table else wanted
    print(table(measure_all(RESULTS, measure, todo, itemgetter("episodes", "seed"), given.jobs)))


if __name__ == "__main__":
    main()
