"""Playing episodes with a trained policy, with its memory or without."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import NoneType
from typing import Annotated, Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import VectorEnv

from recurrent_rl.agents.arguments import argument, check_is
from recurrent_rl.agents.generators import sampling_generator
from recurrent_rl.agents.policy import Policy
from recurrent_rl.agents.settings import at_least
from recurrent_rl.episodes import EpisodeStatistics
from recurrent_rl.errors import UserError
from recurrent_rl.fields import Size
from recurrent_rl.runs.evaluation_result import WAYS, Evaluation
from recurrent_rl.runs.failures import close_or_tell
from recurrent_rl.runs.progress import ProgressBar
from recurrent_rl.runs.trained_on import settings_for, shown_to
from recurrent_rl.seeding import Stream, number
from recurrent_rl.signals import StopSignals
from recurrent_rl.vector_env.config import EnvConfig
from recurrent_rl.vector_env.environments import Environments
from recurrent_rl.vector_env.limits import limits_of
from recurrent_rl.vector_env.sources import Environment, Source, find_source
from recurrent_rl.vector_env.vectorize import make_vector_env

EVALUATION_ENVIRONMENTS = 64
"""Environments stepped side by side."""
STEP_LIMIT = 10_000
"""Steps after which an episode is given up, in an environment without a time limit of its own."""


def step_limit(env: VectorEnv, max_steps: int | None) -> int:
    """The steps after which an episode is given up: `max_steps`, else as `evaluate` says.

    Raises:
        SettingError: `max_steps` is below 1, or no number.
    """
    max_steps = argument("max_steps", max_steps, Annotated[int | None, at_least(1)])
    return max_steps or limits_of(env).longest or STEP_LIMIT


def check_spaces(policy: Policy, env: VectorEnv) -> None:
    """Refuse an environment whose spaces are not the policy's.

    A Dict observation may have more keys than the policy reads, such as those of its critic.

    Raises:
        UserError: names both.
    """
    for what, of_policy, of_env in (
        ("observation", policy.observation_space, env.single_observation_space),
        ("action", policy.action_space, env.single_action_space),
    ):
        if of_policy not in (of_env, _read_of(of_policy, of_env)):
            raise UserError(
                f"The policy was trained for the {what} space {of_policy}, but the environment's "
                f"is {of_env}. Name the environment and arguments the policy was trained with."
            )


def _read_of(space: gym.Space[Any], of_env: gym.Space[Any]) -> gym.Space[Any]:
    """Of what an environment observes the keys that are in a space."""
    if not isinstance(space, gym.spaces.Dict) or not isinstance(of_env, gym.spaces.Dict):
        return of_env
    return gym.spaces.Dict([(key, x) for key, x in of_env.spaces.items() if key in space.spaces])


def evaluate(
    policy: Policy,
    env: Environment,
    episodes: int = 100,
    *,
    num_envs: int | None = None,
    env_config: EnvConfig | None = None,
    deterministic: bool = True,
    with_memory: bool = True,
    seed: int | None = None,
    max_steps: int | None = None,
    on_episode: Callable[[int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Evaluation:
    """Play `episodes` episodes.

    Each environment plays its share of the episodes and no more: to take those that finish first
    would favour the short ones. An environment whose episode passes `max_steps` is given up, since
    a vector environment cannot reset one alone: what it still had to play is not begun.

    Args:
        policy: plays.
        env: where it plays: an environment, vector environment, class, function or id, as for
            `train`. A vector environment is in autoreset mode SAME_STEP or NEXT_STEP. Which numbers
            in its infos are kept is its attribute `info_metrics`, as `make_vector_env` sets it.
        episodes: to play in all.
        num_envs: environments that are made for it; by default `EVALUATION_ENVIRONMENTS`, or
            `episodes` where that is less.
        env_config: arguments and wrappers of these environments; by default those of the training
            where `env` is what the policy was trained on, by its id or by its module and name, else
            none. What has no name, such as a lambda, needs them where the training had some.
        deterministic: take the deterministic actions instead of sampling.
        with_memory: false resets the state at every step, which shows what memory is worth.
        seed: of the environments and of stochastic actions.
        max_steps: steps after which an episode is given up; by default the environment's own time
            limit or, where it states none or an episode goes on beyond it, `STEP_LIMIT`.
        on_episode: called with the number of finished episodes, when one is finished and every 100
            steps.
        should_stop: called at each step; true ends early, with the episodes played so far.

    Raises:
        UserError: the environment cannot be made, the policy is for other spaces, `max_steps` is
            below 1, the autoreset mode is DISABLED, what the environment returns is not what its
            spaces declare, or an argument is of another type.
    """
    check_is("policy", policy, Policy, "a Policy, as load_policy(path) gives")
    source = find_source(env)
    episodes = argument("episodes", episodes, Annotated[int, at_least(1)])
    num_envs = argument("num_envs", num_envs, Size | None)
    check_is("env_config", env_config, (EnvConfig, NoneType), "an EnvConfig, or None")
    deterministic = argument("deterministic", deterministic, bool)
    with_memory = argument("with_memory", with_memory, bool)
    seed = argument("seed", seed, Annotated[int | None, at_least(0)])
    for name, callback in (("on_episode", on_episode), ("should_stop", should_stop)):
        check_is(name, callback, (Callable, NoneType), "a function, or None")
    if env_config is None:
        is_made = isinstance(env, VectorEnv)
        env_config = EnvConfig() if is_made else settings_for(policy, source.name)
    with _opened(policy, source, env_config, episodes, num_envs) as made:
        return _played(
            policy,
            made,
            episodes,
            deterministic,
            with_memory,
            seed,
            max_steps,
            on_episode,
            should_stop,
        )


@contextmanager
def _opened(
    policy: Policy, source: Source, config: EnvConfig, episodes: int, num_envs: int | None
) -> Iterator[VectorEnv]:
    """The environments to play in, closed afterwards where they were made here.

    Args:
        policy: plays.
        source: what they are made of.
        config: their settings.
        episodes: to play; there are no more environments than that.
        num_envs: environments; None leaves their number to us.
    """
    if source.count is not None:
        count = num_envs or source.count
    else:
        count = max(1, min(num_envs or EVALUATION_ENVIRONMENTS, episodes))
    env = make_vector_env(source, count, shown_to(policy, config))
    try:
        yield env
    finally:
        close_or_tell(partial(source.close, env))


def _played(
    policy: Policy,
    env: VectorEnv,
    episodes: int,
    deterministic: bool,
    with_memory: bool,
    seed: int | None,
    max_steps: int | None,
    on_episode: Callable[[int], None] | None,
    should_stop: Callable[[], bool] | None,
) -> Evaluation:
    """Play, as `evaluate` says."""
    check_spaces(policy, env)
    environments = Environments(env, policy.agent)
    limit = step_limit(env, max_steps)
    generator = None if deterministic else sampling_generator(seed)
    count = env.num_envs
    quota = np.full(count, episodes // count)
    quota[: episodes % count] += 1
    played = np.zeros(count, dtype=np.int64)
    metrics = environments.info_metrics
    finished = EpisodeStatistics(count, window=None, info_metrics=metrics)
    unfinished = 0

    step = environments.reset(seed)
    state = policy.initial_state(count)
    every = np.ones(count, dtype=bool)
    while (played < quota).any() and not (should_stop and should_stop()):
        start = step.episode_start if with_memory else every
        action, state = policy.choose(
            step.observation,
            state,
            torch.as_tensor(start, device=policy.agent.device),
            step.action_mask,
            step.reward,
            generator,
        )
        counted = step.valid
        step = environments.step(action)
        kept = finished.step(step, counted, environments.steps, wanted=played < quota)
        played += kept
        if on_episode and (kept.any() or environments.steps % 100 == 0):
            on_episode(len(finished.ended))
        if max_steps is None and (finished.running_length >= limit).any():
            limit = max(limit, STEP_LIMIT)  # its time limit is not that of whole episodes
        given_up = (finished.running_length >= limit) & (played < quota)
        unfinished += int(given_up.sum())
        quota[given_up] = 0
    return Evaluation.of(finished.latest(), unfinished, limit, metrics)


def evaluate_ways(
    policy: Policy,
    env: Environment | Source,
    env_config: EnvConfig,
    episodes: int,
    seed: int,
    stop: StopSignals,
    *,
    num_envs: int | None = None,
    compare: bool = True,
    max_steps: int | None = None,
    progress: bool = True,
) -> dict[str, Evaluation]:
    """Play the same episodes in each of the `WAYS`.

    Args:
        policy: plays.
        env: the environment, as for `evaluate`.
        env_config: its settings.
        episodes: to play in each way.
        seed: training with the same seed saw other episodes.
        stop: a signal ends the playing early.
        num_envs: environments at most; as for `evaluate`.
        compare: false plays only the first way. A policy without memory does not play without it.
        max_steps: as for `evaluate`.
        progress: show a progress bar.

    Returns:
        What was played, by the names in `WAYS`; nothing where a signal cut it short, since that
        would favour short episodes.

    Raises:
        UserError: as `make_vector_env` and `evaluate`.
    """
    source = env if isinstance(env, Source) else find_source(env)
    played = {}
    with _opened(policy, source, env_config, episodes, num_envs) as made:
        at_most = {"at most": f"{step_limit(made, max_steps):,} steps each"}
        for name, way in WAYS.items():
            if (name != "deterministic" and not compare) or stop:
                break
            if policy.config.memory == "none" and not way.with_memory:
                continue
            label = f"Evaluating, {way.label}"
            with ProgressBar(label, episodes, "episodes", visible=progress) as bar:
                played[name] = evaluate(
                    policy,
                    made,
                    episodes,
                    deterministic=way.deterministic,
                    with_memory=way.with_memory,
                    seed=number(seed, Stream.EVALUATION),
                    max_steps=max_steps,
                    on_episode=partial(bar.update, metrics=at_most),
                    should_stop=lambda: bool(stop),
                )
    return {} if stop else played
