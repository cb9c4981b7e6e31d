"""Pendulum without velocity: swing up a pendulum and see only its angle.

To remember: the last angles, well enough to tell the angular velocity from their differences.

Observation: [cos, sin] of the angle, 0 upright. Action: torque in [-2, 2] N m. Physics and reward
are those of Gymnasium's Pendulum-v1: -(angle^2 + 0.1 velocity^2 + 0.001 torque^2) a step, with the
angle in [-pi, pi] and all taken before the step. An episode is truncated after 200 steps and never
terminates. Neither the best return nor the memoryless one is known exactly. Policies that see the
velocity reach about -150, a random one about -1235. Stated as memoryless is a measured return, of
PPO without memory after 1 M steps (three seeds, 1,000 episodes each): -1037 ± 56.

With `scaled` it is POPGym's PositionOnlyPendulum and NoisyPositionOnlyPendulum (Morad et al., ICLR
2023): a step's reward r becomes (1 + r / 8.1368) / max_episode_steps, so that returns lie between
-1 and 1, and what is seen with noise is clipped to [-1, 1].
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from recurrent_rl.envs.batch import BatchEnv, Flags, Rewards, Rows
from recurrent_rl.envs.drawing import Colours
from recurrent_rl.envs.scenes import pendulum
from recurrent_rl.envs.single import SingleEnv

GRAVITY = 10.0
MASS, LENGTH = 1.0, 1.0
SECONDS_PER_STEP = 0.05
MAX_SPEED, MAX_TORQUE = 8.0, 2.0
MEASURED_MEMORYLESS = -1037.0
HALF_COST = 16.2736044 / 2  # the greatest cost of a step: pi^2 + 0.1 8^2 + 0.001 2^2


class Pendulum(BatchEnv):
    """Pendulum without velocity, N environments at once.

    Args:
        num_envs: number of environments.
        max_episode_steps: truncate after so many steps.
        noise: standard deviation of the noise on both numbers.
        scaled: rewards scaled to returns in -1..1, and noise clipped, as in POPGym.
    """

    metadata = BatchEnv.metadata | {"render_fps": 20}
    to_remember = "its speed, from the last angles"
    state = ("angle", "velocity", "seen", "t")

    def __init__(
        self,
        num_envs: int = 1,
        max_episode_steps: int = 200,
        noise: float = 0.0,
        scaled: bool = False,
        render_mode: str | None = None,
    ) -> None:
        if noise < 0:
            raise ValueError(f"noise is {noise}; it must be at least 0.")
        high = 1.0 if scaled else 1.0 + 10 * noise  # no draw in practice is farther out
        seen = gym.spaces.Box(-high, high, (2,), np.float32)
        torque = gym.spaces.Box(-MAX_TORQUE, MAX_TORQUE, (1,), np.float32)
        super().__init__(num_envs, seen, torque, max_episode_steps, render_mode=render_mode)
        if max_episode_steps == 200 and noise == 0:
            memoryless = MEASURED_MEMORYLESS
            self.memoryless_return = 1 + memoryless / HALF_COST / 200 if scaled else memoryless
        self.noise = noise
        self.scaled = scaled
        self.seen = np.zeros((num_envs, 2), dtype=np.float32)
        self.angle = np.zeros(num_envs)
        self.velocity = np.zeros(num_envs)
        self.t = np.zeros(num_envs, dtype=np.int64)

    def _begin(self, rows: Rows) -> None:
        start = self.streams.uniform(rows, 2) * 2 - 1
        self.angle[rows] = np.pi * start[:, 0]
        self.velocity[rows] = start[:, 1]
        self.t[rows] = 0
        self._look(rows)

    def unseen(self, i: int) -> dict[str, Any]:
        """The velocity."""
        return {"speed": self.velocity[i]}

    def _scene(self, i: int, action: Any) -> Colours:
        """The pendulum as seen; its true place and speed in grey."""
        torque = 0.0 if action is None else float(np.clip(action[0], -MAX_TORQUE, MAX_TORQUE))
        seen = (float(self.seen[i, 0]), float(self.seen[i, 1]))
        return pendulum(seen, float(self.angle[i]), float(self.velocity[i]), torque)

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
        self._look(self._all_rows)
        if self.scaled:
            rewards = (1 + rewards / HALF_COST) / self.max_episode_steps
        return rewards, np.zeros(self.num_envs, dtype=bool), self.t >= self.max_episode_steps

    def _look(self, rows: Rows) -> None:
        """Take cosine and sine with a new draw of the noise: once a step, however often read."""
        angle = self.angle[rows]
        seen = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        if self.noise:
            seen = seen + self.noise * self.streams.normal(rows, 2)
        self.seen[rows] = np.clip(seen, -1, 1) if self.scaled else seen

    def _observe(self) -> Any:
        return self.seen.copy()


class PendulumEnv(SingleEnv):
    """Pendulum without velocity, one environment."""

    batch_type = Pendulum
