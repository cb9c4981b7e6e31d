"""What memory is worth: four tasks, four memories, several seeds, with memory on and switched off.

    python benchmarks/memory_worth.py                # all runs, then the table
    python benchmarks/memory_worth.py --only table   # the table of the runs there are

Each run is one line of `results.jsonl` in the output folder; a run that is there is not made again,
so an interrupted benchmark goes on where it stopped. Two runs go side by side, one thread each.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from recurrent_rl.comparison import student_half_interval

EPISODES = 1000
MEMORIES = ("none", "rnn", "lstm", "gru")

# Steps and settings by task; whatever is not named is the library's default.
TASKS: dict[str, dict[str, Any]] = {
    "RepeatPrevious-Easy": {"env_id": "recurrent_rl/RepeatPrevious-Easy-v0", "steps": 1_000_000},
    "T-Maze, length 50": {
        "env_id": "recurrent_rl/TMaze-v0",
        "kwargs": {"length": 50},
        "steps": 1_000_000,
    },
    "Recall, distance 64": {
        "env_id": "recurrent_rl/Recall-v0",
        "kwargs": {"distance": 64},
        "steps": 1_000_000,
    },
    "CartPole without velocities": {
        "env_id": "recurrent_rl/CartPole-NoVelocity-v0",
        "steps": 1_000_000,
    },
}


def run(task: str, memory: str, seed: int, out: str) -> dict[str, Any]:
    """Train one agent and play its episodes; runs in a process of its own."""

    from recurrent_rl import evaluate, load_policy, make_vector_env, train
    from recurrent_rl.agents.actor_critic import AgentConfig
    from recurrent_rl.config import EnvConfig, TrainConfig

    spec = TASKS[task]
    env_config = EnvConfig(env_kwargs=json.dumps(spec.get("kwargs", {})))
    config = TrainConfig(
        spec["env_id"],
        seed=seed,
        total_timesteps=spec["steps"],
        log_dir=str(Path(out) / "runs"),
        device="cpu",
        threads=1,
        agent=AgentConfig(memory=memory),
        env=env_config,
        **spec.get("settings", {}),
    )
    result = train(config, progress=False)
    policy = load_policy(result.policy_path)
    row: dict[str, Any] = {
        "task": task,
        "memory": memory,
        "seed": seed,
        "steps": result.timesteps,
        "seconds": result.seconds,
        "policy": str(result.policy_path.relative_to(out)),
    }
    for name, with_memory in (("on", True), ("off", False)):
        env = make_vector_env(config.env_id, 100, env_config)
        row[name] = evaluate(
            policy, env, EPISODES, with_memory=with_memory, seed=10_000_000 + seed
        ).mean
        env.close()
    return row


def interval(values: list[float]) -> str:
    """Mean over seeds and half of the 95 % interval by Student's t."""
    mean, count = float(np.mean(values)), len(values)
    if count == 1:
        return f"{mean:.3g}"
    return f"{mean:.3g} ± {student_half_interval(np.array(values)):.2g}"


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: tasks by memories, mean over seeds with its interval, memory on / off."""
    lines = [
        "| task | steps | seeds | " + " | ".join(MEMORIES) + " |",
        "|---|---|---|" + "---|" * 4,
    ]
    for task in TASKS:
        of_task = [row for row in rows if row["task"] == task]
        if not of_task:
            continue
        seeds = sorted({row["seed"] for row in of_task})
        cells = []
        for memory in MEMORIES:
            of_memory = [row for row in of_task if row["memory"] == memory]
            on, off = ([row[key] for row in of_memory] for key in ("on", "off"))
            cell = interval(on) if on else ""
            cells.append(cell if memory == "none" or not on else f"{cell} ({interval(off)})")
        steps = f"{of_task[0]['steps'] / 1e6:.2g} M"
        lines.append(f"| {task} | {steps} | {len(seeds)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", default="runs/memory_worth")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", choices=["table", *TASKS])
    asked = parser.parse_args()
    path = Path(asked.out) / "results.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    done = {(row["task"], row["memory"], row["seed"]) for row in rows}
    tasks = [] if asked.only == "table" else [asked.only] if asked.only else list(TASKS)
    # Seeds outermost: a benchmark cut short has every cell, with fewer seeds.
    jobs = [
        (task, memory, seed)
        for seed, task, memory in itertools.product(range(asked.seeds), tasks, MEMORIES)
        if (task, memory, seed) not in done
    ]
    began = time.monotonic()
    with ProcessPoolExecutor(asked.jobs, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(run, *job, asked.out) for job in jobs]
        for count, future in enumerate(as_completed(futures), 1):
            row = future.result()
            rows.append(row)
            with path.open("a") as file:
                file.write(json.dumps(row) + "\n")
            left = (time.monotonic() - began) / count * (len(jobs) - count)
            print(
                f"{count}/{len(jobs)} {row['task']}, {row['memory']}, seed {row['seed']}: "
                f"{row['on']:.3f} (off {row['off']:.3f}), about {left / 60:.0f} min left",
                file=sys.stderr,
                flush=True,
            )
    print(table(rows))


if __name__ == "__main__":
    main()
