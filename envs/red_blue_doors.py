"""RedBlueDoors: open the red door in one wall of a room, then the blue one in the wall opposite.

To remember: whether the red door has been opened, for the walk through the room. Who faces one door
sees nothing of the other, and who opens the blue one first has lost. An agent that goes to the blue
door by a way of its own can tell this from what it sees on the way: MiniGrid itself notes that the
task can be solved without memory.

Observation: MiniGrid's image of the 7 x 7 cells before the agent, as bits `[7, 7, 20]`: the kind of
object (11), its colour (6) and state (3) are names without an order, and so have a bit each. What
is behind a wall is not seen, nor the agent's direction, nor the mission's text. Actions: 0 left, 1
right, 2 forward, 5 open or close the door ahead; 3, 4 and 6 do nothing here. Reward: 1 - 0.9 t / T
for opening the blue door while the red one is open, at step t of at most T = 20 size^2, else 0. The
episode terminates when the blue door opens, and is truncated after T steps. Neither the best nor
the memoryless return is known; one that knew where the doors are could get 0.984 in a room of size
6, and 0.988 in one of size 8.

The environment is that of the package MiniGrid (Chevalier-Boisvert et al., NeurIPS 2023), which the
extra `minigrid` installs.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from recurrent_rl.envs.arguments import check_count

SIZES = (11, 6, 3)
"""How many objects, colours and states there are."""
VIEW = 7
# Which of a cell's three entries a bit is of, and the index there that it stands for.
_ENTRY = np.repeat(np.arange(3), SIZES)
_INDEX = np.concatenate([np.arange(n) for n in SIZES])


def _minigrid(size: int, render_mode: str | None) -> gym.Env[Any, Any]:
    """MiniGrid's environment.

    Raises:
        DependencyNotInstalled: there is no MiniGrid; the message says how to get it.
    """
    try:
        module = import_module("minigrid.envs.redbluedoors")
    except ModuleNotFoundError as error:
        raise gym.error.DependencyNotInstalled(
            "MiniGrid is not installed: pip install 'recurrent-rl[minigrid]'."
        ) from error
    env: gym.Env[Any, Any] = module.RedBlueDoorEnv(size=size, render_mode=render_mode)
    return env


class RedBlueDoorsEnv(gym.Env[Any, Any]):
    """MiniGrid's RedBlueDoors, of which only the image is seen.

    Args:
        size: of the room with its walls, at least 4.
        render_mode: None, `rgb_array` or `human`.

    Raises:
        DependencyNotInstalled: there is no MiniGrid.
        ValueError: the room is too small.
    """

    to_remember = "whether the red door was opened"
    metadata: dict[str, Any] = {  # noqa: RUF012 (declared as Gymnasium does)
        "render_modes": ["human", "rgb_array"],
        "render_fps": 10,
    }

    def __init__(self, size: int = 8, render_mode: str | None = None) -> None:
        check_count("size", size, 4)
        self.room = _minigrid(size, render_mode)
        self.observation_space = gym.spaces.MultiBinary([VIEW, VIEW, sum(SIZES)])
        self.action_space = gym.spaces.Discrete(7)
        self.render_mode = render_mode

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.int8], dict[str, Any]]:
        """Start a new episode; a seed makes it and all that follow repeatable."""
        seen, info = self.room.reset(seed=seed, options=options)
        self._np_random = self.room.np_random
        return _bits(seen["image"]), info

    def step(self, action: Any) -> tuple[NDArray[np.int8], float, bool, bool, dict[str, Any]]:
        """Step; at an episode's end the info tells whether it was a success."""
        seen, reward, terminated, truncated, info = self.room.step(action)
        if terminated or truncated:
            info["is_success"] = float(reward) > 0
        return _bits(seen["image"]), float(reward), terminated, truncated, info

    def render(self) -> Any:
        """What MiniGrid draws."""
        return self.room.render()

    def close(self) -> None:
        """Close MiniGrid's window, if there is one."""
        self.room.close()


def _bits(image: NDArray[np.uint8]) -> NDArray[np.int8]:
    """The indices `[..., 3]` of object, colour and state as bits `[..., 20]`."""
    bits: NDArray[np.int8] = (image[..., _ENTRY] == _INDEX).astype(np.int8)
    return bits
