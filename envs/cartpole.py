"""CartPole without velocities: balance a pole and see only where things are, not how they move.

To remember: the last positions, well enough to tell velocities from their differences; a few steps,
or with noise some more, to average over.

Observation: [cart position (m), pole angle (rad)], plus Gaussian noise of standard deviation
`noise` on both. Physics, start and limits are those of Gymnasium's CartPole-v1 (Barto, Sutton &
Anderson 1983). Actions: 0 push left, 1 push right. Reward: 1 a step; the episode terminates when
the cart leaves ±2.4 m or the pole ±12 degrees, and is truncated after 500 steps. Best return
without noise: 500. The best memoryless return is not known exactly; stated is a measured one, of
PPO without memory after 1 M steps (three seeds, 1,000 episodes each): 43.8 ± 0.7 without noise and
50.6 ± 2.1 with noise 0.1, which breaks up the swinging. Pushing to where the pole leans gives 42.

With `true_state` the observation is a Dict: "positions" as above, and "state", [position (m),
velocity (m/s), angle (rad), angular velocity (rad/s)] without noise, for a critic that may know
more than the actor (`critic_keys`).

With `scaled` it is POPGym's PositionOnlyCartPole and NoisyPositionOnlyCartPole (Morad et al., ICLR
2023): a step's reward is 1 / max_episode_steps, and what is seen with noise is clipped to the
limits of the observation. One thing differs: an episode that ends in both ways at once is only
terminated here. Memoryless returns are 0.22, 0.11 and 0.07 for 200, 400 and 600 steps.
"""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np

from recurrent_rl.envs.batch import BatchEnv, Flags, Rewards, Rows
from recurrent_rl.envs.drawing import Colours
from recurrent_rl.envs.scenes import cart_pole
from recurrent_rl.envs.single import SingleEnv

GRAVITY = 9.8
CART_MASS, POLE_MASS = 1.0, 0.1
TOTAL_MASS = CART_MASS + POLE_MASS
HALF_LENGTH = 0.5
FORCE = 10.0
SECONDS_PER_STEP = 0.02
MAX_POSITION = 2.4
MAX_ANGLE = 12 * 2 * math.pi / 360
MEASURED_MEMORYLESS = {0.0: 43.8, 0.1: 50.6}


class CartPole(BatchEnv):
    """CartPole without velocities, N environments at once.

    Args:
        num_envs: number of environments.
        noise: standard deviation of the noise on both positions.
        max_episode_steps: truncate after so many steps.
        scaled: rewards of 1 / max_episode_steps, and noise clipped, as in POPGym.
        true_state: also show the true state, under a key of its own.
    """

    metadata = BatchEnv.metadata | {"render_fps": 20}
    to_remember = "speeds, from the last positions"
    action_names = ("left", "right")
    state = ("physics", "seen", "t")

    def __init__(
        self,
        num_envs: int = 1,
        noise: float = 0.0,
        max_episode_steps: int = 500,
        scaled: bool = False,
        true_state: bool = False,
        render_mode: str | None = None,
    ) -> None:
        if noise < 0:
            raise ValueError(f"noise is {noise}; it must be at least 0.")
        high = np.array([2 * MAX_POSITION, 2 * MAX_ANGLE], dtype=np.float32)
        if not scaled:
            high += 10 * noise  # no draw in practice is farther out
        self._high = high
        space: gym.Space[Any] = gym.spaces.Box(-high, high, dtype=np.float32)
        if true_state:
            state = gym.spaces.Box(-np.inf, np.inf, (4,), np.float32)
            space = gym.spaces.Dict({"positions": space, "state": state})
        super().__init__(
            num_envs, space, gym.spaces.Discrete(2), max_episode_steps, render_mode=render_mode
        )
        self.noise = noise
        self.true_state = true_state
        self.reward = 1 / max_episode_steps if scaled else 1.0
        self.clipped = scaled
        self.best_return = max_episode_steps * self.reward if noise == 0 else None
        # Without memory the pole falls long before any of the limits.
        fallen = None if true_state else MEASURED_MEMORYLESS.get(noise)
        if fallen is not None and max_episode_steps >= 200:
            self.memoryless_return = fallen * self.reward
        self.physics = np.zeros((num_envs, 4))
        """[position, velocity, angle, angular velocity], `[N, 4]`."""
        self.seen = np.zeros((num_envs, 2), dtype=np.float32)
        self.t = np.zeros(num_envs, dtype=np.int64)

    def _begin(self, rows: Rows) -> None:
        self.physics[rows] = self.streams.uniform(rows, 4) * 0.1 - 0.05
        self.t[rows] = 0
        self._look(rows)

    def unseen(self, i: int) -> dict[str, Any]:
        """The velocities of cart (m/s) and pole (rad/s)."""
        return {"speeds": self.physics[i, 1::2]}

    def _scene(self, i: int, action: Any) -> Colours:
        """The cart and its pole, as seen; their true places and speeds in grey."""
        push = 0 if action is None else 2 * int(action) - 1
        x, v, angle, spin = self.physics[i].tolist()
        seen = (float(self.seen[i, 0]), float(self.seen[i, 1]))
        return cart_pole(seen, (x, v, angle, spin), (MAX_POSITION, MAX_ANGLE), push)

    def _advance(self, actions: Any) -> tuple[Rewards, Flags, Flags]:
        # Contiguous: NumPy takes other cosines, a bit apart, for strided data.
        _, v, angle, spin = np.ascontiguousarray(self.physics.T)
        cos, sin = np.cos(angle), np.sin(angle)
        force = np.where(actions == 1, FORCE, -FORCE)
        # Florian (2007), Correct equations for the dynamics of the cart-pole system, eq. 23 and 24.
        common = (force + POLE_MASS * HALF_LENGTH * spin**2 * sin) / TOTAL_MASS
        spin_up = (GRAVITY * sin - cos * common) / (
            HALF_LENGTH * (4 / 3 - POLE_MASS * cos**2 / TOTAL_MASS)
        )
        speed_up = common - POLE_MASS * HALF_LENGTH * spin_up * cos / TOTAL_MASS
        rates = np.empty_like(self.physics)
        rates[:, 0], rates[:, 1], rates[:, 2], rates[:, 3] = v, speed_up, spin, spin_up
        self.physics = self.physics + SECONDS_PER_STEP * rates  # explicit Euler, as Gymnasium's
        self.t += 1
        self._look(self._all_rows)
        fallen = np.abs(self.physics[:, 0]) > MAX_POSITION
        fallen |= np.abs(self.physics[:, 2]) > MAX_ANGLE
        truncated = (self.t >= self.max_episode_steps) & ~fallen
        return np.full(self.num_envs, self.reward), fallen, truncated

    def _look(self, rows: Rows) -> None:
        """Take the positions with a new draw of the noise: once a step, however often read."""
        seen = self.physics[rows, ::2]
        if self.noise:
            seen = seen + self.noise * self.streams.normal(rows, 2)
        if self.clipped:
            seen = np.clip(seen, -self._high, self._high)
        self.seen[rows] = seen

    def _observe(self) -> Any:
        if self.true_state:
            return {"positions": self.seen.copy(), "state": self.physics.astype(np.float32)}
        return self.seen.copy()


class CartPoleEnv(SingleEnv):
    """CartPole without velocities, one environment."""

    batch_type = CartPole
