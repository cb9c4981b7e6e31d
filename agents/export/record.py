"""The graph of a step from one run of it, without torch's tracing, which takes seconds to load.

`graph.trace` makes what ONNX and PyTorch need. Whoever only runs a step as a list of operations has
the same list from here: the operations are noted down while the step is computed.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.export.graph import Plain, process_as_before, trace
from recurrent_rl.agents.export.listing import Listing
from recurrent_rl.agents.export.lowering import lower, lower_graph
from recurrent_rl.agents.export.step import ExportError, PolicyStep
from recurrent_rl.agents.generators import forked_torch_state
from recurrent_rl.agents.named_parts import own_parts

aten = torch.ops.aten


@forked_torch_state()
@process_as_before()
def listing_of(agent: ActorCritic, batch: int) -> Listing:
    """The step of an agent as plain array operations.

    One with parts of one's own goes through `trace`, which sees where a part decides something by
    its numbers; the library's parts do not.

    Args:
        agent: not changed.
        batch: streams stepped at once.

    Raises:
        ExportError: a part of one's own cannot be traced, or does what there is no operation for.
    """
    if own_parts(agent.config):
        return lower(trace(agent, batch=batch))
    step = PolicyStep(agent)
    inputs = tuple(step.example(batch).values())
    plain = Plain(record(step, inputs))
    recorded = record(plain, inputs)
    constants = dict(recorded.named_buffers())
    return lower_graph(recorded.graph, constants, step.signature(batch))


def record(module: nn.Module, inputs: tuple[Tensor, ...]) -> fx.GraphModule:
    """What a module does to its inputs, in core ATen operations.

    Args:
        module: its forward gives a tuple of tensors.
        inputs: the graph is that of their shapes and types.

    Returns:
        A module with a graph of placeholders, constants, operations and a tuple of outputs.

    Raises:
        ExportError: a number that the inputs change is read, or written in place where it is seen
            by another view.
    """
    recorder = _Recorder(inputs)
    with torch.no_grad(), recorder:
        outputs = module(*inputs)
    recorder.graph.output(tuple(recorder.node_of(x) for x in outputs))
    return fx.GraphModule(recorder.root, recorder.graph)


class _Recorder(TorchDispatchMode):
    """Notes down every operation that an input takes part in; what else is computed is constant.

    Args:
        inputs: of what is computed under it.
    """

    def __init__(self, inputs: tuple[Tensor, ...]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.root, self.graph = nn.Module(), fx.Graph()
        self._nodes: dict[int, fx.Node] = {}
        self._seen: list[Tensor] = []
        """Kept, so that no other tensor has the identity of one of them."""
        self._stale: set[int] = set()
        """Of those whose numbers are no longer what their node gives."""
        for i, x in enumerate(inputs):
            self._note(self.graph.placeholder(f"input_{i}"), x)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if not any(id(x) in self._nodes for x in tree_leaves((args, kwargs))):
            return func(*args, **kwargs)
        if func in SIMPLER:
            with self:
                return SIMPLER[func](*args, **kwargs)
        if func is aten._local_scalar_dense.default:
            raise ExportError("The step cannot be listed: it decides something by a number.")
        if func._schema.is_mutable:
            return self._written(func, args, kwargs)
        result = func(*args, **kwargs)
        node = self._call(func, args, kwargs)
        if isinstance(result, Tensor):
            self._note(node, result)
        else:
            for i, part in enumerate(result):
                self._note(self.graph.call_function(operator.getitem, (node, i)), part)
        return result

    def _written(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """An operation in place, as torch's own cells have it: noted as one that gives a new array.

        What sees the same numbers by another view is not to be read again.
        """
        written: Tensor = args[0]
        packet = getattr(aten, func._schema.name.removeprefix("aten::").removesuffix("_"), None)
        if packet is None or id(written) not in self._nodes:
            raise ExportError(f"The step cannot be listed: there is no other form of {func}.")
        node = self._call(getattr(packet, func._overloadname), args, kwargs)
        func(*args, **kwargs)
        places, storage = _places(written), written.untyped_storage().data_ptr()
        beside = (x for x in self._seen if x.untyped_storage().data_ptr() == storage)
        for other in beside:
            if other is not written and not places.isdisjoint(_places(other)):
                self._stale.add(id(other))
        self._note(node, written)
        return written

    def _call(self, func: Any, args: Any, kwargs: Any) -> fx.Node:
        args, kwargs = tree_map_only(Tensor, self.node_of, (args, kwargs))
        return self.graph.call_function(func, args, kwargs)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """As torch asks a mode: false, or every call would first load its compiler."""
        return False

    def node_of(self, x: Tensor) -> fx.Node:
        """What gives this tensor; a constant where no operation does.

        Raises:
            ExportError: it was written to by another view.
        """
        if id(x) in self._stale:
            raise ExportError("The step cannot be listed: it reads what another view has changed.")
        if id(x) not in self._nodes:
            name = f"constant_{len(self._seen)}"
            self.root.register_buffer(name, x.detach())
            self._note(self.graph.get_attr(name), x)
        return self._nodes[id(x)]

    def _note(self, node: fx.Node, x: Tensor) -> None:
        node.meta["val"] = x
        self._nodes[id(x)] = node
        self._seen.append(x)


def _log_sigmoid(x: Tensor) -> tuple[Tensor, Tensor]:
    """Of x, min(x, 0) - log(1 + e^-|x|); and a tensor for the backward pass, which is not taken."""
    zero = torch.zeros((), dtype=x.dtype)
    return torch.minimum(x, zero) - torch.log1p(torch.exp(-x.abs())), zero


def _parts(x: Tensor, size: int, axis: int = 0) -> tuple[Tensor, ...]:
    """Of this size each; the last may be smaller."""
    whole, rest = divmod(x.shape[axis], size)
    parts: tuple[Tensor, ...] = aten.split_with_sizes(x, [size] * whole + [rest] * bool(rest), axis)
    return parts


SIMPLER: dict[Any, Callable[..., Any]] = {
    aten.addcmul.default: lambda x, a, b, value=1: x + value * a * b,
    aten.masked_fill.Scalar: lambda x, mask, value: torch.where(
        mask, torch.tensor(value, dtype=x.dtype), x
    ),
    aten.where.ScalarSelf: lambda where, value, x: torch.where(
        where, torch.tensor(value, dtype=x.dtype), x
    ),
    aten.squeeze.dim: lambda x, axis: aten.squeeze.dims(x, [axis]),
    aten.silu.default: lambda x: x * torch.sigmoid(x),
    aten.split.Tensor: _parts,
    aten.unsafe_split.Tensor: _parts,
    # Of a tensor, since value - x is this very operation.
    aten.rsub.Scalar: lambda x, value, alpha=1: torch.sub(
        torch.full((), value, dtype=x.dtype), x, alpha=alpha
    ),
    aten.log_sigmoid_forward.default: _log_sigmoid,
    aten.new_zeros.default: lambda x, size, dtype=None, **_: torch.zeros(
        size, dtype=dtype or x.dtype
    ),
    aten.new_ones.default: lambda x, size, dtype=None, **_: torch.ones(
        size, dtype=dtype or x.dtype
    ),
    aten.new_full.default: lambda x, size, value, dtype=None, **_: torch.full(
        size, value, dtype=dtype or x.dtype
    ),
    aten.stack.default: lambda tensors, axis=0: torch.cat(
        [x.unsqueeze(axis) for x in tensors], axis
    ),
    aten.clamp_min.default: lambda x, low: torch.clamp(x, low),
    aten._unsafe_view.default: lambda x, shape: x.view(shape),
}
"""Operations that `lowering` does not know, by those it knows. Torch's own table of them would
load its compiler, which takes seconds."""


def _places(x: Tensor) -> set[int]:
    """The addresses of a tensor's numbers."""
    within = torch.arange(x.untyped_storage().nbytes() // x.element_size())
    offsets = within.as_strided(x.shape, x.stride(), x.storage_offset()).reshape(-1)
    begin = x.untyped_storage().data_ptr()
    return {begin + x.element_size() * place for place in offsets.tolist()}
