"""Running statistics that live in the policy: of observations, and of returns."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

import gymnasium as gym
import torch
from torch import Tensor, nn

from recurrent_rl.agents.fixed_parts import FixedParts, FixedPartsList
from recurrent_rl.agents.moments import Moments, Total
from recurrent_rl.agents.preprocessing import RUNNING
from recurrent_rl.agents.spaces import Components, is_image

CLIP = 10.0
TINY = 1e-12
"""The least standard deviation to divide by: smaller ones are errors of rounding."""
SETTLED = 10
"""As much data as so many whole rollouts have must be in: before, statistics are a first guess."""


class Rescaling(NamedTuple):
    """What normalised data was before an update: what it is now * factor + summand, `[*shape]`."""

    factor: Tensor
    summand: Tensor


class RunningMoments(nn.Module):
    """Mean and variance of all data seen, merged batch by batch (Chan et al. 1979).

    The identity before the first update. A standard deviation below one or two millionths of the
    mean, or below `TINY`, is one of rounding; data is never scaled up by more.
    """

    mean: Tensor
    var: Tensor
    count: Tensor
    scale: Tensor
    shift: Tensor

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("var", torch.ones(shape, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        # What `forward` multiplies by and adds: single precision, computed once per update.
        self.register_buffer("scale", torch.ones(shape))
        self.register_buffer("shift", torch.zeros(shape))

    @torch.no_grad()
    def update(self, moments: Moments, most: Tensor) -> Rescaling | None:
        """Take in the moments of data `[n, *shape]`.

        Args:
            moments: of what counts.
            most: n where all of a rollout counts. It is the same in each update, so that
                statistics that have settled stay so.

        Returns:
            How to get back what data was normalised to before; an entry whose scale more than
            doubles or halves was hardly seen yet, and is said to be as it was. None before the
            statistics have `SETTLED`, and where there are no data.
        """
        added = moments.number
        if added == 0:
            return None
        mean, scale = self.mean.clone(), self.scale.clone()
        total = self.count + added
        delta = moments.mean - self.mean
        squares = self.var * self.count + moments.var * added
        var = (squares + delta.square() * self.count * added / total) / total
        self.take(self.mean + delta * added / total, var, total)
        if total < SETTLED * most:
            return None
        factor, summand = scale / self.scale, (self.mean - mean) * scale
        known = (factor >= 0.5) & (factor <= 2)
        return Rescaling(factor.where(known, 1.0), summand.to(scale.dtype).where(known, 0.0))

    @torch.no_grad()
    def take(self, mean: Tensor, var: Tensor, count: Tensor | float) -> None:
        """Be the moments `[*shape]` of so much data."""
        self.mean.copy_(mean)
        self.var.copy_(var)
        self.count.copy_(torch.as_tensor(count))
        floor = (1e-6 * self.mean.abs()).clamp(min=TINY)
        # Up to a power of two, which rounds nothing: what never changes becomes exactly zero.
        floor /= torch.frexp(floor).mantissa
        scale = 1 / torch.maximum(self.var.sqrt(), floor)
        self.scale.copy_(scale)
        self.shift.copy_(-self.mean * scale)

    def forward(self, x: Tensor) -> Tensor:
        """(x - mean) / std, clipped to ±10; float32 `[..., *shape]`."""
        return torch.addcmul(self.shift, x.float(), self.scale).clamp(-CLIP, CLIP)


class ObservationNormaliser(FixedParts):
    """Scales components to zero mean and unit variance by what was seen of them.

    Each entry of a vector has statistics of its own; the pixels of an image share theirs.

    Args:
        component_spaces: of each component by path, from `spaces.component_spaces`.
        scaling: of each component, from `preprocessing.scaling_of`; here those of `RUNNING` are.
        silenced: components that are not shown at an episode's first step.
    """

    def __init__(
        self,
        component_spaces: dict[str, gym.Space[Any]],
        scaling: dict[str, str],
        silenced: Collection[str] = (),
    ) -> None:
        super().__init__()
        self.silenced = silenced
        self.paths = [path for path in component_spaces if scaling[path] in RUNNING]
        # By position, since a path may hold what a module's name may not.
        shapes = [() if is_image(space := component_spaces[p]) else space.shape for p in self.paths]
        moments = [RunningMoments(shape or ()) for shape in shapes]
        self.moments = FixedPartsList(moments)
        self._moments = list(zip(self.paths, moments, strict=True))
        self.moments.fix_parts()
        self.fix_parts()

    def update(
        self,
        components: Components,
        valid: Tensor,
        episode_start: Tensor | None = None,
        total: Total = list,
    ) -> dict[str, Rescaling]:
        """Take in what was shown of components.

        Args:
            components: by path, `[T, B, ...]`.
            valid: bool `[T, B]`; false where they do not count.
            episode_start: bool `[T, B]`; true where silenced ones are not shown. None: nowhere.
            total: adds up the moments of all workers.

        Returns:
            By path what `RunningMoments.update` says.
        """
        goes_on = valid if episode_start is None else valid & ~episode_start
        seen = [Moments.of(valid.flatten())]
        for path, running in self._moments:
            x = components[path][goes_on if path in self.silenced else valid]
            seen.append(Moments.of(x if running.mean.dim() else x.flatten()))
        of_rows, *seen = total(seen)
        rescalings = {}
        for (path, running), moments in zip(self._moments, seen, strict=True):
            of_a_row = 1 if running.mean.dim() else components[path][0, 0].numel()
            rescaling = running.update(moments, of_rows.number * of_a_row)
            if rescaling is not None:
                rescalings[path] = rescaling
        return rescalings

    def forward(self, components: Components) -> Components:
        """The components, those with statistics scaled."""
        if not self.paths:
            return components
        return components | {
            path: moments.forward(components[path]) for path, moments in self._moments
        }


class ReturnNormaliser(nn.Module):
    """Lets the critic's last layer predict returns of zero mean and unit variance.

    Mean and standard deviation are exponential moving averages over updates, of rate 0.05 with
    bias correction, so that the first update takes over wholly. Later ones rescale the layer so
    that its outputs in units of return stay as they were: PopArt (van Hasselt et al. 2016, eq. 9).
    Before the first, the untrained layer says zero; after it, the mean. Were the zero kept, the
    layer would begin as many standard deviations off as the mean is large.
    The standard deviation never falls below 1e-2 of the mean's size or `TINY`: returns that do not
    vary would make any error infinite. Above `TINY` no floor has a unit: rewards a million times as
    large or as small are learnt alike.
    """

    RATE = 0.05
    mean: Tensor
    std: Tensor
    first: Tensor
    second: Tensor
    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("std", torch.ones(()))
        for name in ("first", "second", "weight"):  # moments, and the weight gathered so far
            self.register_buffer(name, torch.zeros((), dtype=torch.float64))
        self._was_untrained = False
        """Whether the last update was the first."""

    @torch.no_grad()
    def update(self, returns: Moments, value_head: nn.Linear) -> None:
        """Take in the moments of returns and rescale the layer that predicts them."""
        if returns.number == 0:
            return
        self._was_untrained = bool(self.weight == 0)
        self.first.lerp_(returns.mean, self.RATE)
        self.second.lerp_(returns.squares / returns.number, self.RATE)
        self.weight.lerp_(torch.ones_like(self.weight), self.RATE)
        mean = self.first / self.weight
        var = (self.second / self.weight - mean.square()).clamp(min=0)
        floor = torch.clamp(1e-2 * mean.abs(), min=TINY)
        std = torch.maximum(var.sqrt(), floor)
        new_mean, new_std = mean.to(self.mean.dtype), std.to(self.std.dtype)
        if not self._was_untrained:
            # W <- s W / s',  b <- (s b + m - m') / s'
            value_head.weight.mul_(self.std / new_std)
            value_head.bias.mul_(self.std).add_(self.mean - new_mean).div_(new_std)
        self.mean.copy_(new_mean)
        self.std.copy_(new_std)

    def value_clip(self, clip_value: float | None) -> float | None:
        """How far a value may move from what was said before the last update; None: freely.

        So it may after the first: the zeros of the untrained layer hold nothing back.
        """
        return None if self._was_untrained else clip_value

    def denormalise(self, value: Tensor) -> Tensor:
        """From the layer's units to units of return."""
        return torch.addcmul(self.mean, value, self.std)


class AdvantageNormaliser(nn.Module):
    """Scales the advantages of a rollout to zero mean and to a variance of at most one.

    They are divided by their own standard deviation or by a running one, whichever is larger; the
    running variance is an exponential moving average over rollouts, of rate 0.05 with bias
    correction. Where rewards are rare most rollouts hold none. Their advantages are the critic's
    errors and nothing else, and blown up to unit variance would move the policy as far as a reward
    does, until it is sure of what it never learnt.
    """

    RATE = 0.05
    var: Tensor
    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("var", "weight"):  # and the weight gathered so far
            self.register_buffer(name, torch.zeros((), dtype=torch.float64))

    @torch.no_grad()
    def forward(self, advantages: Tensor, moments: Moments) -> Tensor:
        """Take in the moments of a rollout's advantages and scale them.

        Args:
            advantages: `[T, B]`.
            moments: of those that count; the others are scaled alike.
        """
        if moments.number == 0:
            return advantages
        own = moments.var
        self.var.lerp_(own, self.RATE)
        self.weight.lerp_(torch.ones_like(self.weight), self.RATE)
        std = torch.maximum(own, self.var / self.weight).sqrt().clamp(min=TINY)
        return ((advantages - moments.mean) / std).to(advantages.dtype)
