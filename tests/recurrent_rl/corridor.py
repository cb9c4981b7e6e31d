"""An environment of a user's own, and the ways in which one may be made; nothing is registered."""

from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers import TimeLimit

Env = gym.Env[Any, Any]
LIMIT = 12


class Corridor(gym.Env[Any, Any]):
    """Walk to the end; the sign at the start says where to turn there. Ends by itself, too."""

    def __init__(self, length: int = 3) -> None:
        self.length = length
        self.observation_space: spaces.Space[Any] = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.action_space = spaces.Discrete(3)
        self.closed = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.sign = int(self.np_random.choice([-1, 1]))
        self.place = self.t = 0
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        reward, self.t = 0.0, self.t + 1
        turned = action > 0 and self.place == self.length
        if action == 0:
            self.place = min(self.place + 1, self.length)
        elif turned:
            reward = 1.0 if (action == 1) == (self.sign == -1) else -1.0
        return self._observe(), reward, bool(turned), self.t >= 2 * LIMIT, {}

    def close(self) -> None:
        self.closed = True

    def _observe(self) -> Any:
        shown = self.sign if self.place == 0 else 0
        return np.array([shown, self.place == self.length], np.float32)


class Telling(Corridor):
    """Tells its length at each step, and that of the episode's beginning; ends by time alone."""

    steps = 0  # what checks it has an attribute of this name too
    kept: Any = None

    @property
    def fixed(self) -> int:
        return 3

    def reset(self, **given: Any) -> tuple[Any, dict[str, Any]]:
        self.begun = self.length
        return super().reset(**given)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, reward, _, truncated, _ = super().step(action)
        told = {"length": self.length, "steps": self.steps, "begun": self.begun}
        return observation, reward, False, truncated, told


class Both(Corridor):
    """What the module has under a name that is also registered."""


class Parts(Corridor):
    """Observes a Dict, and a text that never changes."""

    def __init__(self, mission: spaces.Space[Any] | None = None) -> None:
        super().__init__()
        self.observation_space = spaces.Dict(
            {
                "sign": spaces.Box(-1.0, 1.0, (1,), np.float32),
                "end": spaces.Discrete(2),
                "mission": mission or spaces.Text(4, min_length=4, charset="a"),
            }
        )

    def _observe(self) -> Any:
        sign, end = super()._observe()
        return {"sign": np.array([sign], np.float32), "end": int(end), "mission": "aaaa"}


class Picture(Corridor):
    """Observes a picture in colours."""

    def __init__(self) -> None:
        super().__init__()
        self.observation_space = spaces.Box(0, 255, (8, 8, 3), np.uint8)

    def _observe(self) -> Any:
        return np.full((8, 8, 3), 100, np.uint8)


def make(length: int = 3) -> Env:
    return TimeLimit(Corridor(length), LIMIT)


def make_many(num_envs: int, length: int = 3) -> VectorEnv:
    makers = [partial(make, length)] * num_envs
    return SyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP)


def make_too_few(num_envs: int) -> VectorEnv:
    return make_many(num_envs - 1)


def many_without_asking() -> VectorEnv:
    return make_many(4)


def one_where_many_are_asked_for(num_envs: int) -> Env:
    return make()


def nothing() -> None:
    return None


def twice_as_bright(env: Env) -> Env:
    return gym.wrappers.TransformObservation(env, lambda x: 2 * x, env.observation_space)


def brighter(env: Env, times: float) -> Env:
    return gym.wrappers.TransformObservation(env, lambda x: times * x, env.observation_space)


def no_wrapper(env: Env) -> int:
    return 3


ALREADY = make()
"""An environment, where a class or function is named."""
