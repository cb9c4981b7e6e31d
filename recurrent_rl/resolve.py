"""What settings leave open: the environment, the size of a rollout, the number of workers."""

from __future__ import annotations

import dataclasses
import math

import torch

from recurrent_rl.agents.arguments import check_is
from recurrent_rl.blocks import most_workers
from recurrent_rl.config import ResolvedConfig, TrainConfig
from recurrent_rl.errors import UserError
from recurrent_rl.fields import Workers
from recurrent_rl.process import available_cores, pick_device
from recurrent_rl.signals import is_daemon
from recurrent_rl.vector_env.properties import longest_episode
from recurrent_rl.vector_env.sources import Environment, Source, find_source

STEPS = 128
"""Steps of each environment in a rollout, about, where their number is left to the default."""
ENVIRONMENTS = 8
"""The fewest environments, where their number is left to the default."""
ROLLOUTS = 100
"""Rollouts that a run is to have at least, where the size of a rollout is left to the default, and
long episodes do not make it larger."""
BATCH = 64 * STEPS
"""Steps of all environments in a rollout, where that leaves so many rollouts."""
EPISODES = 32
"""Whole episodes in a rollout, at least: with 8 what had been learnt was lost again on some tasks
(docs/learning.md, "Rollouts and sequences")."""
LARGEST = 5 * BATCH
"""Steps of all environments in a rollout, at most, where long episodes make it larger."""

MINIBATCHES = 4
"""Of a rollout of `BATCH` steps or less, where their number is left to the default and they can be
as many."""

SHARE = 16
"""The fewest environments of a worker, where the number of workers is left to us: with fewer a step
of the agent, and a message, costs more than is shared (docs/performance.md, "Several workers")."""


def source_of(config: TrainConfig, env: Environment | None = None) -> Source:
    """What the environments of a run are made of: `env`, or what its settings name.

    Raises:
        UserError: neither names one, both name others, or there is none of that name.
    """
    if env is None:
        return find_source(config.environment)
    source = find_source(env)
    if config.env_id not in (None, source.name):
        raise UserError(
            f"env_id is {config.env_id!r}, but env is {source.name!r}. Leave one of them out."
        )
    return source


def resolved(config: TrainConfig, source: Source | None = None) -> ResolvedConfig:
    """The settings with what is left to the default filled in; an environment may be made for it.

    Args:
        config: the settings.
        source: what the environments are made of; by default what the settings name. A run that is
            new takes its name.

    Raises:
        UserError: that is no TrainConfig, the environment cannot be made, or sizes do not fit.
    """
    check_is("config", config, TrainConfig, 'a TrainConfig: TrainConfig("CartPole-v1")')
    source = source or source_of(config)
    if config.env_id is None:
        config = dataclasses.replace(config, env_id=source.name)
    sized = config.num_steps is not None
    return choose_sizes(
        config,
        None if sized else longest_episode(source, config.env),
        source.count,
        source.found_by_name,
    )


