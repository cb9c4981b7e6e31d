"""What it costs to begin to act: seconds and memory of a fresh process, by runtime.

    python benchmarks/speed/loading.py  # prints Markdown; a minute

Each line is a new process up to its first action with a policy of 128 LSTM units; the median of
five. Memory is the most that the process held, Python with it, as Linux tells it.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from gymnasium import spaces

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.policy import Policy

ROUNDS = 5
LOADED = "import recurrent_rl\npolicy = recurrent_rl.load_policy('policy.safetensors')\n"
PROGRAMS = {
    "Python and NumPy alone": "import numpy",
    "import torch alone": "import torch",
    "import recurrent_rl, nothing used": "import recurrent_rl",
    "load_policy and actor()": LOADED + "policy.actor().act([0.0, 0.1])",
    'load_policy and actor(runner="fast")': LOADED + "policy.actor(runner='fast').act([0.0, 0.1])",
    "the folder that --to numpy writes": (
        "import sys\nsys.path.insert(0, 'robot')\nfrom policy import Policy\n"
        "Policy().act([0.0, 0.1])"
    ),
}


def run(program: str, folder: str) -> tuple[float, float]:
    """Seconds and MB of a process."""
    measured = f"{program}\nprint(next(x for x in open('/proc/self/status') if 'VmHWM' in x))"
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", measured], cwd=folder, check=True, capture_output=True, text=True
    )
    return time.perf_counter() - begin, int(done.stdout.split()[1]) / 1024  # of kB


def main() -> None:
    agent = ActorCritic(spaces.Box(-5, 5, (2,)), spaces.Discrete(2), AgentConfig("lstm"))
    with tempfile.TemporaryDirectory() as folder:
        policy = Policy(agent)
        policy.save(Path(folder) / "policy.safetensors")
        policy.export(Path(folder) / "robot", "numpy")
        print(f"torch {torch.__version__}\n\n| to the first action | seconds | MB |\n|---|---|---|")
        for name, program in PROGRAMS.items():
            found = [run(program, folder) for _ in range(ROUNDS)]
            seconds, size = (statistics.median(x) for x in zip(*found, strict=True))
            print(f"| {name} | {seconds:.2f} | {size:.0f} |", flush=True)


if __name__ == "__main__":
    main()
