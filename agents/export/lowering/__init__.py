"""From a traced step to a list of plain array operations."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from typing import Any

from torch import Tensor, fx

from recurrent_rl.agents.export.graph import Program
from recurrent_rl.agents.export.listing import Buffer, Listing, View, filled, whole
from recurrent_rl.agents.export.lowering.draft import Draft, kind_of
from recurrent_rl.agents.export.lowering.operations import (
    COMPARISONS,
    OPERATIONS,
    SAME_SHAPE,
    VIEWS,
    Value,
)
from recurrent_rl.agents.export.lowering.views import expanded, is_one
from recurrent_rl.agents.export.own_parts import naming_parts
from recurrent_rl.agents.export.signature import Signature
from recurrent_rl.agents.export.step import ExportError


def lower(program: Program) -> Listing:
    """A traced step of a fixed number of streams as plain array operations.

    Raises:
        ExportError: it has an operation that is not known here.
    """
    exported = program.exported
    names = {
        **exported.graph_signature.inputs_to_buffers,
        **exported.graph_signature.inputs_to_parameters,
        **exported.graph_signature.inputs_to_lifted_tensor_constants,
    }
    tensors = {**exported.state_dict, **exported.constants}
    constants = {node: tensors[name] for node, name in names.items()}
    with naming_parts(program.agent):
        return lower_graph(exported.graph, constants, program.signature)


def lower_graph(graph: fx.Graph, constants: Mapping[str, Tensor], signature: Signature) -> Listing:
    """As `lower`, of a graph.

    Args:
        graph: of core ATen operations on real numbers; its placeholders but for constants are the
            inputs, in their order.
        constants: by the names of the nodes that stand for them.
        signature: of the step, with a fixed number of streams.

    Raises:
        ExportError: it has an operation that is not known here.
    """
    draft, given = Draft(), iter(signature.inputs)
    inputs: dict[str, View] = {}
    values: dict[fx.Node, Value] = {}
    for node in graph.nodes:
        if node.name in constants:
            values[node] = filled(node.name, constants[node.name].detach().numpy())
        elif node.op == "placeholder":
            field = next(given)
            shape = tuple(node.meta["val"].shape)
            view = whole(Buffer(field.name, field.dtype, math.prod(shape)), shape)
            inputs[field.name] = values[node] = view
        elif node.op == "output":
            results: Any = node.args[0]
            found = [draft.dense(values[one]) for one in results]
            outputs = dict(zip((field.name for field in signature.outputs), found, strict=True))
            return Listing(signature, inputs, outputs, tuple(draft.operations))
        else:
            arguments = fx.map_arg(node.args, values.__getitem__)
            values[node] = _lowered(draft, node, arguments)
    raise AssertionError("a graph ends with its output")


def _lowered(draft: Draft, node: fx.Node, arguments: Any) -> Value:
    """What a node gives: a view, or several."""
    draft.name = node.name
    target: Any = node.target
    if target is operator.getitem:
        return arguments[0][arguments[1]]
    if target in VIEWS:
        return VIEWS[target](*arguments, **node.kwargs)
    if target in SAME_SHAPE:
        return _elementwise(draft, SAME_SHAPE[target], node, arguments)
    if target not in OPERATIONS:
        raise ExportError(
            f"This policy's step has the operation {target}, which this format does not have. "
            "Export it to onnx or torch."
        )
    return OPERATIONS[target](draft, node, *arguments, **node.kwargs)


def _elementwise(draft: Draft, kind: str, node: fx.Node, arguments: tuple[Value, ...]) -> View:
    """An operation number by number."""
    shape, dtype = kind_of(node)
    if node.kwargs.get("alpha", 1) != 1:
        raise ExportError(f"This format has no {node.target} with alpha.")
    seen = dtype
    if kind in COMPARISONS:
        seen = next(one.dtype for one in arguments if isinstance(one, View))
    operands = [draft.operand(one, seen, kind) for one in arguments]
    if kind in ("mul", "div") and any(is_one(one) for one in operands[1:]):
        return expanded(operands[0], shape)
    return draft.do(kind, shape, dtype, *operands)
