"""Scripted players of environments, and what they are paid."""

from collections.abc import Callable
from typing import Any

import numpy as np

from recurrent_rl.envs.batch import BatchEnv

Player = Callable[[BatchEnv, Any], Any]


def mean_return(env: BatchEnv, player: Player, steps: int = 0) -> float:
    """Mean return of whole episodes; `steps` defaults to three of the longest."""
    observation, _ = env.reset(seed=0)
    running = np.zeros(env.num_envs)
    finished: list[float] = []
    for _ in range(steps or 3 * env.max_episode_steps):
        observation, rewards, terminated, truncated, _ = env.step(player(env, observation))
        running += rewards
        done = terminated | truncated
        finished += running[done].tolist()
        running[done] = 0
    return float(np.mean(finished))
