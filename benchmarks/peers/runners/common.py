"""What all runners share: arguments, the environment, the count of episodes and the output.

A runner trains one library on CartPole without velocities and prints JSON lines: one per iteration
(a rollout and its update), and at the end one with the peak memory and the versions.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

# Last on the path: the repository also has folders named envs and agents.
sys.path.append(str(Path(__file__).resolve().parents[3]))

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv, VectorWrapper

# The work, the same for all.
NUM_STEPS = 128
EPOCHS = 4
MINIBATCHES = 4
HIDDEN = 128
GAMMA = 0.99
GAE_LAMBDA = 0.95
CLIP = 0.2
VF_COEF = 0.5
ENT_COEF = 0.0
MAX_GRAD_NORM = 0.5
ADAM_EPS = 1e-5

BATCH_ID = "recurrent_rl/CartPole-NoVelocity-v0"
WINDOW = 100


def parse_args(description: str | None, variants: dict[str, str]) -> argparse.Namespace:
    """The arguments of every runner.

    Args:
        description: the runner's docstring.
        variants: name of each variant, and what differs.
    """
    told = "\n".join(f"  {name}: {text}" for name, text in variants.items())
    parser = argparse.ArgumentParser(
        description=f"{description}\nvariants:\n{told}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--num-envs", type=int, default=64)
    parser.add_argument("--env", choices=["python", "batch"], default="batch")
    parser.add_argument(
        "--steps", type=int, default=100_000, help="environment steps, of all environments"
    )
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--variant", choices=list(variants), default="default")
    parser.add_argument("--stop-at-return", type=float)
    return parser.parse_args()


class HideVelocities(gym.ObservationWrapper[Any, Any, Any]):
    """CartPole's observation without its two velocities."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        box = env.observation_space
        assert isinstance(box, gym.spaces.Box)
        self.observation_space = gym.spaces.Box(box.low[::2], box.high[::2], dtype=np.float32)

    def observation(self, observation: Any) -> Any:
        return observation[::2]


class Episodes:
    """Returns of the last finished episodes."""

    def __init__(self, num_envs: int) -> None:
        self.running = np.zeros(num_envs)
        self.returns: deque[float] = deque(maxlen=WINDOW)

    def step(self, rewards: Any, done: Any) -> None:
        self.running += rewards
        if done.any():
            self.returns.extend(self.running[done].tolist())
            self.running[done] = 0

    @property
    def mean(self) -> float | None:
        """Mean return of the last 100; None before as many have ended."""
        return float(np.mean(self.returns)) if len(self.returns) == WINDOW else None


class CountedVectorEnv(VectorWrapper):
    """Keeps count of the episodes of a vector environment."""

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        super().__init__(env)
        self.episodes = Episodes(env.num_envs)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        result = self.env.step(actions)
        self.episodes.step(result[1], result[2] | result[3])
        return result


def make_single() -> gym.Env[Any, Any]:
    """One environment of Gymnasium's CartPole-v1 without velocities."""
    return HideVelocities(gym.make("CartPole-v1"))


def make_env(kind: str, num_envs: int) -> CountedVectorEnv:
    """Environments in autoreset mode SAME_STEP: an episode's last observation is `final_obs`.

    Args:
        kind: `python` steps Gymnasium's environment through SyncVectorEnv, `batch` our NumPy one.
        num_envs: number of environments.
    """
    if kind == "python":
        environments = SyncVectorEnv(
            [make_single] * num_envs, autoreset_mode=AutoresetMode.SAME_STEP
        )
        return CountedVectorEnv(environments)
    import recurrent_rl.envs  # noqa: F401 (registers the environment)

    return CountedVectorEnv(
        gym.make_vec(BATCH_ID, num_envs, vectorization_mode="vector_entry_point")
    )


class Finished(Exception):
    """Ends the training: the steps are taken or the return is reached."""


class Report:
    """Prints the JSON lines, and ends the run when it is due.

    Whatever else the process prints goes to standard error.
    """

    def __init__(self, args: argparse.Namespace, packages: Sequence[str]) -> None:
        self.steps: int = args.steps
        self.stop_at: float | None = args.stop_at_return
        self.packages = [*packages, "torch", "numpy", "gymnasium"]
        self.output = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        self.began = 0.0

    @contextmanager
    def training(self) -> Iterator[None]:
        """Around the training, set-up excluded: starts the clock and prints the last line."""
        self.began = time.perf_counter()
        with suppress(Finished):
            yield
        versions = {name: version(name) for name in self.packages}
        versions["python"] = platform.python_version()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        self._print({"peak_memory_mb": round(peak, 1), "versions": versions})

    def iteration(self, steps: int, mean_return: float | None) -> None:
        """Call after each update.

        Args:
            steps: environment steps taken so far.
            mean_return: of the last 100 finished episodes.

        Raises:
            Finished: the run is over.
        """
        seconds = time.perf_counter() - self.began
        self._print({"steps": steps, "seconds": round(seconds, 4), "mean_return": mean_return})
        reached = self.stop_at is not None and (mean_return or 0) >= self.stop_at
        if reached or steps >= self.steps:
            raise Finished

    def _print(self, line: dict[str, Any]) -> None:
        print(json.dumps(line), file=self.output, flush=True)
