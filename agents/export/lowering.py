"""From a traced step to a list of plain array operations."""

from __future__ import annotations

import math
import operator
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, fx

from recurrent_rl.agents.export.graph import Program
from recurrent_rl.agents.export.listing import (
    ELEMENTWISE,
    Buffer,
    Listing,
    Operation,
    View,
    dense_strides,
    filled,
    numbers,
    whole,
)
from recurrent_rl.agents.export.signature import Signature
from recurrent_rl.agents.export.step import ExportError
from recurrent_rl.agents.export.views import (
    expanded,
    is_one,
    permuted,
    reshaped,
    selected,
    sliced,
    split,
    squeezed,
    with_axis,
)

aten = torch.ops.aten
Value: TypeAlias = Any
"""A view, several of them, or a number."""


def lower(program: Program) -> Listing:
    """A traced step as plain array operations.

    Raises:
        ExportError: its number of streams is not fixed, or it has an operation that is not known
            here.
    """
    if program.signature.batch is None:
        raise ExportError(
            "C and NumPy have arrays of fixed shapes: say for how many streams (--batch 1)."
        )
    exported = program.exported
    names = {
        **exported.graph_signature.inputs_to_buffers,
        **exported.graph_signature.inputs_to_parameters,
        **exported.graph_signature.inputs_to_lifted_tensor_constants,
    }
    tensors = {**exported.state_dict, **exported.constants}
    constants = {node: tensors[name] for node, name in names.items()}
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
    return _Lowering(graph, constants, signature).listing()