def choose_sizes(
    config: TrainConfig,
    longest_episode: int | None,
    count: int | None = None,
    found_by_name: bool = True,
) -> ResolvedConfig:
    """The settings with sizes, minibatches and workers chosen where that is left to us.

    The reasons are told.

    Whole episodes are wanted because back-propagation then reaches from a reward to all that it may
    be owed to; nothing else teaches the memory to keep it.

    Args:
        config: the settings; what is resolved already stays.
        longest_episode: the most steps an episode can last; None where that is unknown. It decides
            nothing where `num_steps` is given.
        count: of environments, where they were made before: num_envs is that then, and a rollout
            of few environments is longer, in chunks.
        found_by_name: whether other workers can make the environment.

    Raises:
        UserError: `seq_len` or `num_minibatches` does not divide what it has to.
    """
    if isinstance(config, ResolvedConfig):
        return config
    reasons = {}
    share = config.total_timesteps // ROLLOUTS
    batch = min(BATCH, max(ENVIRONMENTS * STEPS, share))
    parts = config.num_minibatches or MINIBATCHES
    num_steps, num_envs, seq_len = config.num_steps, config.num_envs, config.seq_len
    if num_envs is None and count is not None:
        num_envs, reasons["num_envs"] = count, "as many as were given"
    if num_steps is None:
        num_steps, why = _steps(config, longest_episode, share)
        if count is not None and seq_len is None:
            least = parts // math.gcd(count, parts)  # chunks of each, for minibatches alike
            chunks = least * max(1, batch // (count * num_steps * least))
            if chunks > 1:
                why = f"{chunks} chunks of {num_steps} (seq_len): {why}"
                num_steps, seq_len = chunks * num_steps, num_steps
                reasons["seq_len"] = ""
        reasons["num_steps"] = why
    if num_envs is None:
        wanted = batch
        if config.num_steps is None and longest_episode and num_steps % longest_episode == 0:
            wanted = max(batch, min(EPISODES * longest_episode, LARGEST))
        if config.num_minibatches is None:
            parts = MINIBATCHES * 2 ** round(math.log2(wanted / batch))  # of much the same size
        num_envs, reasons["num_envs"] = _environments(num_steps, wanted, parts)
    if config.num_minibatches is None:
        chunks = num_envs * num_steps // (seq_len or num_steps)
        parts, reasons["num_minibatches"] = _minibatches(chunks, parts)
    sizes = {"num_steps": num_steps, "num_envs": num_envs, "seq_len": seq_len}
    others = {"num_minibatches": parts, "workers": 1, "reasons": reasons}
    chosen = ResolvedConfig(**vars(config) | sizes | others)
    return with_workers(chosen, config.workers, found_by_name)


def with_workers(
    config: ResolvedConfig, workers: Workers, found_by_name: bool = True
) -> ResolvedConfig:
    """The settings with another number of workers; auto chooses it, and says why.

    It is one where other workers cannot make the environment, or none may be started.

    Raises:
        UserError: it is left to us, and there is no such device.
    """
    reasons = {name: why for name, why in config.reasons.items() if name != "workers"}
    if workers != "auto":
        return dataclasses.replace(config, workers=int(workers), reasons=reasons)
    if not found_by_name:
        reasons["workers"] = f"other processes cannot make {config.env_id}"
        return dataclasses.replace(config, workers=1, reasons=reasons)
    if is_daemon():
        reasons["workers"] = "this process, a daemon of multiprocessing, may start no others"
        return dataclasses.replace(config, workers=1, reasons=reasons)
    places, what = _places(config.device)
    most = min(most_workers(config), max(1, config.num_envs // SHARE))
    reasons["workers"] = (
        f"{places} {what}{'s' * (places > 1)}; the {config.num_envs} environments are enough for "
        f"{most}, with at least {SHARE} each"
    )
    return dataclasses.replace(config, workers=min(places, most), reasons=reasons)


def _places(device: str) -> tuple[int, str]:
    """What each worker takes one of, on this machine: how many there are, and what they are."""
    if (kind := pick_device(device).type) == "cpu":
        return available_cores(), "core"
    if device in ("auto", "cuda"):
        return torch.cuda.device_count(), "GPU"
    return 1, f"device {kind}"


def _steps(config: TrainConfig, episode: int | None, share: int) -> tuple[int, str]:
    """Steps of each environment in a rollout, and why so many."""
    longest = min(2 * BATCH, share) // ENVIRONMENTS
    if config.seq_len is not None:
        chunks = max(1, round(STEPS / config.seq_len))
        return chunks * config.seq_len, f"{chunks} times seq_len, about {STEPS} steps"
    if episode is None:
        return STEPS, "the environment states no longest length of its episodes"
    if episode > longest:
        return STEPS, (
            f"episodes of up to {episode:,} steps are too long for rollouts of whole episodes; up "
            f"to {longest:,} steps would do, a {ROLLOUTS}th of this run or {2 * BATCH:,} steps, "
            f"whichever is less, shared by {ENVIRONMENTS} environments"
        )
    count = max(1, round(STEPS / episode))
    return (
        episode * count,
        f"{count} whole {'episode' if count == 1 else 'episodes'} of {episode:,} steps",
    )


def _environments(num_steps: int, wanted: int, parts: int) -> tuple[int, str]:
    """Environments for a rollout of about as many steps as wanted, and why so many."""
    # Each minibatch has as many environments.
    count = parts * max(-(-ENVIRONMENTS // parts), wanted // (num_steps * parts))
    return count, (
        f"rollouts of {count * num_steps:,} steps ({wanted:,} were wanted; environments are at "
        f"least {ENVIRONMENTS}, and a multiple of num_minibatches, {parts})"
    )


def _minibatches(chunks: int, most: int) -> tuple[int, str]:
    """The most minibatches of as many chunks each, and why not more."""
    parts = max(part for part in range(1, most + 1) if chunks % part == 0)
    return parts, "" if parts == most else f"the most up to {most} that divide {chunks} chunks"
