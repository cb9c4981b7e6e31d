"""Parts of an agent that are not the library's: what the tests register, name and load."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recurrent_rl.agents.distributions import Distribution, MultiCategorical
from recurrent_rl.agents.heads import ActionHead, DiscreteHead
from recurrent_rl.agents.memory.contract import Memory
from recurrent_rl.agents.named_parts import PARTS


class WindowState(NamedTuple):
    """The last inputs, and how many there were."""

    window: Tensor
    """`[1, B, size, hidden]`: no layers, and more than one axis of its own."""
    clock: Tensor
    """int64 `[1, B]`."""


class Window(Memory):
    """The mean of the last three inputs of the episode, by `step` alone."""

    size = 3

    def __init__(self, input_size: int, hidden_size: int, num_layers: int) -> None:
        super().__init__(input_size, hidden_size)
        self.enter = nn.Linear(input_size, hidden_size)

    def initial_state(self, batch: int) -> WindowState:
        weight = self.enter.weight
        return WindowState(
            weight.new_zeros(1, batch, self.size, self.output_size),
            weight.new_zeros(1, batch, dtype=torch.int64),
        )

    def step(
        self, x: Tensor, state: WindowState, episode_start: Tensor | None = None
    ) -> tuple[Tensor, WindowState]:
        window, clock = self.reset(state, episode_start)
        window = torch.cat([window[:, :, 1:], self.enter(x)[None, :, None]], 2)
        clock = clock + 1
        return torch.tanh(window[0].sum(1) / clock[0, :, None].clamp(max=self.size)), WindowState(
            window, clock
        )


class CountState(NamedTuple):
    """Steps of the episode so far, int32 `[1, B]`."""

    clock: Tensor


class Counter(Memory):
    """The input, and the steps of the episode so far: nothing in its state has a gradient."""

    state_type = CountState

    def __init__(self, input_size: int, hidden_size: int, num_layers: int) -> None:
        super().__init__(input_size, input_size + 1)

    def initial_state(self, batch: int) -> CountState:
        return CountState(torch.zeros(1, batch, dtype=torch.int32))

    def step(
        self, x: Tensor, state: CountState, episode_start: Tensor | None = None
    ) -> tuple[Tensor, CountState]:
        (clock,) = self.reset(state, episode_start)
        return torch.cat([x, clock[0, :, None].to(x.dtype)], -1), CountState(clock + 1)


class LatchState(NamedTuple):
    """The first input of the episode, `[1, B, F]`; and whether there was one, bool `[1, B]`."""

    first: Tensor
    there: Tensor


class Latch(Memory):
    """Shows the first input of the episode at every step."""

    def __init__(self, input_size: int, hidden_size: int, num_layers: int) -> None:
        super().__init__(input_size, input_size)

    def initial_state(self, batch: int) -> LatchState:
        none = torch.zeros(1, batch, dtype=torch.bool)
        return LatchState(torch.zeros(1, batch, self.input_size), none)

    def step(
        self, x: Tensor, state: LatchState, episode_start: Tensor | None = None
    ) -> tuple[Tensor, LatchState]:
        first, there = self.reset(state, episode_start)
        first = torch.where(there.unsqueeze(-1), first, x)
        return first[0], LatchState(first, torch.ones_like(there))


class DelayState(NamedTuple):
    """The last input and the one before, `[1, B, F]` each."""

    last: Tensor
    before: Tensor


class Delay(Memory):
    """Shows the input of two steps before: a tensor of its state becomes the other."""

    def __init__(self, input_size: int, hidden_size: int, num_layers: int) -> None:
        super().__init__(input_size, input_size)

    def initial_state(self, batch: int) -> DelayState:
        return DelayState(*torch.zeros(2, 1, batch, self.input_size))

    def step(
        self, x: Tensor, state: DelayState, episode_start: Tensor | None = None
    ) -> tuple[Tensor, DelayState]:
        last, before = self.reset(state, episode_start)
        return before[0], DelayState(x[None], last)


class PlaneState(NamedTuple):
    """Complex numbers by their parts, `[1, B, F, 2]`."""

    h: Tensor


class Plane(Memory):
    """Products and squares of complex numbers, whose parts are read alone too."""

    state_type = PlaneState

    def __init__(self, input_size: int, hidden_size: int, num_layers: int) -> None:
        super().__init__(input_size, hidden_size)
        self.enter = nn.Linear(input_size, 4 * hidden_size)

    def initial_state(self, batch: int) -> PlaneState:
        return PlaneState(torch.zeros(1, batch, self.output_size, 2))

    def step(
        self, x: Tensor, state: PlaneState, episode_start: Tensor | None = None
    ) -> tuple[Tensor, PlaneState]:
        (h,) = self.reset(state, episode_start)
        a, b, c, d = self.enter(x).chunk(4, -1)
        z, w = torch.complex(a, b), torch.complex(c, d)
        h = torch.tanh(torch.view_as_real(z * w + z * z + torch.view_as_complex(h[0])))
        return h.sum(-1) + torch.tanh(a + b), PlaneState(h[None])


class Frozen(nn.Module):
    """Features of a network that stays as it is, as one that was trained elsewhere."""

    def __init__(self, space: gym.Space[Any]) -> None:
        super().__init__()
        self.output_size = 5
        size = int(np.prod(space.shape or (1,)))
        self.backbone = nn.Sequential(nn.Linear(size, 5), nn.Tanh())
        self.backbone.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.backbone(x.float().view(len(x), -1))  # type: ignore[no-any-return]


class OfDict(nn.Module):
    """Features of an observation of several components."""

    def __init__(self, space: gym.spaces.Dict) -> None:
        super().__init__()
        self.paths = list(space.spaces)
        self.output_size = sum(int(np.prod(part.shape or (1,))) for part in space.values())

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        return torch.cat([x[path].float().view(len(x[path]), -1) for path in self.paths], -1)


class Telling(nn.Module):
    """Tells of the types and numbers that it is shown, and takes them as they come."""

    seen: ClassVar[list[Tensor]] = []

    def __init__(self, space: gym.Space[Any]) -> None:
        super().__init__()
        self.output_size = size = int(np.prod(space.shape or (1,)))
        self.layer = nn.Linear(size, size)

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x)
        x = (x * 8 - 1).reshape(-1, self.output_size)
        x = self.layer(x if x.is_floating_point() else x.float())
        return x / (1 + x.abs())


class Bins(ActionHead):
    """A Box in eleven steps from bound to bound, each entry a categorical of its own."""

    action_dtype = torch.int64
    bins = 11

    def __init__(self, space: gym.spaces.Box, input_size: int) -> None:
        self_size = int(np.prod(space.shape))
        super().__init__(space, input_size, self.bins * self_size)
        self.action_shape = (self_size,)
        self.sizes = [self.bins] * self_size

    def forward(
        self, features: Tensor, mask: Tensor | None = None, previous: Tensor | None = None
    ) -> Distribution:
        return MultiCategorical(self.linear(features), self.sizes)

    def fill_noise(self, drawn: Tensor, generator: torch.Generator) -> Tensor:
        return drawn.exponential_(generator=generator).clamp_(min=1e-30)

    def to_env(self, action: Tensor) -> NDArray[Any]:
        space = self.space
        assert isinstance(space, gym.spaces.Box)
        share = action.cpu().numpy().reshape(*action.shape[:-1], *space.shape) / (self.bins - 1)
        return (space.low + (space.high - space.low) * share).astype(space.dtype)


class Maskless(DiscreteHead):
    """For discrete actions, none of which can be forbidden."""

    def __init__(self, space: gym.spaces.Discrete, input_size: int) -> None:
        super().__init__(space, input_size)
        self.mask_size = None


@contextmanager
def as_before() -> Iterator[None]:
    """What is registered inside is unknown again afterwards."""
    before = {kind: (dict(parts), dict(parts._by_path)) for kind, parts in PARTS.items()}
    yield
    for kind, parts in PARTS.items():
        parts.clear()
        parts.update(before[kind][0])
        parts._by_path = before[kind][1]
