"""MountainCarContinuous without velocity: drive a weak car out of a valley, seeing only its place.

To remember: the last positions, well enough to tell the velocity from their differences; to swing
up one must push the way the car is going.

Observation: [position]. Action: force in [-1, 1]. Physics and reward are those of Gymnasium's
MountainCarContinuous-v0 (Moore 1990): -0.1 force^2 a step and 100 on reaching position 0.45, where
the episode terminates; it is truncated after 999 steps. A policy that sees the velocity reaches
about 94. Neither the best nor the memoryless return is known exactly; one that does nothing gets 0.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from recurrent_rl.envs.batch import BatchEnv, Flags, Rewards, Rows
from recurrent_rl.envs.drawing import Colours
from recurrent_rl.envs.scenes import mountain_car
from recurrent_rl.envs.single import SingleEnv

MIN_POSITION, MAX_POSITION, GOAL = -1.2, 0.6, 0.45
MAX_SPEED = 0.07
POWER = 0.0015
GRAVITY = 0.0025


class MountainCar(BatchEnv):
    """MountainCarContinuous without velocity, N environments at once.

    Args:
        num_envs: number of environments.
        max_episode_steps: truncate after so many steps.
    """

    metadata = BatchEnv.metadata | {"render_fps": 20}
    to_remember = "its speed, from the last places"
    state = ("position", "velocity", "t")

    def __init__(
        self, num_envs: int = 1, max_episode_steps: int = 999, render_mode: str | None = None
    ) -> None:
        seen = gym.spaces.Box(MIN_POSITION, MAX_POSITION, (1,), np.float32)
        force = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
        super().__init__(num_envs, seen, force, max_episode_steps, render_mode=render_mode)
        self.position = np.zeros(num_envs)
        self.velocity = np.zeros(num_envs)
        self.t = np.zeros(num_envs, dtype=np.int64)
        self._arrived: Flags = np.zeros(num_envs, dtype=bool)

    def _begin(self, rows: Rows) -> None:
        self.position[rows] = self.streams.uniform(rows)[:, 0] * 0.2 - 0.6
        self.velocity[rows] = 0
        self.t[rows] = 0

    def unseen(self, i: int) -> dict[str, Any]:
        """The velocity."""
        return {"speed": self.velocity[i]}

    def _scene(self, i: int, action: Any) -> Colours:
        """The car on its hill, and its speed in grey."""
        force = 0.0 if action is None else float(np.clip(action[0], -1, 1))
        return mountain_car(float(self.position[i]), float(self.velocity[i]), force, GOAL)

    def _advance(self, actions: Any) -> tuple[Rewards, Flags, Flags]:
        wanted = actions[:, 0].astype(np.float64)
        force = np.clip(wanted, -1.0, 1.0)
        velocity = self.velocity + force * POWER - GRAVITY * np.cos(3 * self.position)
        velocity = np.clip(velocity, -MAX_SPEED, MAX_SPEED)
        self.position = np.clip(self.position + velocity, MIN_POSITION, MAX_POSITION)
        stopped = (self.position == MIN_POSITION) & (velocity < 0)
        self.velocity = np.where(stopped, 0.0, velocity)
        self.t += 1
        self._arrived = (self.position >= GOAL) & (self.velocity >= 0)
        rewards = 100.0 * self._arrived - 0.1 * wanted**2
        truncated = (self.t >= self.max_episode_steps) & ~self._arrived
        return rewards, self._arrived, truncated

    def _observe(self) -> Any:
        return self.position[:, None].astype(np.float32)

    def _success(self) -> Flags:
        return self._arrived


class MountainCarEnv(SingleEnv):
    """MountainCarContinuous without velocity, one environment."""

    batch_type = MountainCar