class _Lowering:
    """Goes through a graph node by node."""

    def __init__(
        self, graph: fx.Graph, constants: Mapping[str, Tensor], signature: Signature
    ) -> None:
        self._graph, self._constants, self._signature = graph, constants, signature
        self._operations: list[Operation] = []
        self._values: dict[fx.Node, Value] = {}
        self._names: Counter[str] = Counter()
        self._name = ""
        """Of what is computed now."""

    def listing(self) -> Listing:
        signature, constants = self._signature, self._constants
        given = iter(signature.inputs)
        inputs: dict[str, View] = {}
        for node in self._graph.nodes:
            if node.name in constants:
                self._values[node] = filled(node.name, constants[node.name].detach().numpy())
            elif node.op == "placeholder":
                field = next(given)
                shape = tuple(node.meta["val"].shape)
                view = whole(Buffer(field.name, field.dtype, math.prod(shape)), shape)
                inputs[field.name] = self._values[node] = view
            elif node.op == "output":
                results: Any = node.args[0]
                found = [self._values[one] for one in results]
                names = (field.name for field in signature.outputs)
                outputs = dict(zip(names, map(self._dense, found), strict=True))
                return Listing(signature, inputs, outputs, tuple(self._operations))
            else:
                self._values[node] = self._lowered(node)
        raise AssertionError("a graph ends with its output")

    def _lowered(self, node: fx.Node) -> Value:
        """What a node gives: a view, or several."""
        self._name = node.name
        target: Any = node.target
        arguments: Any = fx.map_arg(node.args, self._values.__getitem__)
        if target is operator.getitem:
            return arguments[0][arguments[1]]
        if target in VIEWS:
            return VIEWS[target](*arguments, **node.kwargs)
        if target in SAME_SHAPE:
            return self._elementwise(SAME_SHAPE[target], node, arguments)
        method = METHODS.get(target)
        if method is None:
            raise ExportError(
                f"This policy's step has the operation {target}, which this format does not have. "
                "Export it to onnx or torch."
            )
        return method(self, node, *arguments, **node.kwargs)

    # ------------------------------------------------------------------------- what is written

    def _new(self, shape: Sequence[int], dtype: str) -> View:
        """An array to be computed."""
        return whole(Buffer(self._unique(), dtype, math.prod(shape)), tuple(shape))

    def _unique(self) -> str:
        """A name for an array, after the node that it is of."""
        self._names[self._name] += 1
        number = self._names[self._name]
        return self._name if number == 1 else f"{self._name}_part{number}"

    def _do(
        self,
        kind: str,
        shape: Sequence[int],
        dtype: str,
        *operands: View,
        into: View | None = None,
        **options: Any,
    ) -> View:
        """Add an operation; what it fills."""
        out = self._new(shape, dtype) if into is None else into
        if kind in ELEMENTWISE:
            operands = tuple(expanded(one, out.shape) for one in operands)
        self._operations.append(Operation(kind, out, operands, options))
        return out

    def _dense(self, x: View) -> View:
        """The numbers one after the other."""
        if x.is_dense:
            return x
        if x.buffer.constant is not None:
            return filled(f"{x.buffer.name}_dense", numbers(x, x.buffer.constant.reshape(-1)))
        return self._do("copy", x.shape, x.dtype, x)

    def _elementwise(self, kind: str, node: fx.Node, arguments: tuple[Value, ...]) -> View:
        shape, dtype = self._of(node)
        alpha = node.kwargs.get("alpha", 1)
        if alpha != 1:
            raise ExportError(f"This format has no {node.target} with alpha.")
        seen = dtype
        if kind in COMPARISONS:
            seen = next(one.dtype for one in arguments if isinstance(one, View))
        operands = [self._operand(one, seen, kind) for one in arguments]
        if kind in ("mul", "div") and any(is_one(one) for one in operands[1:]):
            return expanded(operands[0], shape)
        return self._do(kind, shape, dtype, *operands)

    def _operand(self, x: Value, dtype: str, kind: str) -> View:
        """A view, or a number as one, in the type that the operation computes in."""
        if not isinstance(x, View):
            return self._number(x, dtype)
        if x.dtype == dtype or kind == "where":  # the condition is of another
            return x
        return self._do("copy", x.shape, dtype, x)

    def _number(self, x: float, dtype: str) -> View:
        return filled(self._unique(), np.asarray(x, dtype))

    def _of(self, node: fx.Node) -> tuple[tuple[int, ...], str]:
        """Shape and type of what a node gives."""
        value = node.meta["val"]
        return tuple(value.shape), str(value.dtype).removeprefix("torch.")

    # ------------------------------------------------------------------------- operations

    def view(self, node: fx.Node, x: View, shape: Any) -> View:
        shape = self._of(node)[0]
        strides = reshaped(x, shape)
        if strides is None:
            return whole(self._do("copy", x.shape, x.dtype, x).buffer, shape)
        return View(x.buffer, shape, strides, x.offset)

    def to_copy(self, node: fx.Node, x: View, **_: Any) -> View:
        shape, dtype = self._of(node)
        return x if dtype == x.dtype else self._do("copy", shape, dtype, x)

    def cat(self, node: fx.Node, parts: list[View], axis: int = 0) -> View:
        shape, dtype = self._of(node)
        out, axis, begin = self._new(shape, dtype), axis % len(shape), 0
        for part in parts:
            end = begin + part.shape[axis]
            self._do("copy", part.shape, dtype, part, into=sliced(out, axis, begin, end))
            begin = end
        return out

    def addmm(self, node: fx.Node, bias: View, x: View, w: View) -> View:
        shape, dtype = self._of(node)
        if bias.shape != shape[1:]:
            product = self._do("product", shape, dtype, x, w)
            return self._do("add", shape, dtype, product, bias)
        return self._do("product", shape, dtype, x, w, self._dense(bias))

    def product(self, node: fx.Node, x: View, w: View) -> View:
        return self._do("product", *self._of(node), x, w)

    def clamp(
        self, node: fx.Node, x: View, low: float | None = None, high: float | None = None
    ) -> View:
        shape, dtype = self._of(node)
        for kind, bound in (("max2", low), ("min", high)):
            if bound is not None:
                x = self._do(kind, shape, dtype, x, self._number(bound, dtype))
        return x

    def relu(self, node: fx.Node, x: View) -> View:
        return self.clamp(node, x, 0.0)

    def power(self, node: fx.Node, x: View, exponent: float) -> View:
        shape, dtype = self._of(node)
        if exponent == 2:
            return self._do("mul", shape, dtype, x, x)
        return self._do("pow", shape, dtype, x, self._number(exponent, dtype))

    def gelu(self, node: fx.Node, x: View, approximate: str = "none") -> View:
        """X / 2 * (1 + erf(x / sqrt 2))."""
        if approximate != "none":
            raise ExportError(f"This format has no gelu of the kind {approximate!r}.")
        shape, dtype = self._of(node)
        scaled = self._do("mul", shape, dtype, x, self._number(math.sqrt(0.5), dtype))
        y = self._do("erf", shape, dtype, scaled)
        y = self._do("add", shape, dtype, y, self._number(1, dtype))
        y = self._do("mul", shape, dtype, y, self._number(0.5, dtype))
        return self._do("mul", shape, dtype, x, y)

    def elu(
        self, node: fx.Node, x: View, alpha: float = 1, scale: float = 1, input_scale: float = 1
    ) -> View:
        """X where it is positive, else exp(x) - 1."""
        if (alpha, scale, input_scale) != (1, 1, 1):
            raise ExportError("This format has no scaled elu.")
        shape, dtype = self._of(node)
        zero = self._number(0, dtype)
        below = self._do("exp", shape, dtype, self._do("min", shape, dtype, x, zero))
        below = self._do("sub", shape, dtype, below, self._number(1, dtype))
        above = self._do("gt", shape, "bool", x, zero)
        return self._do("where", shape, dtype, above, x, below)

    def embedding(self, node: fx.Node, table: View, index: View, *_: Any) -> View:
        return self._do("rows", *self._of(node), table, self._dense(index))

    def index_select(self, node: fx.Node, x: View, axis: int, index: View) -> View:
        shape, dtype = self._of(node)
        if axis % len(shape) != len(shape) - 1 or len(shape) != 2 or index.buffer.constant is None:
            raise ExportError("This format takes entries of vectors alone, by fixed indices.")
        out = self._new(shape, dtype)
        for i, entry in enumerate(index.buffer.constant.reshape(-1).tolist()):
            part = sliced(x, 1, entry, entry + 1)
            self._do("copy", part.shape, dtype, part, into=sliced(out, 1, i, i + 1))
        return out

    def scatter(self, node: fx.Node, x: View, axis: int, index: View, value: float) -> View:
        """X `[..., V]` with a value at the places `[..., E]` of its last axis."""
        shape, dtype = self._of(node)
        if axis % len(shape) != len(shape) - 1:
            raise ExportError("This format has scatter along the last axis alone.")
        width = shape[-1]
        every = filled(self._unique(), np.arange(width))
        hits = self._do("eq", (*index.shape, width), "bool", with_axis(index), every)  # [..., E, V]
        last = len(index.shape)
        order = (*range(last - 1), last, last - 1)
        counted = permuted(self._do("copy", hits.shape, "float32", hits), order)
        hit = self._do("sum", shape, "float32", self._dense(counted))
        hit = self._do("gt", shape, "bool", hit, self._number(0, "float32"))
        return self._do("where", shape, dtype, hit, self._number(value, dtype), x)

    def argmax(
        self, node: fx.Node, x: View, axis: int | None = None, keepdim: bool = False
    ) -> View:
        if keepdim or axis is None:
            raise ExportError("This format has argmax along one axis alone.")
        shape, dtype = self._of(node)
        return self._do("argmax", shape, dtype, self._last(x, [axis]))

    def mean(
        self, node: fx.Node, x: View, axes: list[int], keepdim: bool = False, **_: Any
    ) -> View:
        shape, dtype = self._of(node)
        total = self.sum(node, x, axes, keepdim)
        number = math.prod(x.shape[axis] for axis in axes)
        return self._do("mul", shape, dtype, total, self._number(1 / number, dtype))

    def sum(self, node: fx.Node, x: View, axes: list[int], keepdim: bool = False, **_: Any) -> View:
        shape, dtype = self._of(node)
        last = self._last(x, axes)
        return whole(self._do("sum", last.shape[:-1], dtype, last).buffer, shape)

    def norm(
        self, node: fx.Node, x: View, order: float, axes: list[int], keepdim: bool = False
    ) -> View:
        if order != 2:
            raise ExportError("This format has the Euclidean norm alone.")
        shape, dtype = self._of(node)
        squares = self._do("mul", x.shape, dtype, x, x)
        return self._do("sqrt", shape, dtype, self.sum(node, squares, axes, keepdim))

    def log_softmax(self, node: fx.Node, x: View, axis: int, _: bool) -> View:
        shape, dtype = self._of(node)
        if axis % len(shape) != len(shape) - 1:
            raise ExportError("This format has log_softmax along the last axis alone.")
        lead = shape[:-1]
        largest = self._do("max", lead, dtype, x)
        shifted = self._do("sub", shape, dtype, x, with_axis(largest))
        total = self._do("sum", lead, dtype, self._do("exp", shape, dtype, shifted))
        return self._do(
            "sub", shape, dtype, shifted, with_axis(self._do("log", lead, dtype, total))
        )

    def convolution(
        self,
        node: fx.Node,
        x: View,
        weight: View,
        bias: View,
        stride: list[int],
        padding: list[int],
        dilation: list[int],
        transposed: bool,
        output_padding: list[int],
        groups: int,
    ) -> View:
        if transposed or groups != 1 or any(one != 1 for one in dilation) or len(stride) != 2:
            raise ExportError("This format has plain convolutions of images alone.")
        shape, dtype = self._of(node)
        outs, *kernel = weight.shape
        flat = (outs, math.prod(kernel))
        factors = self._dense(permuted(whole(self._dense(weight).buffer, flat), (1, 0)))
        options: dict[str, Any] = {"kernel": kernel[1:], "stride": stride, "padding": padding}
        x, bias = self._dense(x), self._dense(bias)
        return self._do("convolution", shape, dtype, x, factors, bias, **options)

    def _last(self, x: View, axes: Sequence[int]) -> View:
        """With these axes as the last one, and the numbers one after the other."""
        found = [axis % len(x.shape) for axis in axes]
        order = [axis for axis in range(len(x.shape)) if axis not in found] + found
        moved = self._dense(permuted(x, order))
        lead = moved.shape[: len(x.shape) - len(found)]
        shape = (*lead, math.prod(moved.shape[len(lead) :]))
        return View(moved.buffer, shape, dense_strides(shape), moved.offset)


