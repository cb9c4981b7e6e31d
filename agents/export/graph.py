"""The graph of a policy's step: few plain operations on real numbers, and constants."""

from __future__ import annotations

import operator
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, hub, nn
from torch.export import Dim, ExportedProgram

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.export.own_parts import blaming_parts
from recurrent_rl.agents.export.plainer import PLAINER
from recurrent_rl.agents.export.signature import Signature
from recurrent_rl.agents.export.step import ExportError, PolicyStep

aten = torch.ops.aten
COMPILERS_FOLDER = "TORCHINDUCTOR_CACHE_DIR"
"""The variable that torch's compiler sets."""


@dataclass(frozen=True)
class Program:
    """A policy's step, ready to be written in any form."""

    exported: ExportedProgram
    """Takes the signature's inputs in their order and gives its outputs. Its graph is of core ATen
    operations, without complex numbers; what depends on weights alone is computed."""
    signature: Signature
    """What it takes and gives."""
    agent: ActorCritic
    """Whose step it is."""


def trace(agent: ActorCritic, value: bool = True, batch: int | None = 1) -> Program:
    """The step of an agent as a program.

    Args:
        agent: not changed.
        value: whether the step also gives the value.
        batch: streams stepped at once; None: any number.

    Raises:
        ExportError: the agent has a part of one's own whose step cannot be traced.
    """
    step = PolicyStep(agent, value)
    signature = step.signature(batch)
    inputs = tuple(step.example(batch or 2).values())
    fix = (
        "A part that is exported computes with tensors alone, and decides nothing by their values."
    )
    if batch is None:
        fix += (
            " It takes the batch from x.shape[0], not from len(x), which fixes it; or export with "
            "batch=1 (--batch 1)."
        )
    with blaming_parts(agent, "The step of this policy cannot be traced", fix):
        first = _exported(step, inputs, signature)
        plain = Plain(first.module(check_guards=False))
        return Program(_exported(plain, inputs, signature), signature, agent)


def _exported(step: nn.Module, inputs: tuple[Tensor, ...], signature: Signature) -> ExportedProgram:
    """The step in core ATen operations."""
    shapes = None
    if signature.batch is None:
        batch = Dim("batch", min=1)
        axes = tuple({field.shape.index(None): batch} for field in signature.inputs)
        shapes = {"inputs": axes}
    with torch.no_grad(), without_torchs_warning():
        program: ExportedProgram = torch.export.export(
            step, inputs, dynamic_shapes=shapes, strict=False
        ).run_decompositions()
    return program


@contextmanager
def process_as_before() -> Iterator[None]:
    """Give back what torch's tracing would change in the process for good.

    Its interpreter makes a progress bar that it never shows. The first of tqdm's starts a thread
    and fixes how processes start; torch has another where tqdm is not installed. Its compiler, when
    it is loaded, sets a variable of the environment.
    """
    interpreter: Any = fx.interpreter
    bar, folder = getattr(interpreter, "tqdm", None), os.environ.get(COMPILERS_FOLDER)
    interpreter.tqdm = getattr(hub, "_Faketqdm", bar)
    try:
        yield
    finally:
        interpreter.tqdm = bar
        if folder is None:
            os.environ.pop(COMPILERS_FOLDER, None)
        else:
            os.environ[COMPILERS_FOLDER] = folder


