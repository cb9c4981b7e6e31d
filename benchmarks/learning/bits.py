"""What it takes to learn to keep 64 bits: large rollouts, several passes, no previous action.

    python benchmarks/learning/bits.py  # all; one row takes an hour of a core and 8 GB
    python benchmarks/learning/bits.py --only 8 --seeds 1  # those of 8 steps: minutes
    python benchmarks/learning/bits.py --table  # of what there is

The task is the ladder: 64 bits are shown at once, and asked for so many steps later. Returns are of
deterministic actions, 0 for guessing and 1 for every bit right. Each training leaves a line in
benchmarks/results/bits.jsonl; what is there is not done again.
"""

from __future__ import annotations

import tempfile
import time
from itertools import product
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from jobs import ROOT, arguments, commit, measure_all, thinned

from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.config import TrainConfig
from recurrent_rl.experiments.comparison import markdown
from recurrent_rl.experiments.results import load_evaluated_run
from recurrent_rl.process import available_cores
from recurrent_rl.runs.training import train
from recurrent_rl.vector_env.config import EnvConfig

RESULTS = ROOT / "benchmarks" / "results" / "bits.jsonl"
BITS = 64
Settings = dict[str, Any]
# What is asked is paid at once; nothing else stops a pass early or moves the policy.
ALWAYS: Settings = {"gamma": 0.0, "gae_lambda": 0.0, "learning_rate": 3e-3, "ent_coef": 0.0}
SMALL: Settings = {"num_envs": 256, "update_epochs": 4, "num_minibatches": 4}
LARGE: Settings = {"num_envs": 8192, "update_epochs": 8, "num_minibatches": 8}
NO_ACTION: Settings = {"previous_action": False}
# Held for 256 steps, bits are for slow units; half of them are, where time scales end at 65,536.
SLOW: Settings = {"horizon": 65_536}
DIRECT: Settings = {"encoder_layers": 0}  # bits go into the memory as they are
EPISODES = 50_000
WAYS: dict[str, tuple[int, int, Settings, Settings]] = {
    "256 episodes, 4 passes": (8, EPISODES, SMALL, {}),
    "256 episodes, 4 passes, no previous action": (8, EPISODES, SMALL, NO_ACTION),
    "8,192 episodes, 8 passes": (8, EPISODES, LARGE, {}),
    "8,192 episodes, 8 passes, no previous action": (8, EPISODES, LARGE, NO_ACTION),
    "the same, no encoder": (8, EPISODES, LARGE, NO_ACTION | DIRECT),
    "the same, no encoder, slow units": (256, 120_000, LARGE, NO_ACTION | DIRECT | SLOW),
}
"""By what a rollout is: steps to hold the bits for, episodes of training, settings, the agent's."""


def measure(way: str, seed: int) -> dict[str, Any]:
    """The row of one training."""
    horizon, episodes, settings, of_agent = WAYS[way]
    with tempfile.TemporaryDirectory() as folder:
        config = TrainConfig(
            "recurrent_rl/Ladder-v0",
            seed=seed,
            log_dir=folder,
            threads=1,
            num_steps=horizon + 1,
            total_timesteps=episodes * (horizon + 1),
            target_kl=None,
            memory_interval=None,
            eval_episodes=1000,
            env=EnvConfig(env_kwargs={"horizon": horizon, "bits": BITS}),
            agent=AgentConfig(**of_agent),
            **ALWAYS,
            **settings,
        )
        begin = time.monotonic()
        run = load_evaluated_run(train(config, progress=False).run_dir)
    evaluation = run.evaluation.deterministic
    return {
        **{"way": way, "horizon": horizon, "seed": seed, "code": commit()},
        "seconds": round(time.monotonic() - begin),
        "episodes": int(run.steps[-1]) // (horizon + 1),
        "deterministic": evaluation.mean_return,
        "deterministic_ci95": evaluation.ci95,
        **thinned(run),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a row for each way, over the seeds that there are."""
    lines = []
    for way, (horizon, *_) in WAYS.items():
        if found := [row for row in rows if row["way"] == way]:
            ends = [row["deterministic"] for row in found]
            minutes = np.mean([row["seconds"] for row in found]) / 60
            cell = f"{np.mean(ends):.3f} ({min(ends):.3f} to {max(ends):.3f})"
            episodes = f"{found[0]['episodes']:,}"
            lines.append([str(horizon), way, episodes, cell, str(len(found)), f"{minutes:.0f}"])
    return markdown(["steps", "rollouts of", "episodes", "return", "seeds", "minutes"], lines)


def main() -> None:
    parser = arguments(__doc__, seeds=3, jobs=available_cores())
    parser.add_argument("--only", nargs="+", type=int, help="steps to hold the bits for")
    given = parser.parse_args()
    ways = [way for way, (horizon, *_) in WAYS.items() if horizon in (given.only or [horizon])]
    wanted = [] if given.table else [(way, seed) for seed, way in product(range(given.seeds), ways)]
    print(table(measure_all(RESULTS, measure, wanted, itemgetter("way", "seed"), given.jobs)))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
