"""A policy that plays in one environment while somebody looks on, which changes nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from gymnasium.vector import SyncVectorEnv
from numpy.typing import NDArray

from recurrent_rl.agents.memory.states import MemoryState
from recurrent_rl.agents.policy import Policy
from recurrent_rl.agents.policy_state import PolicyState
from recurrent_rl.errors import UserError
from recurrent_rl.runs.evaluation import evaluate
from recurrent_rl.runs.evaluation_result import Evaluation
from recurrent_rl.runs.trained_on import settings_for, shown_to
from recurrent_rl.runs.watching.filmed import Filmed, Mode, OnMoment
from recurrent_rl.vector_env.config import EnvConfig
from recurrent_rl.vector_env.sources import Environment, Source, find_source
from recurrent_rl.vector_env.vectorize import make_vector_env

STEPS_PER_SECOND = 4
"""Where an environment does not say how fast it is shown: a card has to be read."""


class _Watched(Policy):
    """A policy whose memory is looked at each time it has chosen."""

    def __init__(self, policy: Policy, on_state: Callable[[MemoryState], object]) -> None:
        super().__init__(policy.agent, policy.summary)
        self._on_state = on_state

    def choose(
        self,
        arrays: Mapping[str, NDArray[Any]],
        state: PolicyState,
        *rest: Any,
    ) -> tuple[NDArray[Any], PolicyState]:
        """As the policy chooses."""
        actions, after = super().choose(arrays, state, *rest)
        self._on_state(self.agent.split_state(after.memory)[0])
        return actions, after


class Stage:
    """One environment in which a policy plays while somebody looks on.

    Args:
        policy: plays.
        env: where, as for `evaluate`, but no vector environment.
        config: settings of the environment; by default those of the training where it is the one
            that the policy was trained on.
        mode: how the environment is to draw itself, where it can.

    Raises:
        UserError: the environment cannot be made, or not alone.
    """

    def __init__(
        self,
        policy: Policy,
        env: Environment | Source,
        config: EnvConfig | None = None,
        mode: Mode = "rgb_array",
    ) -> None:
        self._source = env if isinstance(env, Source) else find_source(env)
        if self._source.one is None:
            raise UserError(
                f"{self._source.name} steps its environments together, and one alone is shown. "
                "Give the class or a function that makes one environment."
            )
        if config is None:
            config = settings_for(policy, self._source.name)
        self._env = env = _alone(self._source, shown_to(policy, config), mode)
        # Outermost: it sees what the policy sees.
        self._filmed = env.envs[0] = Filmed(env.envs[0], mode, policy.agent.reader.hide_indices)
        self._policy = _Watched(policy, self._filmed.read)

    @property
    def renders(self) -> bool:
        """Whether the environment draws itself; a card stands for one that does not."""
        return self._filmed.renders

    @property
    def fps(self) -> float:
        """Steps per second at which the environment is usually shown."""
        if not self._filmed.renders:
            return STEPS_PER_SECOND
        return float(self._filmed.metadata.get("render_fps") or STEPS_PER_SECOND)

    def play(
        self,
        episodes: int,
        on_moment: OnMoment,
        *,
        deterministic: bool = True,
        with_memory: bool = True,
        seed: int | None = None,
        max_steps: int | None = None,
        on_episode: Callable[[int], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> Evaluation:
        """Play so many episodes: those that `evaluate` plays on its first environment.

        Args:
            episodes: to play.
            on_moment: told of each observation once the policy has read it, and of the last one.
            deterministic: as for `evaluate`.
            with_memory: as for `evaluate`.
            seed: as for `evaluate`.
            max_steps: as for `evaluate`.
            on_episode: as for `evaluate`.
            should_stop: as for `evaluate`.

        Raises:
            UserError: as `evaluate`.
        """
        self._filmed.on_moment = on_moment
        return evaluate(
            self._policy,
            self._env,
            episodes,
            deterministic=deterministic,
            with_memory=with_memory,
            seed=seed,
            max_steps=max_steps,
            on_episode=on_episode,
            should_stop=should_stop,
        )

    def close(self) -> None:
        """Close the environment, if it was made here."""
        self._source.close(self._env)

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _alone(source: Source, config: EnvConfig, mode: Mode) -> SyncVectorEnv:
    """One environment, which draws itself in this mode where it can."""

    def made(kwargs: dict[str, Any]) -> SyncVectorEnv:
        changed = dataclasses.replace(config, env_kwargs=kwargs, vectorization="sync")
        env = make_vector_env(source, 1, changed)
        assert isinstance(env, SyncVectorEnv)
        return env

    env = made(config.env_kwargs)
    if source.given is not None or "render_mode" in config.env_kwargs:
        return env
    if mode not in env.envs[0].metadata.get("render_modes", ()):
        return env
    env.close()
    try:
        return made({**config.env_kwargs, "render_mode": mode})
    except UserError as error:
        if not isinstance(error.__cause__, TypeError):
            raise
        return made(config.env_kwargs)  # it takes no argument render_mode