@contextmanager
def without_torchs_warning() -> Iterator[None]:
    """Without what torch 2.13 says of its own code when it copies what it traced."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)`", FutureWarning)
        yield


class Pair(NamedTuple):
    """Complex numbers by their parts: tensors, or two numbers."""

    re: Any
    im: Any


class Plain(nn.Module):
    """A traced step without complex numbers, and with all computed that no input changes.

    Args:
        module: whose graph is of core ATen operations.

    Raises:
        ExportError: it does with complex numbers what `COMPLEX` has not.
    """

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__()
        _keep_divisors(module)
        constants = _constants(module)
        self._nodes = [
            node
            for node in module.graph.nodes
            if node not in constants and node.target not in CHECKS
        ]
        self._constants: dict[fx.Node, tuple[str, ...]] = {}
        for node in {node for later in self._nodes for node in later.all_input_nodes}:
            if node in constants:
                self._constants[node] = self._keep(node.name, constants[node])

    def _keep(self, name: str, x: Tensor) -> tuple[str, ...]:
        """Keep a constant, in parts where it is complex; the names of its buffers."""
        parts = {f"{name}_re": x.real, f"{name}_im": x.imag} if x.is_complex() else {name: x}
        for part, value in parts.items():
            self.register_buffer(part, value.detach().clone(memory_format=torch.contiguous_format))
        return tuple(parts)

    def forward(self, *inputs: Tensor) -> Any:
        """As the module."""
        given = iter(inputs)
        values: dict[fx.Node, Any] = {}
        for node, names in self._constants.items():
            parts = [self.get_buffer(name) for name in names]
            values[node] = Pair(*parts) if len(parts) == 2 else parts[0]
        for node in self._nodes:
            if node.op == "placeholder":
                values[node] = next(given)
                continue
            arguments = fx.map_arg(node.args, values.__getitem__)
            if node.op == "output":
                return arguments[0]
            values[node] = _computed(node.target, arguments, node.kwargs)
        raise AssertionError("a graph ends with its output")


CHECKS = (aten._assert_tensor_metadata.default,)
"""What computes nothing."""


def _keep_divisors(module: fx.GraphModule) -> None:
    """Let what remains of a division have a divisor that is a constant of the dividend's type.

    Of a plain number, torch's translation to ONNX makes one in single precision. A matrix memory
    turns its keys by 2 pi in double, and would be 2e-7 off with each turn.
    """
    for node in module.graph.nodes:
        if node.target is aten.remainder.Scalar:
            x, divisor = node.args
            name = f"{node.name}_divisor"
            module.register_buffer(name, torch.tensor(divisor, dtype=x.meta["val"].dtype))
            with module.graph.inserting_before(node):
                node.args = (x, module.graph.get_attr(name))
            node.target = aten.remainder.Tensor


def _constants(module: fx.GraphModule) -> dict[fx.Node, Any]:
    """What depends on no input, computed."""
    found: dict[fx.Node, Any] = {}
    for node in module.graph.nodes:
        if node.op == "get_attr":
            found[node] = operator.attrgetter(node.target)(module)
        elif node.op == "call_function" and all(one in found for one in node.all_input_nodes):
            arguments, options = fx.map_arg((node.args, node.kwargs), found.__getitem__)
            found[node] = node.target(*arguments, **options)
    return found


def _computed(operation: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """What an operation gives, of complex numbers as pairs."""
    arguments = tuple(Pair(x.real, x.imag) if isinstance(x, complex) else x for x in arguments)
    if operation in TO_COMPLEX:
        return TO_COMPLEX[operation](*arguments)
    if operation in PLAINER:
        return PLAINER[operation](*arguments, **options)
    if not any(isinstance(x, Pair) for x in arguments):
        return operation(*arguments, **options)
    if operation not in COMPLEX or options:
        known = ", ".join(str(one) for one in COMPLEX)
        raise ExportError(
            f"The step computes {operation} of complex numbers, for which an export knows no real "
            f"arithmetic. Compute with real parts, or with these alone: {known}."
        )
    return COMPLEX[operation](*arguments)


def _product(a: Any, b: Any) -> Pair:
    """Of two numbers, one of them complex at least."""
    if not isinstance(a, Pair):
        a, b = b, a
    if not isinstance(b, Pair):
        return Pair(a.re * b, a.im * b)
    return Pair(a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re)


def _sum(a: Any, b: Any) -> Pair:
    """Of two numbers, one of them complex at least."""
    if not isinstance(a, Pair):
        a, b = b, a
    if not isinstance(b, Pair):
        return Pair(a.re + b, a.im)
    return Pair(a.re + b.re, a.im + b.im)


TO_COMPLEX: dict[Any, Callable[..., Pair]] = {
    aten.complex.default: Pair,
    aten.polar.default: lambda size, angle: Pair(size * angle.cos(), size * angle.sin()),
    aten.view_as_complex.default: lambda x: Pair(x[..., 0], x[..., 1]),
}
"""What makes complex numbers."""
COMPLEX: dict[Any, Callable[..., Any]] = {
    aten.mul.Tensor: _product,
    aten.add.Tensor: _sum,
    aten.expand.default: lambda x, size: Pair(x.re.expand(size), x.im.expand(size)),
    aten.view_as_real.default: lambda x: torch.stack([x.re, x.im], -1),
}
"""What computes with them."""
