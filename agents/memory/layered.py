"""Memories made of layers of one cell, each fed by the one below."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor

from recurrent_rl.agents import kernels
from recurrent_rl.agents.kernels import Cell, LayerState
from recurrent_rl.agents.memory.contract import Memory, check_fields, check_sizes
from recurrent_rl.agents.memory.initialisation import GateRows, set_time_scales
from recurrent_rl.agents.memory.states import MemoryState


class LayeredMemory(Memory):
    """Layers of one cell; a subclass names it and gives each layer's weights.

    The state is `[num_layers, B, hidden]` for each of its fields, and the output the top layer's.

    Args:
        input_size: features of an input.
        hidden_size: units of each layer.
        num_layers: layers, each fed by the one below.
    """

    cell: ClassVar[Cell]
    num_blocks: ClassVar[int]
    """Blocks of `hidden` rows in the weight of the input: one a gate, and one for the candidate."""
    keep_block: ClassVar[int | None] = None
    """Which block makes the gate that keeps the state, such as an LSTM's forget gate, if any."""
    write_block: ClassVar[int | None] = None
    """Which block makes the gate that writes to the state, such as an LSTM's input gate, if any."""

    def __init__(self, input_size: int, hidden_size: int, num_layers: int) -> None:
        check_sizes(input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        super().__init__(input_size, hidden_size)
        self.hidden_size = hidden_size
        self.num_layers = num_layers

    def weights(self, layer: int) -> Any:
        """The weights of one layer, as its cell takes them."""
        raise NotImplementedError

    def input_rows(self, layer: int) -> GateRows:
        """All that reads a layer's input: `num_blocks` blocks of `hidden` rows."""
        weights = self.weights(layer)
        return GateRows(weights.input, weights.bias)

    def initial_state(self, batch: int) -> MemoryState:
        """A fresh state: zeros `[num_layers, B, hidden]`, where and as the parameters are."""
        weight = next(self.parameters())
        shape = (self.num_layers, batch, self.hidden_size)
        state: MemoryState = self.state_type(
            *(weight.new_zeros(shape) for _ in self.state_type._fields)
        )
        return state

    def _step(
        self, x: Tensor, state: MemoryState, episode_start: Tensor | None
    ) -> tuple[Tensor, MemoryState]:
        return self._through_layers(kernels.step, x, state, episode_start)

    def _unroll(
        self, x: Tensor, state: MemoryState, episode_start: Tensor | None
    ) -> tuple[Tensor, MemoryState]:
        return self._through_layers(kernels.unroll, x, state, episode_start)

    def _through_layers(
        self,
        kernel: Callable[..., tuple[Tensor, LayerState]],
        x: Tensor,
        state: MemoryState,
        episode_start: Tensor | None,
    ) -> tuple[Tensor, MemoryState]:
        """What a kernel for one layer, of a step or a sequence, makes of all of them."""
        layers = []
        for layer in range(self.num_layers):
            fields = tuple([field[layer] for field in state])
            x, fields = kernel(self.cell, self.weights(layer), x, fields, episode_start)
            layers.append(fields)
        return x, self._stack(layers)

    def _stack(self, layers: list[LayerState]) -> MemoryState:
        """The state whose layers these are."""
        if len(layers) == 1:  # the usual case, and a view
            fields = [field.unsqueeze(0) for field in layers[0]]
        else:
            fields = _stack_layers(layers)
        state: MemoryState = self.state_type(*fields)
        return state

    def gates(self, x: Tensor, state: MemoryState) -> dict[str, Tensor]:
        """The gates that a step computes, `[num_layers, B, hidden]` each."""
        layers = []
        for layer in range(self.num_layers):
            fields, weights = tuple(field[layer] for field in state), self.weights(layer)
            layers.append(self.cell.gates(weights, x, fields))
            x, _ = self.cell.step(weights, x, fields)
        return dict(zip(self.gate_names, _stack_layers(layers), strict=True))

    def _named(self, layer: int, *names: str) -> tuple[Tensor, ...]:
        """The layer's own parameters of these names, registered as `NAME_lLAYER`."""
        # Not `get_parameter`, which goes through the modules first: each step asks.
        parameters: dict[str, Any] = self._parameters
        return tuple([parameters[f"{name}_l{layer}"] for name in names])

    def _weight(self) -> Tensor | None:
        return next(iter(self._parameters.values()), None)  # sooner than by `parameters()`

    def initialise_time_scales(self, horizon: int, start_feature: int | None = None) -> None:
        """Chrono initialisation of half the units, where the cell has a gate that does it.

        With u of `chrono_steps` the bias is log(u) in `keep_block`, and -log(u) in `write_block`.
        """
        if self.keep_block is None and self.write_block is None:
            return
        for layer in range(self.num_layers):
            keep, write = (
                self._slow_half(layer, block) for block in (self.keep_block, self.write_block)
            )
            set_time_scales(horizon, None if layer else start_feature, keep, write)

    def _slow_half(self, layer: int, block: int | None) -> GateRows | None:
        """The second half of one block of rows."""
        if block is None:
            return None
        end = (block + 1) * self.hidden_size
        half = slice(end - (self.hidden_size + 1) // 2, end)
        return GateRows(*(x.detach()[half] for x in self.input_rows(layer)))

    def _check_state(self, state: MemoryState, x: Tensor) -> None:
        shape = (self.num_layers, x.shape[-2], self.hidden_size)
        check_fields(state, [shape] * len(state), x)


def _stack_layers(layers: Iterable[tuple[Tensor, ...]]) -> list[Tensor]:
    """What each layer gives, stacked: `[num_layers, B, ...]` for each of its tensors."""
    return [torch.stack(tensors) for tensors in zip(*layers, strict=True)]
