"""TMaze: a sign at the start of a corridor says which way to turn at its end.

To remember: one bit, from the first step for as long as the walk takes, at least `length` steps.
The corridor looks the same everywhere, so nothing but memory holds the sign.

Observation: 0 and 1, the sign (left, right), seen at the first step only; 2, the corridor; 3, the
junction. Actions: 0 forward, 1 back, 2 left, 3 right. Reward: +1 for the arm that the sign named
and -1 for the other, either of which terminates the episode; -1 / length for any other step that
does not advance (walking back, bumping into a wall). After 2 length + 2 steps the episode is
truncated. Best return: 1. Without memory either arm is right half of the time: 0.

After Bakker (2002), Reinforcement learning with long short-term memory.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from recurrent_rl.envs.arguments import check_count
from recurrent_rl.envs.batch import BatchEnv, Flags, Rewards, Rows
from recurrent_rl.envs.drawing import Colours
from recurrent_rl.envs.scenes import t_maze
from recurrent_rl.envs.single import SingleEnv

CORRIDOR, JUNCTION = 2, 3
FORWARD, BACK, LEFT = 0, 1, 2


class TMaze(BatchEnv):
    """The T-maze, N environments at once.

    Args:
        num_envs: number of environments.
        length: steps from the sign to the junction.
    """

    to_remember = "one sign, along a corridor"
    observation_names = ("the sign: left", "the sign: right", "corridor", "junction")
    action_names = ("forward", "back", "left", "right")
    state = ("position", "goal", "t")

    def __init__(self, num_envs: int = 1, length: int = 10, render_mode: str | None = None) -> None:
        check_count("length", length, 1)
        space = gym.spaces.Discrete(4)
        super().__init__(
            num_envs, space, gym.spaces.Discrete(4), 2 * length + 2, render_mode=render_mode
        )
        self.length = length
        self.best_return = 1.0
        self.memoryless_return = 0.0
        self.position = np.zeros(num_envs, dtype=np.int64)
        self.goal = np.zeros(num_envs, dtype=np.int64)
        self.t = np.zeros(num_envs, dtype=np.int64)
        self._right: Flags = np.zeros(num_envs, dtype=bool)

    def _begin(self, rows: Rows) -> None:
        self.position[rows] = 0
        self.goal[rows] = self.streams.integers(rows, 2)[:, 0]
        self.t[rows] = 0

    def unseen(self, i: int) -> dict[str, Any]:
        """The turn to take at the junction."""
        return {"answer": LEFT + self.goal[i]}

    def _scene(self, i: int, action: Any) -> Colours:
        """The maze from above; the sign and its arm in grey once they are hidden."""
        goal, position = int(self.goal[i]), int(self.position[i])
        return t_maze(position, self.length, goal, is_sign_seen=bool(self.t[i] == 0))

    def _advance(self, actions: Any) -> tuple[Rewards, Flags, Flags]:
        at_junction = self.position == self.length
        turned = at_junction & (actions >= LEFT)
        advanced = ~at_junction & (actions == FORWARD)
        self._right = turned & (actions - LEFT == self.goal)
        rewards = np.where(turned, np.where(self._right, 1.0, -1.0), -1.0 / self.length)
        rewards[advanced] = 0.0
        back = (actions == BACK) & (self.position > 0)
        self.position += advanced.astype(np.int64) - back
        self.t += 1
        return rewards, turned, (self.t >= self.max_episode_steps) & ~turned

    def _observe(self) -> Any:
        seen = np.where(self.position == self.length, JUNCTION, CORRIDOR)
        return np.where(self.t == 0, self.goal, seen)

    def _success(self) -> Flags:
        return self._right


class TMazeEnv(SingleEnv):
    """The T-maze, one environment."""

    batch_type = TMaze
