"""Pendulum without velocity: swing up a pendulum and see only its angle.

To remember: the last angles, well enough to tell the angular velocity from their differences.

Observation: [cos, sin] of the angle, 0 upright. Action: torque in [-2, 2] N m. Physics and reward
are those of Gymnasium's Pendulum-v1: -(angle^2 + 0.1 velocity^2 + 0.001 torque^2) a step, with the
angle in [-pi, pi] and all taken before the step. An episode is truncated after 200 steps and never
terminates. Neither the best return nor the memoryless one is known exactly. Policies that see the
velocity reach about -150, a random one about -1235. Stated as memoryless is a measured return, of
PPO without memory after 1 M steps (three seeds, 1,000 episodes each): -1037 ± 56.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from recurrent_rl.envs.batch import BatchEnv, Flags, Rewards, Rows, SingleEnv

GRAVITY = 10.0
MASS, LENGTH = 1.0, 1.0
SECONDS_PER_STEP = 0.05
MAX_SPEED, MAX_TORQUE = 8.0, 2.0
MEASURED_MEMORYLESS = -1037.0


class Pendulum(BatchEnv):
    """N copies of Pendulum without velocity.

    Args:
        num_envs: copies.
        max_episode_steps: truncate after so many steps.
    """

    state = ("angle", "velocity", "t")

    def __init__(self, num_envs: int = 1, max_episode_steps: int = 200) -> None:
        if max_episode_steps < 1:
            raise ValueError(f"max_episode_steps is {max_episode_steps}; it must be at least 1.")
        seen = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
        torque = gym.spaces.Box(-MAX_TORQUE, MAX_TORQUE, (1,), np.float32)
        super().__init__(num_envs, seen, torque, max_episode_steps)
        if max_episode_steps == 200:
            self.memoryless_return = MEASURED_MEMORYLESS
        self.angle = np.zeros(num_envs)
        self.velocity = np.zeros(num_envs)
        self.t = np.zeros(num_envs, dtype=np.int64)

    def _begin(self, rows: Rows) -> None:
        start = self.streams.uniform(rows, 2) * 2 - 1
        self.angle[rows] = np.pi * start[:, 0]
        self.velocity[rows] = start[:, 1]
        self.t[rows] = 0

    def _advance(self, actions: Any) -> tuple[Rewards, Flags, Flags]:
        torque = np.clip(actions[:, 0], -MAX_TORQUE, MAX_TORQUE)
        angle = (self.angle + np.pi) % (2 * np.pi) - np.pi
        rewards = -(angle**2 + 0.1 * self.velocity**2 + 0.001 * torque**2)
        acceleration = (
            3 * GRAVITY / (2 * LENGTH) * np.sin(self.angle) + 3 / (MASS * LENGTH**2) * torque
        )
        velocity = self.velocity + SECONDS_PER_STEP * acceleration
        self.velocity = np.clip(velocity, -MAX_SPEED, MAX_SPEED)
        self.angle = self.angle + SECONDS_PER_STEP * self.velocity
        self.t += 1
        return rewards, np.zeros(self.num_envs, dtype=bool), self.t >= self.max_episode_steps

    def _observe(self) -> Any:
        return np.stack([np.cos(self.angle), np.sin(self.angle)], axis=1).astype(np.float32)


class PendulumEnv(SingleEnv):
    """One copy of Pendulum without velocity."""

    batch_type = Pendulum
