"""Memory: recurrent layers whose state is a value, with resets inside.

Every memory keeps three promises. The state goes in and comes out; nothing is kept in the module.
Where `episode_start` is true the state is zeroed before the input is read. `unroll` equals
repeated `step`, in values and in gradients, for any pattern of resets.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, NamedTuple, cast

import torch
from torch import Tensor, nn

from recurrent_rl.agents.kernels import compiled
from recurrent_rl.agents.kernels.dispatch import KERNELS, STEPS, choose_kernel
from recurrent_rl.agents.kernels.safeguards import MemoryInputError
from recurrent_rl.agents.memory.states import LayerState, MemoryState, NoState, reset_state
from recurrent_rl.agents.settings import SettingError


class GateRows(NamedTuple):
    """Rows of a layer's parameters that read its input, such as those that make a gate."""

    weight: Tensor
    """Of the input, `[units, F]`."""
    bias: Tensor
    """`[units]`."""


class Memory(nn.Module):
    """What all memories share; a subclass computes `step_layer` and says which gates it has.

    Args:
        input_size: features of an input.
        hidden_size: units of each layer.
        num_layers: layers, each fed by the one below.
    """

    state_type: ClassVar[type[Any]]
    gate_names: ClassVar[tuple[str, ...]] = ()
    kernels: ClassVar[tuple[str, ...]] = ("loop",)
    """What can unroll a layer, by name in `kernels.KERNELS`; the first that is there does."""

    def __init__(self, input_size: int, hidden_size: int, num_layers: int) -> None:
        super().__init__()
        for name, size in (
            ("input_size", input_size),
            ("hidden_size", hidden_size),
            ("num_layers", num_layers),
        ):
            if size < 1:
                raise SettingError(f"{name} is {size}; it must be at least 1.")
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.output_size = hidden_size

    def initial_state(self, batch: int) -> MemoryState:
        """A fresh state: zeros `[num_layers, B, hidden]`, where and as the parameters are."""
        weight = next(self.parameters())
        shape = (self.num_layers, batch, self.hidden_size)
        fields = (weight.new_zeros(shape) for _ in self.state_type._fields)
        return cast(MemoryState, self.state_type(*fields))

    def step(
        self, x: Tensor, state: MemoryState, episode_start: Tensor | None = None
    ) -> tuple[Tensor, MemoryState]:
        """One time step.

        Args:
            x: `[B, input_size]`.
            state: after the previous step.
            episode_start: bool `[B]`; true resets the state before `x` is read. None: all false.

        Returns:
            The output `[B, output_size]`, which is the top layer's h, and the new state.

        Raises:
            MemoryInputError: a shape is not as said here, or x or the state is not of the weights'
                type, float32 or float64, and on their device.
        """
        self._check(x, state, episode_start, ("B",))
        return self._step(x, state, episode_start)

    def _step(
        self, x: Tensor, state: MemoryState, episode_start: Tensor | None
    ) -> tuple[Tensor, MemoryState]:
        """As `step`, of what has been checked."""
        compiled_step = None
        if compiled.keeps_steps():
            compiled_step = STEPS.get(choose_kernel(self.kernels, x))
        if compiled_step is None:
            self._check_weights(x)
            if episode_start is not None:
                state = reset_state(state, episode_start)
        layers = []
        for layer in range(self.num_layers):
            fields = tuple([field[layer] for field in state])
            if compiled_step is not None:
                x, fields = compiled_step(self, x, fields, episode_start, layer)
            else:
                x, fields = self.step_layer(x, fields, layer)
            layers.append(fields)
        return x, self._stack(layers)

    def unroll(
        self, x: Tensor, state: MemoryState, episode_start: Tensor | None = None
    ) -> tuple[Tensor, MemoryState]:
        """A sequence: equal to repeated `step`, and done by one of `kernels.KERNELS`.

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
        self._check_weights(x)
        if not len(x):
            raise MemoryInputError(
                f"x has shape {list(x.shape)}; expected [T, B, {self.input_size}] with T >= 1."
            )
        return self._run(x, state, episode_start)

    def _run(
        self, x: Tensor, state: MemoryState, episode_start: Tensor | None
    ) -> tuple[Tensor, MemoryState]:
        """As `unroll`, of what has been checked."""
        unroll_layer = KERNELS[choose_kernel(self.kernels, x)]
        layers = []
        for layer in range(self.num_layers):
            fields = tuple([field[layer] for field in state])
            x, fields = unroll_layer(self, x, fields, episode_start, layer)
            layers.append(fields)
        return x, self._stack(layers)

    def _stack(self, layers: list[LayerState]) -> MemoryState:
        """The state whose layers these are."""
        if len(layers) == 1:
            fields = [field.unsqueeze(0) for field in layers[0]]
        else:
            fields = [torch.stack(field) for field in zip(*layers, strict=True)]
        return cast(MemoryState, self.state_type(*fields))

    def step_layer(self, x: Tensor, fields: LayerState, layer: int) -> tuple[Tensor, LayerState]:
        """One step of one layer.

        Args:
            x: `[B, F]`.
            fields: the layer's part of the state, `[B, hidden]` each, already reset.
            layer: its number.

        Returns:
            The output `[B, hidden]`, and the fields after the step.
        """
        raise NotImplementedError

    def gates(self, x: Tensor, state: MemoryState) -> dict[str, Tensor]:
        """The gates that a step computes from `x` `[B, input_size]` and a state already reset.

        Returns:
            One tensor `[num_layers, B, hidden]` in 0..1 for each of `gate_names`.
        """
        return {}

    def hold_for(self, horizon: int, start_feature: int | None = None) -> None:
        """Set the gates of half the units so that, untrained, they hold for 2..horizon steps.

        Chrono initialisation (Tallec & Ollivier 2018, eq. 12 and 16): a unit whose gate keeps a
        share f at each step forgets within about 1 / (1 - f) steps, so the bias of the keeping
        gate is the logarithm of that number of steps less one. Without it a gate starts near one
        half, and neither content nor gradient survives ten steps. The paper draws the steps evenly
        from 2..horizon, which leaves next to no unit for the last few; here their logarithm is
        drawn evenly, so that each octave has as many units as the next. The other half of the units
        stays as quick as it was: tasks that need the last few steps in detail learn slower where
        all units are slow. Memories without gates are left alone.

        A unit that holds for u steps also takes in only 1 / u of what it is shown, and so nearly
        nothing of an episode's first observation, to which many tasks refer back. Exponential
        smoothing has the same fault and the same cure: begin at the first value instead of at zero.
        Where an input tells of episode starts, the gates of the slowest quarter of the slow units
        open there, and these begin with the first observation.

        Args:
            horizon: steps; below 3 nothing is changed.
            start_feature: which feature of the input is 1 at an episode's first step, else 0.
                None: there is none.
        """

    def input_rows(self, layer: int) -> GateRows:
        """All that reads a layer's input: blocks of `hidden_size` rows, one a gate or candidate."""
        raise NotImplementedError

    def _hold_slow_half(
        self,
        horizon: int,
        start_feature: int | None,
        keep: int | None = None,
        write: int | None = None,
    ) -> None:
        """As `hold_for`; `keep` and `write` are the blocks of the gates, if the cell has them."""
        for layer in range(self.num_layers):
            gates = (self._slow_half(layer, keep), self._slow_half(layer, write))
            set_time_scales(horizon, None if layer else start_feature, *gates)

    def _slow_half(self, layer: int, block: int | None) -> GateRows | None:
        """The second half of one block of rows."""
        if block is None:
            return None
        end = (block + 1) * self.hidden_size
        half = slice(end - (self.hidden_size + 1) // 2, end)
        return GateRows(*(x.detach()[half] for x in self.input_rows(layer)))

    def _weight(self) -> Tensor | None:
        """One of the parameters, sooner than by `parameters()`; None: there is none."""
        return next(iter(self._parameters.values()), None)

    def _check(
        self, x: Tensor, state: MemoryState, episode_start: Tensor | None, lead: tuple[str, ...]
    ) -> None:
        """Refuse what does not fit. The kernels rely on it: C sees no shapes and no types."""
        dims, dtype, device = ", ".join(lead), x.dtype, x.device
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
        if type(state) is not self.state_type:
            raise MemoryInputError(
                f"The state is a {type(state).__name__}; {type(self).__name__} needs a "
                f"{self.state_type.__name__}, as initial_state(batch) gives."
            )
        shape = (self.num_layers, x.shape[-2], self.hidden_size)
        for name, field in zip(state._fields, state, strict=True):
            if field.shape != shape:
                raise MemoryInputError(
                    f"state.{name} has shape {list(field.shape)}; expected [num_layers, B, "
                    f"hidden] = {list(shape)}."
                )
            if field.dtype is not dtype or field.device != device:
                raise MemoryInputError(
                    f"x is {dtype} on {device} and state.{name} is {field.dtype} on "
                    f"{field.device}; expected both of the type of the weights and on their device."
                )

    def _check_weights(self, x: Tensor) -> None:
        """Refuse an input that does not fit the weights; a compiled step sees to that itself."""
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
    """The agent that sees only the present: its output is its input."""

    state_type = NoState

    def __init__(self, input_size: int, hidden_size: int, num_layers: int) -> None:
        super().__init__(input_size, hidden_size, num_layers)
        self.output_size = input_size

    def initial_state(self, batch: int) -> MemoryState:
        """Nothing, for any batch."""
        return NoState()

    def _step(
        self, x: Tensor, state: MemoryState, episode_start: Tensor | None
    ) -> tuple[Tensor, MemoryState]:
        return x, state

    _run = _step


def initialise(parameters: dict[str, Tensor], num_blocks: int) -> None:
    """Orthogonal recurrent weights and Xavier input weights, block by block; zero biases."""
    for name, parameter in parameters.items():
        with torch.no_grad():
            if name.startswith("bias") or name.startswith("peephole"):
                nn.init.zeros_(parameter)
                continue
            fill = nn.init.orthogonal_ if name.startswith("weight_hh") else nn.init.xavier_uniform_
            for block in parameter.chunk(num_blocks):
                fill(block)


def chrono_steps(like: Tensor, horizon: int) -> Tensor:
    """U in 1..horizon - 1 for each unit, log u even: a gate u / (1 + u) forgets within 1 + u steps.

    Below a horizon of 3 all are 1, which is the gate at a bias of zero.
    """
    return torch.empty_like(like).uniform_(0, math.log(max(horizon - 1, 1))).exp()


OPEN = 2.0
"""The sum in a writing gate that is opened at an episode's start: sigmoid(2) = 0.88."""
SLOWEST = 0.75
"""Such gates are those of units that hold for more than this power of the horizon."""


@torch.no_grad()
def set_time_scales(
    horizon: int,
    start_feature: int | None,
    keep: GateRows | None = None,
    write: GateRows | None = None,
) -> None:
    """The initialisation of `Memory.hold_for`, for some units of a layer.

    Args:
        horizon: steps; below 3 nothing is changed.
        start_feature: the column of the weights that reads it, or None.
        keep: makes the share that is kept, where a gate does that.
        write: makes the share that is written, where a gate does that.
    """
    if horizon < 3:
        return
    gates = [(sign, gate) for sign, gate in ((1.0, keep), (-1.0, write)) if gate is not None]
    log_steps = chrono_steps(gates[0][1].bias, horizon).log()
    for sign, gate in gates:
        gate.bias.copy_(sign * log_steps)
        if start_feature is not None:
            opening = -sign * (log_steps + OPEN)
            slowest = log_steps > SLOWEST * math.log(horizon)
            gate.weight[slowest, start_feature] = opening[slowest]
