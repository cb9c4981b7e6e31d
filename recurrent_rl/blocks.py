"""Which environments a worker steps, and its part of every minibatch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from recurrent_rl.config import ResolvedConfig
from recurrent_rl.errors import UserError


@dataclass(frozen=True)
class Block:
    """Neighbouring environments among all of a run: those of one worker."""

    first: int
    """The number of the first among all."""
    count: int
    """How many they are."""
    total: int
    """How many the run has."""

    @classmethod
    def whole(cls, total: int) -> Block:
        """All environments, where one worker steps them."""
        return cls(0, total, total)

    @property
    def rows(self) -> slice:
        """Their places among all."""
        return slice(self.first, self.first + self.count)

    def holds(self, environment: int) -> bool:
        """Whether this one, by its number among all, is in the block."""
        return self.first <= environment < self.first + self.count

    def own(self, chunks: Tensor) -> Tensor:
        """Of these chunks of the whole rollout those of this block, as its own rollout has them.

        Chunk k of environment b is column `k * total + b` of the whole rollout.
        """
        times, environments = chunks // self.total, chunks % self.total - self.first
        ours = (environments >= 0) & (environments < self.count)
        return times[ours] * self.count + environments[ours]


def stratum(config: ResolvedConfig) -> int:
    """How many neighbouring environments have, together, as many chunks for each minibatch.

    The fewest that do: a minibatch takes its share from each such stratum, and a worker that steps
    whole strata has its part of every minibatch.
    """
    times = config.num_chunks // config.num_envs
    return config.num_minibatches // math.gcd(config.num_minibatches, times)


def most_workers(config: ResolvedConfig) -> int:
    """How many workers can share the environments: one for each stratum."""
    return config.num_envs // stratum(config)


def block_of(config: ResolvedConfig, rank: int, size: int) -> Block:
    """The environments of a worker: whole strata, as even as they divide.

    Raises:
        UserError: there are more workers than strata.
    """
    strata, environments = most_workers(config), config.num_envs
    if size > strata:
        raise UserError(
            f"workers is {size}; the {environments} environments make {strata} group"
            f"{'s' * (strata > 1)} of {stratum(config)} with a part of each of the "
            f"{config.num_minibatches} minibatches. Use at most {strata} "
            f"worker{'s' * (strata > 1)}, or raise num_envs to {size * stratum(config)}."
        )
    begin, end = (strata * worker // size * stratum(config) for worker in (rank, rank + 1))
    return Block(begin, end - begin, environments)


def shuffled_chunks(config: ResolvedConfig, generator: torch.Generator) -> Tensor:
    """The chunks of each minibatch for one epoch, `[num_minibatches, C / num_minibatches]`.

    Each minibatch takes its share from each stratum, at random within the stratum. They are the
    same whatever the number of workers.
    """
    size, environments = stratum(config), config.num_envs
    times = config.num_chunks // environments  # chunks of one environment
    # [strata, times * size]
    columns = torch.arange(config.num_chunks).view(times, environments // size, size)
    strata = columns.transpose(0, 1).flatten(1)
    order = torch.rand(strata.shape, generator=generator, dtype=torch.float32).argsort(dim=1)
    shares: Tensor = strata.gather(1, order).unflatten(1, (config.num_minibatches, -1))
    return shares.transpose(0, 1).flatten(1)
