"""Memory: what all memories promise.

Every memory keeps three promises. The state goes in and comes out; nothing is kept in the module.
Where `episode_start` is true the state is reset before the input is read. `unroll` equals repeated
`step`, in values and in gradients, for any pattern of resets.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from numbers import Integral
from typing import Annotated, Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from recurrent_rl.agents.arguments import argument, check_is
from recurrent_rl.agents.kernels import MemoryInputError
from recurrent_rl.agents.memory.states import MemoryState, NoState, State, map_state, tensors_of
from recurrent_rl.agents.settings import at_least


class Reads(NamedTuple):
    """What a head of a memory reads at each step, `[num_layers, T, B]`."""

    steps: Tensor
    """Over how many steps of the sequence the read is spread: 1 where it is of one step alone. The
    participation ratio (sum |w|)^2 / sum w^2 of their weights w; 0 where nothing is read."""
    share: Tensor
    """Of the heads' effect on the output: how far it is moved by this head's read, among them."""


class Memory(nn.Module):
    """What all memories share, and the base of one of your own.

    A memory of your own defines `initial_state` and `step`, and is made as `MyMemory(input_size,
    hidden_size, num_layers)`. Its state is a NamedTuple of tensors of any shapes and types whose
    axis 1 is the batch; the methods take a state as `Any`, so that yours can name that NamedTuple
    as its type. `unroll` is made of `step`; define it too where a sequence can be computed
    quicker than step by step. `recurrent_rl.testing.check_memory` tries all that is promised here.

    Args:
        input_size: features of an input.
        output_size: features of an output.
    """

    state_type: ClassVar[type[Any]] = tuple
    """The NamedTuple that a state is; where it is said, another is refused by name."""
    gate_names: ClassVar[tuple[str, ...]] = ()
    dtypes: ClassVar[tuple[torch.dtype, ...]] = (torch.float32, torch.float64)
    """The types that the weights may have, by `memory.to(dtype)`."""

    def __init__(self, input_size: int, output_size: int) -> None:
        super().__init__()
        self.input_size = input_size
        self.output_size = output_size

    def initial_state(self, batch: int) -> MemoryState:
        """A fresh state for `batch` streams, of the parameters' type and on their device."""
        raise NotImplementedError

    def reset(self, state: State, episode_start: Tensor | None) -> State:
        """The state with fresh streams where an episode starts: how a `step` begins.

        Args:
            state: of `B` streams.
            episode_start: bool `[B]`; None: nowhere.
        """
        if episode_start is None:
            return state

        def chosen(x: Tensor, fresh: Tensor) -> Tensor:
            return torch.where(episode_start.view(1, -1, *[1] * (x.dim() - 2)), fresh, x)

        # Not len(), which would fix the batch of a step that is exported.
        return map_state(chosen, state, self.initial_state(episode_start.shape[0]))

    def step(
        self, x: Tensor, state: Any, episode_start: Tensor | None = None
    ) -> tuple[Tensor, MemoryState]:
        """One time step.

        Args:
            x: `[B, input_size]`.
            state: after the previous step.
            episode_start: bool `[B]`; true resets the state before `x` is read. None: all false.

        Returns:
            The output `[B, output_size]`, and the new state.

        Raises:
            MemoryInputError: a shape is not as said here, or x or the state is not of the weights'
                type, float32 or float64, and on their device.
        """
        self._check(x, state, episode_start, ("B",))
        return self._step(x, state, episode_start)

    def unroll(
        self, x: Tensor, state: Any, episode_start: Tensor | None = None
    ) -> tuple[Tensor, MemoryState]:
        """A sequence: equal to repeated `step`.

        Args:
            x: `[T, B, input_size]`, of one step at least.
            state: before the first step.
            episode_start: bool `[T, B]`; None: all false.

        Returns:
            The outputs `[T, B, output_size]` and the state after the last step.

        Raises:
            MemoryInputError: as in `step`, or there is no step.
        """
        self._check(x, state, episode_start, ("T", "B"))
        if not len(x):
            raise MemoryInputError(
                f"x has shape {list(x.shape)}; expected [T, B, {self.input_size}] with T >= 1."
            )
        return self._unroll(x, state, episode_start)

    def _step(
        self, x: Tensor, state: MemoryState, episode_start: Tensor | None
    ) -> tuple[Tensor, MemoryState]:
        """As `step`, of what has been checked."""
        raise NotImplementedError

    def _unroll(
        self, x: Tensor, state: MemoryState, episode_start: Tensor | None
    ) -> tuple[Tensor, MemoryState]:
        """As `unroll`, of what has been checked; by default step by step."""
        starts = [None] * len(x) if episode_start is None else episode_start.unbind()
        outputs = []
        for x_t, start in zip(x.unbind(), starts, strict=True):
            y, state = self.step(x_t, state, start)
            outputs.append(y)
        return torch.stack(outputs), state

    def gates(self, x: Tensor, state: Any) -> dict[str, Tensor]:
        """The gates that a step computes from `x` `[B, input_size]` and a state already reset.

        Returns:
            One tensor `[..., B, units]` in 0..1 for each of `gate_names`.
        """
        return {}

    def reads(self, x: Tensor, state: Any, episode_start: Tensor | None = None) -> dict[str, Reads]:
        """What each head reads in a sequence, of a memory that has heads: by the heads' names.

        Args:
            x: `[T, B, input_size]`; time and memory grow with the square of T.
            state: before the first step.
            episode_start: bool `[T, B]`; None: all false.
        """
        return {}

    def initialise_time_scales(self, horizon: int, start_feature: int | None = None) -> None:
        """Set the gates of half the units so that, untrained, they hold for 2..horizon steps.

        Chrono initialisation (Tallec & Ollivier 2018, eq. 12 and 16): a unit whose gate keeps a
        share f at each step forgets within about 1 / (1 - f) steps, so the bias of the keeping
        gate is the logarithm of that number of steps less one. Without it a gate starts near one
        half, and neither content nor gradient survives ten steps. The paper draws the steps evenly
        from 2..horizon, which leaves next to no unit for the last few; here their logarithm is
        drawn evenly (of the steps less one), so that each octave has about as many units as the
        next, and the shortest some more. The other half of the units stays as quick as it was:
        tasks that need the last few steps in detail learn slower where all units are slow. Memories
        without gates are left alone.

        A unit that holds for u steps also takes in only 1 / u of what it is shown, and so nearly
        nothing of an episode's first observation, to which many tasks refer back. Exponential
        smoothing has the same fault and the same cure: begin at the first value instead of at zero.
        Where an input says where episodes start, the gates of the slowest quarter of the slow units
        open there, and these begin with the first observation.

        Args:
            horizon: steps; below 3 nothing is changed.
            start_feature: which feature of the input is 1 at an episode's first step, else 0.
                None: there is none.
        """

    def _weight(self) -> Tensor | None:
        """One of the parameters, whose type and device the inputs share; None: there is none."""
        return next(self.parameters(), None)

    def _check(
        self, x: Tensor, state: MemoryState, episode_start: Tensor | None, lead: tuple[str, ...]
    ) -> None:
        """Refuse what does not fit. The kernels rely on it: C sees no shapes and no types."""
        dims = ", ".join(lead)
        check_is("x", x, Tensor, f"a tensor [{dims}, {self.input_size}]", MemoryInputError)
        device = x.device
        if x.dim() != len(lead) + 1 or x.shape[-1] != self.input_size:
            raise MemoryInputError(
                f"x has shape {list(x.shape)}; expected [{dims}, {self.input_size}]."
            )
        if episode_start is not None and (
            episode_start.shape != x.shape[:-1]
            or episode_start.dtype is not torch.bool
            or episode_start.device != device
        ):
            raise MemoryInputError(
                f"episode_start has shape {list(episode_start.shape)} and type "
                f"{episode_start.dtype} on {episode_start.device}; expected [{dims}] = "
                f"{list(x.shape[:-1])} and torch.bool on {device}."
            )
        self._check_kind(state)
        self._check_state(state, x)
        self._check_weights(x)

    def _check_kind(self, state: MemoryState) -> None:
        """Refuse a state of another memory."""
        if self.state_type is not tuple and type(state) is not self.state_type:
            raise MemoryInputError(
                f"The state is a {type(state).__name__}; {type(self).__name__} needs a "
                f"{self.state_type.__name__}, as initial_state(batch) gives."
            )

    def _check_state(self, state: MemoryState, x: Tensor) -> None:
        """Refuse a state that is not of the input's batch or not on its device."""
        for field in tensors_of(state):
            if field.dim() < 2 or field.shape[1] != x.shape[-2] or field.device != x.device:
                raise MemoryInputError(
                    f"A tensor of the state has shape {list(field.shape)} on {field.device}; "
                    f"expected [..., B = {x.shape[-2]}, ...] on {x.device}."
                )

    def _check_weights(self, x: Tensor) -> None:
        """Refuse an input that does not fit the weights."""
        weight = self._weight()
        if weight is None:
            return
        if weight.dtype not in (torch.float32, torch.float64):
            raise MemoryInputError(
                f"The memory's weights are {weight.dtype}; expected float32 or float64. "
                "Call memory.float()."
            )
        if x.dtype is not weight.dtype or x.device != weight.device:
            raise MemoryInputError(
                f"x and the state are {x.dtype} on {x.device}; expected {weight.dtype} on "
                f"{weight.device}, as the memory's weights are."
            )


