"""As an ONNX model: for ONNX Runtime in Python, C++, JavaScript and elsewhere.

It is translated from the step's own graph: matrix products and elementwise operations, none of
ONNX's recurrent operators.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from recurrent_rl.agents.export.check import Arrays, Runner
from recurrent_rl.agents.export.graph import Program, without_torchs_warning
from recurrent_rl.agents.export.own_parts import blaming_parts
from recurrent_rl.agents.export.signature import Signature
from recurrent_rl.agents.export.step import ExportError
from recurrent_rl.agents.extras import optional

OPSET = 18
"""Of ONNX, from December 2022: old enough for the runtimes that are about."""
SIGNATURE = "signature"
"""The entry of the model's metadata that says what it takes and gives."""
BATCH = "batch"
"""The name of the axis that may be of any size."""


def files(program: Program) -> dict[str, bytes]:
    """The one file of a model.

    Raises:
        ExportError: a package is missing, or an operation has no translation.
    """
    for name in ("onnx", "onnxscript", "onnxruntime"):
        _package(name)
    made, signature = _translated(program), program.signature
    _tell_apart(made.model, signature)
    _describe(made.model, signature)
    return {"": made.model_proto.SerializeToString()}


def _translated(program: Program) -> torch.onnx.ONNXProgram:
    """The step in ONNX's operations."""
    signature, fix = program.signature, "Export it to torch, or compute with other operations."
    with (
        _quiet(),
        without_torchs_warning(),
        blaming_parts(program.agent, "PyTorch does not translate this policy to ONNX", fix),
    ):
        made = torch.onnx.export(
            program.exported,
            (),
            dynamo=True,
            opset_version=OPSET,
            input_names=[field.name for field in signature.inputs],
            output_names=[field.name for field in signature.outputs],
            verbose=False,
        )
    assert made is not None
    return made


def runner(content: Mapping[str, bytes]) -> Runner:
    """Steps what `files` has made, by ONNX Runtime."""
    runtime = _package("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1  # more only wait for one another, at such sizes
    session = runtime.InferenceSession(content[""], options, ["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(inputs: Arrays) -> Arrays:
        return dict(zip(names, session.run(None, inputs), strict=True))

    return run


def _tell_apart(model: Any, signature: Signature) -> None:
    """Give what is computed on the way other names than inputs and outputs have, such as mean."""
    taken = {field.name for field in (*signature.inputs, *signature.outputs)}
    results = {id(value) for value in model.graph.outputs}
    for node in model.graph:
        for value in node.outputs:
            if value.name in taken and id(value) not in results:
                value.name = f"{value.name}_on_the_way"


def _describe(model: Any, signature: Signature) -> None:
    """Say in a model what it takes and gives, and call its batch so."""
    model.metadata_props[SIGNATURE] = signature.to_json()
    for values, fields in (
        (model.graph.inputs, signature.inputs),
        (model.graph.outputs, signature.outputs),
    ):
        for value, field in zip(values, fields, strict=True):
            value.doc_string = field.meaning
            for axis, size in enumerate(field.shape):
                if size is None:
                    value.shape[axis] = BATCH


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's list of packages for images, and what it passes over by the way."""
    names = ("torch.onnx._internal.exporter._registration", "onnx_ir")
    before = {log: log.level for log in map(logging.getLogger, names)}
    for log in before:
        log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for log, level in before.items():
            log.setLevel(level)


def _package(name: str) -> Any:
    """A package of the extra.

    Raises:
        ExportError: it is not installed.
    """
    return optional(name, "An ONNX model", error=ExportError)
