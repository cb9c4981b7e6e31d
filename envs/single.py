"""One environment, as Gymnasium has them, made of the class that steps N."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.vector.utils import iterate

from recurrent_rl.envs.batch import RENDERING, BatchEnv


class SingleEnv(gym.Env[Any, Any]):
    """A batch-first environment with N = 1, as a plain Gymnasium environment.

    A subclass names its `batch_type`; keyword arguments go there.
    """

    batch_type: ClassVar[type[BatchEnv]]
    metadata: dict[str, Any] = dict(RENDERING)  # noqa: RUF012

    def __init__(self, render_mode: str | None = None, **kwargs: Any) -> None:
        if render_mode is not None:  # a subclass may know of none
            kwargs["render_mode"] = render_mode
        self.batch = self.batch_type(num_envs=1, **kwargs)
        self.metadata = self.metadata | {"render_fps": self.batch.metadata["render_fps"]}
        self.observation_space = self.batch.single_observation_space
        self.action_space = self.batch.single_action_space
        self.max_episode_steps = self.batch.max_episode_steps
        self.memoryless_return = self.batch.memoryless_return
        self.best_return = self.batch.best_return
        self.render_mode = render_mode

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start a new episode; a seed makes it and all that follow repeatable."""
        super().reset(seed=seed)
        observation, infos = self.batch.reset(seed=seed, options=options)
        self._np_random = self.batch.streams.generators[0]
        info = {name: value[0] for name, value in infos.items() if not name.startswith("_")}
        return self._first(observation), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step; at an episode's end the observation is its last one."""
        batch = self.batch
        rewards, terminated, truncated = batch._advanced(np.asarray(action)[None])
        info: dict[str, Any] = {name: value[0] for name, value in batch._infos().items()}
        success = batch._success() if terminated[0] or truncated[0] else None
        if success is not None:
            info["is_success"] = bool(success[0])
        observation = self._first(batch._observe())
        return observation, float(rewards[0]), bool(terminated[0]), bool(truncated[0]), info

    def unseen(self) -> dict[str, Any]:
        """What is not shown now and a policy has to remember, as `BatchEnv.unseen`."""
        return self.batch.unseen(0)

    def render(self) -> Any:
        """The card of the environment as it is, as `BatchEnv.render`."""
        cards = self.batch.render()
        return None if cards is None else cards[0]

    def _first(self, observation: Any) -> Any:
        return next(iter(iterate(self.batch.observation_space, observation)))