class NoMemory(Memory):
    """The agent that sees only the present: its output is its input.

    Args:
        input_size: features of an input.
        hidden_size: not used; every memory is made with it.
        num_layers: not used either.
    """

    state_type = NoState

    def __init__(self, input_size: int, hidden_size: int, num_layers: int) -> None:
        check_sizes(input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        super().__init__(input_size, input_size)

    def initial_state(self, batch: int) -> MemoryState:
        """Nothing, for any batch."""
        return NoState()

    def _step(
        self, x: Tensor, state: MemoryState, episode_start: Tensor | None
    ) -> tuple[Tensor, MemoryState]:
        return x, state

    _unroll = _step


def check_sizes(**sizes: int) -> None:
    """Refuse a size that is no integer, or below 1.

    Raises:
        SettingError: names the first that is.
    """
    for name, size in sizes.items():
        check_is(name, size, Integral, "an integer of at least 1")
        argument(name, size, Annotated[int, at_least(1)])


def check_fields(
    state: MemoryState,
    shapes: Iterable[tuple[int, ...]],
    x: Tensor,
    axes: str = "num_layers, B, hidden",
    integers: Collection[str] = (),
) -> None:
    """Refuse a state whose fields are not of these shapes, and of the input's type or int64.

    Args:
        state: whose fields are tensors.
        shapes: one for each field.
        x: the input.
        axes: what the axes of the shapes are, for the message.
        integers: the fields that count.

    Raises:
        MemoryInputError: names the field.
    """
    for name, field, shape in zip(type(state)._fields, state, shapes, strict=True):  # type: ignore[attr-defined]
        if field.shape != shape:
            raise MemoryInputError(
                f"state.{name} has shape {list(field.shape)}; expected [{axes}] = {list(shape)}."
            )
        if name in integers and field.dtype is not torch.int64:
            raise MemoryInputError(f"state.{name} is {field.dtype}; expected torch.int64.")
        if (name not in integers and field.dtype is not x.dtype) or field.device != x.device:
            raise MemoryInputError(
                f"x is {x.dtype} on {x.device} and state.{name} is {field.dtype} on "
                f"{field.device}; expected both of the type of the weights and on their device."
            )
