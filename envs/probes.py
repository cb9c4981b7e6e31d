"""Probe environments: tiny ones whose values are known exactly, to test a training loop.

An agent that learns them wrongly has a fault of a known kind, and shows it in seconds.

| class | what it probes | known |
|---|---|---|
| ConstantProbe | the value loss | V = 1 |
| ObservationProbe | the way from observation to value | V(o) = o, o = ±1 |
| DiscountProbe | discounting | V(0) = gamma, V(1) = 1 |
| TimeLimitProbe | bootstrapping at a truncation | V = 1 / (1 - gamma), everywhere |
| MemoryProbe | memory, resets | best return 1, memoryless 0 |
| SignalProbe | each kind of observation and action | best return 1, blind 0 |
| MaskProbe | action masks | the forbidden action would pay 10; best return 1 |
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from recurrent_rl.envs.batch import BatchEnv, Flags, Rewards, Rows
from recurrent_rl.envs.single import SingleEnv

SCALAR = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
IMAGE = 12  # pixels on a side


class _Probe(BatchEnv):
    """What the probes share: a hidden sign, 0 or 1, drawn for each episode, and a clock."""

    state = ("sign", "t")

    def __init__(
        self,
        num_envs: int,
        steps: int,
        observation_space: gym.Space[Any] = SCALAR,
        action_space: gym.Space[Any] | None = None,
        render_mode: str | None = None,
    ) -> None:
        action_space = action_space or gym.spaces.Discrete(2)
        super().__init__(num_envs, observation_space, action_space, steps, render_mode=render_mode)
        self.sign = np.zeros(num_envs, dtype=np.int64)
        self.t = np.zeros(num_envs, dtype=np.int64)

    def _begin(self, rows: Rows) -> None:
        self.sign[rows] = self.streams.integers(rows, 2)[:, 0]
        self.t[rows] = 0

    def _advance(self, actions: Any) -> tuple[Rewards, Flags, Flags]:
        rewards = self._reward(actions)
        self.t += 1
        return rewards, self.t >= self.max_episode_steps, np.zeros(self.num_envs, dtype=bool)

    def _reward(self, actions: Any) -> Rewards:
        return np.ones(self.num_envs)

    def _observe(self) -> Any:
        return np.zeros((self.num_envs, 1), dtype=np.float32)


class ConstantProbe(_Probe):
    """One step, nothing to see, reward 1: V = 1."""

    def __init__(self, num_envs: int = 1, render_mode: str | None = None) -> None:
        super().__init__(num_envs, 1, render_mode=render_mode)
        self.memoryless_return = self.best_return = 1.0


class ObservationProbe(_Probe):
    """One step, the observation ±1 is the reward: V(o) = o."""

    def __init__(self, num_envs: int = 1, render_mode: str | None = None) -> None:
        super().__init__(num_envs, 1, render_mode=render_mode)
        self.memoryless_return = self.best_return = 0.0

    def _reward(self, actions: Any) -> Rewards:
        return np.where(self.sign == 1, 1.0, -1.0)

    def _observe(self) -> Any:
        return (2 * self.sign[:, None] - 1).astype(np.float32)


class DiscountProbe(_Probe):
    """Two steps, observations 0 and 1, reward 1 at the end: V(0) = gamma, V(1) = 1."""

    def __init__(self, num_envs: int = 1, render_mode: str | None = None) -> None:
        super().__init__(num_envs, 2, render_mode=render_mode)
        self.memoryless_return = self.best_return = 1.0

    def _reward(self, actions: Any) -> Rewards:
        return np.where(self.t == 1, 1.0, 0.0)

    def _observe(self) -> Any:
        return np.minimum(self.t, 1)[:, None].astype(np.float32)


class TimeLimitProbe(_Probe):
    """Reward 1 at each step, cut after 4, never terminated: V = 1 / (1 - gamma) in every state."""

    def __init__(self, num_envs: int = 1, render_mode: str | None = None) -> None:
        super().__init__(num_envs, 4, render_mode=render_mode)
        self.memoryless_return = self.best_return = 4.0

    def _advance(self, actions: Any) -> tuple[Rewards, Flags, Flags]:
        rewards, ended, nothing = super()._advance(actions)
        return rewards, nothing, ended


class MemoryProbe(_Probe):
    """A sign, a blank step, and only then the action that names the sign: reward ±1."""

    to_remember = "a sign, for one step"

    def __init__(self, num_envs: int = 1, render_mode: str | None = None) -> None:
        super().__init__(num_envs, 2, render_mode=render_mode)
        self.memoryless_return, self.best_return = 0.0, 1.0

    def unseen(self, i: int) -> dict[str, Any]:
        """The sign."""
        return {"answer": self.sign[i]}

    def _reward(self, actions: Any) -> Rewards:
        answer = np.where(actions == self.sign, 1.0, -1.0)
        return np.where(self.t == 1, answer, 0.0)

    def _observe(self) -> Any:
        shown = np.where(self.t == 0, 2 * self.sign - 1, 0)
        return shown[:, None].astype(np.float32)


def _signal_space(kind: str) -> gym.Space[Any]:
    image = gym.spaces.Box(0, 255, (IMAGE, IMAGE, 1), np.uint8)
    spaces: dict[str, gym.Space[Any]] = {
        "vector": gym.spaces.Box(-1.0, 1.0, (3,), np.float32),
        "image": image,
        "discrete": gym.spaces.Discrete(5, start=-2),
        "multidiscrete": gym.spaces.MultiDiscrete([2, 3]),
        "multibinary": gym.spaces.MultiBinary(3),
        "dict": gym.spaces.Dict({"blank": SCALAR, "signal": gym.spaces.Discrete(2)}),
        "nested": gym.spaces.Dict(
            {
                "inner": gym.spaces.Tuple((SCALAR, gym.spaces.Dict({"image": image}))),
                "flags": gym.spaces.MultiBinary(2),
            }
        ),
    }
    if kind not in spaces:
        raise ValueError(f"observation is {kind!r}; choose one of {', '.join(spaces)}.")
    return spaces[kind]


def _answer_space(kind: str) -> gym.Space[Any]:
    spaces: dict[str, gym.Space[Any]] = {
        "discrete": gym.spaces.Discrete(2, start=3),
        "multidiscrete": gym.spaces.MultiDiscrete([2, 2]),
        "multibinary": gym.spaces.MultiBinary(2),
        "box": gym.spaces.Box(-2.0, 2.0, (1,), np.float32),
    }
    if kind not in spaces:
        raise ValueError(f"action is {kind!r}; choose one of {', '.join(spaces)}.")
    return spaces[kind]


class SignalProbe(_Probe):
    """One step: a sign shown in some kind of observation, to be answered in some kind of action.

    Reward for a discrete answer: the share of its components that match, from -1 (none) to 1 (all);
    for a Box: 1 - |action - target|, target ±1. Best return 1; blind, at best 0.

    Args:
        num_envs: number of environments.
        observation: vector, image, discrete, multidiscrete, multibinary, dict or nested.
        action: discrete, multidiscrete, multibinary or box.
    """

    def __init__(
        self,
        num_envs: int = 1,
        observation: str = "vector",
        action: str = "discrete",
        render_mode: str | None = None,
    ) -> None:
        super().__init__(
            num_envs, 1, _signal_space(observation), _answer_space(action), render_mode=render_mode
        )
        self.shown, self.asked = observation, action
        self.memoryless_return = self.best_return = 1.0

    def _reward(self, actions: Any) -> Rewards:
        if self.asked == "box":
            distance = np.abs(actions[:, 0].astype(np.float64) - (2 * self.sign - 1))
            return np.asarray(1.0 - distance)
        if self.asked == "discrete":
            return np.where(actions - 3 == self.sign, 1.0, -1.0)
        return np.asarray(2.0 * (actions == self.sign[:, None]).mean(axis=1) - 1.0)

    def _observe(self) -> Any:
        sign = self.sign
        if self.shown == "vector":
            return np.stack([sign * 0.5, 1.0 - sign, sign * 0.0], axis=1).astype(np.float32)
        if self.shown == "image":
            return self._image()
        if self.shown == "discrete":
            return sign * 2 - 1
        if self.shown == "multidiscrete":
            return np.stack([0 * sign, 1 + sign], axis=1)
        if self.shown == "multibinary":
            return np.stack([sign, 1 - sign, 0 * sign], axis=1).astype(np.int8)
        nothing = np.zeros((self.num_envs, 1), dtype=np.float32)
        if self.shown == "dict":
            return {"blank": nothing, "signal": sign.copy()}
        flags = np.zeros((self.num_envs, 2), dtype=np.int8)
        return {"inner": (nothing, {"image": self._image()}), "flags": flags}

    def _image(self) -> NDArray[np.uint8]:
        """The upper half bright for 1, the lower half for 0."""
        image = np.zeros((self.num_envs, IMAGE, IMAGE, 1), dtype=np.uint8)
        image[:, : IMAGE // 2] = (200 * self.sign).astype(np.uint8)[:, None, None, None]
        image[:, IMAGE // 2 :] = (200 * (1 - self.sign)).astype(np.uint8)[:, None, None, None]
        return image


class MaskProbe(_Probe):
    """One step, three actions that pay 10, 1 and 0; the first is forbidden by the action mask.

    Taking a forbidden action raises, as a strict environment would. Best return 1.
    """

    def __init__(self, num_envs: int = 1, render_mode: str | None = None) -> None:
        super().__init__(num_envs, 1, action_space=gym.spaces.Discrete(3), render_mode=render_mode)
        self.memoryless_return = self.best_return = 1.0

    def _reward(self, actions: Any) -> Rewards:
        if (actions == 0).any():
            raise ValueError("Action 0 is forbidden by the action mask.")
        return np.where(actions == 1, 1.0, 0.0)

    def _infos(self) -> dict[str, NDArray[Any]]:
        mask = np.ones((self.num_envs, 3), dtype=np.int8)
        mask[:, 0] = 0
        return {"action_mask": mask}


class ConstantProbeEnv(SingleEnv):
    """ConstantProbe, one environment."""

    batch_type = ConstantProbe


class ObservationProbeEnv(SingleEnv):
    """ObservationProbe, one environment."""

    batch_type = ObservationProbe


class DiscountProbeEnv(SingleEnv):
    """DiscountProbe, one environment."""

    batch_type = DiscountProbe


class TimeLimitProbeEnv(SingleEnv):
    """TimeLimitProbe, one environment."""

    batch_type = TimeLimitProbe


class MemoryProbeEnv(SingleEnv):
    """MemoryProbe, one environment."""

    batch_type = MemoryProbe


class SignalProbeEnv(SingleEnv):
    """SignalProbe, one environment."""

    batch_type = SignalProbe


class MaskProbeEnv(SingleEnv):
    """MaskProbe, one environment."""

    batch_type = MaskProbe
