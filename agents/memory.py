"""Memory: recurrent layers whose state is a value, with resets inside.

Every memory keeps three promises. The state goes in and comes out; nothing is kept in the module.
Where `episode_start` is true the state is zeroed before the input is read. `unroll` equals
repeated `step`, in values and in gradients, for any pattern of resets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple, TypeAlias, cast

import torch
from torch import Tensor, nn


class NoState(NamedTuple):
    """The state of an agent without memory: nothing."""


class RNNState(NamedTuple):
    """State of a plain recurrent network, `[num_layers, B, hidden]`."""

    h: Tensor


class GRUState(NamedTuple):
    """State of a gated recurrent unit, `[num_layers, B, hidden]`."""

    h: Tensor


class LSTMState(NamedTuple):
    """Hidden and cell state, `[num_layers, B, hidden]` each, as in `torch.nn.LSTM`."""

    h: Tensor
    c: Tensor


MemoryState: TypeAlias = NoState | RNNState | GRUState | LSTMState


def map_state(fn: Callable[..., Tensor], *states: MemoryState) -> MemoryState:
    """Apply `fn` to the tensors of one or more states, field by field."""
    fields = zip(*states, strict=True)
    return type(states[0])(*(fn(*tensors) for tensors in fields))


def select_state(state: MemoryState, index: Tensor) -> MemoryState:
    """The streams with these indices: columns of dimension 1."""
    return map_state(lambda s: s.index_select(1, index), state)


def cat_states(states: Sequence[MemoryState], dim: int) -> MemoryState:
    """Several states as one; `dim=1` puts their streams side by side, `dim=0` stacks layers."""
    return map_state(lambda *tensors: torch.cat(tensors, dim), *states)


def reset_state(state: MemoryState, episode_start: Tensor) -> MemoryState:
    """Zero the streams for which `episode_start` (bool `[B]`) is true."""
    start = episode_start.unsqueeze(-1)
    return map_state(lambda s: s.masked_fill(start, 0.0), state)


class Memory(nn.Module):
    """What all memories share; a subclass computes `_run` and says which gates it has.

    Args:
        input_size: features of an input.
        hidden_size: units of each layer.
        num_layers: layers, each fed by the one below.
    """

    state_type: ClassVar[type[Any]]
    gate_names: ClassVar[tuple[str, ...]] = ()

    def __init__(self, input_size: int, hidden_size: int, num_layers: int) -> None:
        super().__init__()
        for name, size in (
            ("input_size", input_size),
            ("hidden_size", hidden_size),
            ("num_layers", num_layers),
        ):
            if size < 1:
                raise ValueError(f"{name} is {size}; it must be at least 1.")
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
        self, x: Tensor, state: MemoryState, episode_start: Tensor
    ) -> tuple[Tensor, MemoryState]:
        """One time step.

        Args:
            x: `[B, input_size]`.
            state: after the previous step.
            episode_start: bool `[B]`; true resets the state before `x` is read.

        Returns:
            The output `[B, output_size]`, which is the top layer's h, and the new state.

        Raises:
            ValueError: a shape or type is not as said here.
        """
        self._check(x, state, episode_start, ("B",))
        y, state = self._run(x.unsqueeze(0), reset_state(state, episode_start))
        return y.squeeze(0), state

    def unroll(
        self, x: Tensor, state: MemoryState, episode_start: Tensor
    ) -> tuple[Tensor, MemoryState]:
        """A sequence: equal to repeated `step`.

        The sequence is cut only where some stream starts an episode; between the cuts one dense
        kernel runs over the whole batch. So lockstep resets are as good as free, and the worst
        case, a reset somewhere at each step, is a loop over time.

        Args:
            x: `[T, B, input_size]`.
            state: before the first step.
            episode_start: bool `[T, B]`.

        Returns:
            The outputs `[T, B, output_size]` and the state after the last step.

        Raises:
            ValueError: a shape or type is not as said here.
        """
        self._check(x, state, episode_start, ("T", "B"))
        starts = episode_start.any(dim=1).nonzero().squeeze(1).tolist()
        cuts = starts if starts and starts[0] == 0 else [0, *starts]
        outputs = []
        for begin, end in zip(cuts, [*cuts[1:], len(x)], strict=True):
            y, state = self._run(x[begin:end], reset_state(state, episode_start[begin]))
            outputs.append(y)
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs), state

    def _run(self, x: Tensor, state: MemoryState) -> tuple[Tensor, MemoryState]:
        """Run over `[T, B, input_size]` without resets."""
        raise NotImplementedError

    def gates(self, x: Tensor, state: MemoryState) -> dict[str, Tensor]:
        """The gates that a step computes from `x` `[B, input_size]` and a state already reset.

        Returns:
            One tensor `[num_layers, B, hidden]` in 0..1 for each of `gate_names`.
        """
        return {}

    def hold_for(self, horizon: int) -> None:
        """Set the gates of half the units so that, untrained, they hold for 2..horizon steps.

        Chrono initialisation (Tallec & Ollivier 2018, eq. 12 and 16): a unit whose gate keeps a
        share f at each step forgets within about 1 / (1 - f) steps, so the bias of the keeping
        gate is log(U(1, horizon - 1)). Without it a gate starts near one half, and neither content
        nor gradient survives ten steps. The other half of the units stays as quick as that: tasks
        that need the last few steps in detail learn slower where all units are slow. Memories
        without gates are left alone.

        Args:
            horizon: steps; below 3 nothing is changed.
        """

    def _check(
        self, x: Tensor, state: MemoryState, episode_start: Tensor, lead: tuple[str, ...]
    ) -> None:
        dims = ", ".join(lead)
        if x.dim() != len(lead) + 1 or x.shape[-1] != self.input_size:
            raise ValueError(f"x has shape {list(x.shape)}; expected [{dims}, {self.input_size}].")
        if episode_start.shape != x.shape[:-1] or episode_start.dtype is not torch.bool:
            raise ValueError(
                f"episode_start has shape {list(episode_start.shape)} and type "
                f"{episode_start.dtype}; expected [{dims}] = {list(x.shape[:-1])} and torch.bool."
            )
        if type(state) is not self.state_type:
            raise ValueError(
                f"The state is a {type(state).__name__}; {type(self).__name__} needs a "
                f"{self.state_type.__name__}, as initial_state(batch) gives."
            )
        shape = (self.num_layers, x.shape[-2], self.hidden_size)
        for name, field in zip(state._fields, state, strict=True):
            if field.shape != shape:
                raise ValueError(
                    f"state.{name} has shape {list(field.shape)}; expected [num_layers, B, "
                    f"hidden] = {list(shape)}."
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

    def unroll(
        self, x: Tensor, state: MemoryState, episode_start: Tensor
    ) -> tuple[Tensor, MemoryState]:
        """The input as it came."""
        self._check(x, state, episode_start, ("T", "B"))
        return x, state

    def _run(self, x: Tensor, state: MemoryState) -> tuple[Tensor, MemoryState]:
        return x, state


class TorchMemory(Memory):
    """A memory that torch's own recurrent layers compute.

    The parameters bear torch's names and layout: `torch_layer` is a plain `torch.nn` module, and
    `load_torch` takes over another's weights.
    """

    layer_type: ClassVar[type[nn.RNN] | type[nn.LSTM] | type[nn.GRU]]
    num_blocks: ClassVar[int]
    """Blocks of `hidden` rows in each weight: one a gate, and one for the candidate."""
    gate_order: ClassVar[tuple[str, ...]] = ()
    """What torch's blocks are, in order; names that are no gates stand for the candidate."""

    def __init__(self, input_size: int, hidden_size: int, num_layers: int) -> None:
        super().__init__(input_size, hidden_size, num_layers)
        self.torch_layer: nn.RNNBase = self.layer_type(input_size, hidden_size, num_layers)
        initialise(dict(self.torch_layer.named_parameters()), self.num_blocks)

    def load_torch(self, layer: nn.RNNBase) -> None:
        """Take over the weights of a `torch.nn` layer.

        Raises:
            ValueError: it is of another kind, size or form.
        """
        own = self.torch_layer
        names = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "bidirectional")
        for name in (*names, "proj_size", "nonlinearity"):
            wanted, found = (getattr(module, name, None) for module in (own, layer))
            if wanted != found or type(layer) is not type(own):
                raise ValueError(
                    f"The weights of {layer} do not fit {own}: {name} is {found}, not {wanted}."
                )
        self.torch_layer.load_state_dict(layer.state_dict())

    def _run(self, x: Tensor, state: MemoryState) -> tuple[Tensor, MemoryState]:
        fields = tuple(state)
        y, new = self.torch_layer(x, fields if len(fields) > 1 else fields[0])
        return y, self.state_type(*new) if isinstance(new, tuple) else self.state_type(new)

    def _pre_activations(
        self, x: Tensor, h: Tensor, layer: int
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """The input's and the state's part of what each block squashes, in torch's order."""
        p = dict(self.torch_layer.named_parameters())
        of_x = torch.nn.functional.linear(x, p[f"weight_ih_l{layer}"], p[f"bias_ih_l{layer}"])
        of_h = torch.nn.functional.linear(h, p[f"weight_hh_l{layer}"], p[f"bias_hh_l{layer}"])
        return of_x.chunk(self.num_blocks, -1), of_h.chunk(self.num_blocks, -1)

    def gates(self, x: Tensor, state: MemoryState) -> dict[str, Tensor]:
        """The gates that a step computes, `[num_layers, B, hidden]` each."""
        if not self.gate_names:
            return {}
        _, after = self._run(x.unsqueeze(0), state)
        before, (above, *_) = next(iter(state)), tuple(after)
        layers = []
        for layer in range(self.num_layers):
            of_x, of_h = self._pre_activations(x, before[layer], layer)
            sums = (torch.sigmoid(a + b) for a, b in zip(of_x, of_h, strict=True))
            layers.append(dict(zip(self.gate_order, sums, strict=True)))
            x = above[layer]
        return {name: torch.stack([of[name] for of in layers]) for name in self.gate_names}


class RNN(TorchMemory):
    """The plain recurrent network (Elman 1990): h_t = tanh(W x_t + b + U h_tm1 + d)."""

    state_type = RNNState
    layer_type = nn.RNN
    num_blocks = 1


class LSTM(TorchMemory):
    """Long short-term memory with forget gates (Gers et al. 2000), as `torch.nn.LSTM`.

    i, f, o = sigmoid(W x_t + U h_tm1 + b), g = tanh(W x_t + U h_tm1 + b), one W, U, b for each;
    c_t = f * c_tm1 + i * g;  h_t = o * tanh(c_t).
    """

    state_type = LSTMState
    layer_type = nn.LSTM
    num_blocks = 4
    gate_names = ("input", "forget", "output")
    gate_order = ("input", "forget", "candidate", "output")

    def hold_for(self, horizon: int) -> None:
        """Chrono: in half the units forget bias log(U(1, horizon - 1)), input bias its negative."""
        for bias in layer_biases(self.torch_layer, "bias_ih"):
            set_chrono_bias(bias, self.hidden_size, horizon, keep=1, write=0)


class GRU(TorchMemory):
    """Gated recurrent unit as `torch.nn.GRU`: the reset gate acts after the recurrent product.

    r, z = sigmoid(W x_t + U h_tm1 + b);  n = tanh(W x_t + b + r * (U h_tm1 + d));
    h_t = (1 - z) * n + z * h_tm1: the update gate z is the one that keeps.
    """

    state_type = GRUState
    layer_type = nn.GRU
    num_blocks = 3
    gate_names = ("reset", "update")
    gate_order = ("reset", "update", "candidate")

    def hold_for(self, horizon: int) -> None:
        """Chrono initialisation: in half the units update bias log(U(1, horizon - 1))."""
        for bias in layer_biases(self.torch_layer, "bias_ih"):
            set_chrono_bias(bias, self.hidden_size, horizon, keep=1)


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


def layer_biases(module: nn.Module, prefix: str) -> list[Tensor]:
    """The biases of all layers whose names start so."""
    return [p for name, p in module.named_parameters() if name.startswith(prefix)]


@torch.no_grad()
def set_chrono_bias(
    bias: Tensor, hidden_size: int, horizon: int, keep: int, write: int | None = None
) -> None:
    """Write chrono biases into the second half of the keeping and, where named, writing gate."""
    if horizon < 3:
        return
    slow = bias.view(-1, hidden_size)[:, hidden_size // 2 :]
    slow[keep] = torch.empty_like(slow[keep]).uniform_(1, horizon - 1).log()
    if write is not None:
        slow[write] = -slow[keep]