VIEWS: dict[Any, Callable[..., Value]] = {
    aten.expand.default: expanded,
    aten.permute.default: permuted,
    aten.unsqueeze.default: with_axis,
    aten.squeeze.dims: squeezed,
    aten.slice.Tensor: sliced,
    aten.select.int: selected,
    aten.split_with_sizes.default: split,
    aten.clone.default: lambda x, **_: x,
    aten.alias.default: lambda x: x,
}
"""What computes nothing: all arrays are written once."""
SAME_SHAPE = {
    aten.add.Tensor: "add",
    aten.sub.Tensor: "sub",
    aten.mul.Tensor: "mul",
    aten.div.Tensor: "div",
    aten.minimum.default: "min",
    aten.maximum.default: "max2",
    aten.remainder.Scalar: "mod",
    aten.remainder.Tensor: "mod",
    aten.neg.default: "neg",
    aten.abs.default: "abs",
    aten.exp.default: "exp",
    aten.log.default: "log",
    aten.log1p.default: "log1p",
    aten.sqrt.default: "sqrt",
    aten.rsqrt.default: "rsqrt",
    aten.sin.default: "sin",
    aten.cos.default: "cos",
    aten.tanh.default: "tanh",
    aten.sigmoid.default: "sigmoid",
    aten.erf.default: "erf",
    aten.floor.default: "floor",
    aten.where.self: "where",
    aten.gt.Scalar: "gt",
    aten.ge.Scalar: "ge",
    aten.lt.Scalar: "lt",
    aten.le.Scalar: "le",
    aten.eq.Scalar: "eq",
    aten.ne.Scalar: "ne",
    aten.gt.Tensor: "gt",
    aten.ge.Tensor: "ge",
    aten.lt.Tensor: "lt",
    aten.le.Tensor: "le",
    aten.eq.Tensor: "eq",
    aten.ne.Tensor: "ne",
    aten.bitwise_not.default: "not",
    aten.logical_not.default: "not",
    aten.bitwise_and.Tensor: "and",
    aten.bitwise_or.Tensor: "or",
    aten.logical_and.default: "and",
    aten.logical_or.default: "or",
}
"""Number by number."""
COMPARISONS = ("gt", "ge", "lt", "le", "eq", "ne")
METHODS: dict[Any, Callable[..., View]] = {
    aten.view.default: _Lowering.view,
    aten._to_copy.default: _Lowering.to_copy,
    aten.cat.default: _Lowering.cat,
    aten.addmm.default: _Lowering.addmm,
    aten.mm.default: _Lowering.product,
    aten.bmm.default: _Lowering.product,
    aten.clamp.default: _Lowering.clamp,
    aten.relu.default: _Lowering.relu,
    aten.pow.Tensor_Scalar: _Lowering.power,
    aten.gelu.default: _Lowering.gelu,
    aten.elu.default: _Lowering.elu,
    aten.embedding.default: _Lowering.embedding,
    aten.index_select.default: _Lowering.index_select,
    aten.scatter.value: _Lowering.scatter,
    aten.argmax.default: _Lowering.argmax,
    aten.mean.dim: _Lowering.mean,
    aten.sum.dim_IntList: _Lowering.sum,
    aten.linalg_vector_norm.default: _Lowering.norm,
    aten._log_softmax.default: _Lowering.log_softmax,
    aten.convolution.default: _Lowering.convolution,
}
