"""Environments whose infos hold numbers, for the tests of `info_metrics`.

`t` counts the steps of the episode, `odd` is told at odd steps alone, `end` at the last alone.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray

from recurrent_rl.envs.recall import Recall


class Telling(gym.Env[Any, Any]):
    """Episodes of 2 to 5 steps, a reward of 1 at each."""

    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Discrete(2)
    form: Any = float
    says_none = True

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t, self.length = 0, int(self.np_random.integers(2, 6))
        return np.zeros(2, np.float32), {"t": self.form(1e9), "odd": self.form(1e9)}

    def step(self, action: Any) -> Any:
        self.t += 1
        over = self.t == self.length
        info: dict[str, Any] = {"t": self.form(self.t), "of no concern": object()}
        if self.t % 2:
            info["odd"] = self.form(self.t)
        if over or self.says_none:
            info["end"] = self.form(10 * self.t) if over else None
        return np.zeros(2, np.float32), 1.0, over, False, info


class Plain(Telling):
    """Tells of nothing by leaving it out alone: Gymnasium cannot put None beside numbers."""

    says_none = False


class Succeeding(Telling):
    """Tells of success under another name than ours."""

    key = "success"

    def step(self, action: Any) -> Any:
        *others, over, cut, info = super().step(action)
        return *others, over, cut, {"t": info["t"], self.key: over}


class Started(Telling):
    """Refuses to be in a process that was not started in this way, or has another policy."""

    def __init__(self, method: str, policy: int | None) -> None:
        if (own := (multiprocessing.get_start_method(), scheduling_policy())) != (method, policy):
            raise ValueError(f"started by {own}, not by {method, policy}")


def scheduling_policy() -> int | None:
    """By which this thread is given a core; None where the system has none."""
    return os.sched_getscheduler(0) if sys.platform == "linux" else None


def recording(**_: Any) -> gym.Env[Any, Any]:
    """Rewards of 1 that are made half of it outside of RecordEpisodeStatistics."""
    inner = gym.wrappers.RecordEpisodeStatistics(Telling())
    return gym.wrappers.TransformReward(inner, lambda reward: 0.5 * float(reward))


class TellingBatch(Recall):
    """A task that tells its exact state, and a number of each environment at each step."""

    def _infos(self) -> dict[str, NDArray[Any]]:
        return {"t": self.t.astype(np.float32), "odd": np.sin(1.0 + self.t)}


class FallsSilent(Recall):
    """Cannot tell its state from the 30th step on, in the first worker or in the others."""

    def __init__(self, num_envs: int, first: bool) -> None:
        super().__init__(num_envs)
        self.fails = first == (multiprocessing.parent_process() is None)
        self.steps = 0

    def step(self, actions: Any) -> Any:
        self.steps += 1
        return super().step(actions)

    def state_dict(self) -> Any:
        if self.fails and self.steps >= 30:
            raise RuntimeError("no state today")
        return super().state_dict()


def several(num_envs: int, mode: AutoresetMode) -> SyncVectorEnv:
    return SyncVectorEnv([Plain] * num_envs, autoreset_mode=mode)


HERE = "tests.recurrent_rl.telling_envs"
if "Telling-v0" not in gym.registry:
    gym.register("Telling-v0", lambda **_: Telling())
    gym.register("Recording-v0", recording)
    gym.register("TellingBatch-v0", vector_entry_point=lambda **kwargs: TellingBatch(**kwargs))
    for mode in (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP):
        entry = partial(several, mode=mode)
        gym.register(f"Telling{mode.name}-v0", vector_entry_point=entry)
