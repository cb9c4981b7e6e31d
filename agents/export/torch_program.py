"""As a program of PyTorch: `.pt2`, which `torch.export.load` reads without this library."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import torch

from recurrent_rl.agents.export.check import Arrays, Runner
from recurrent_rl.agents.export.graph import Program
from recurrent_rl.agents.export.signature import Signature

SIGNATURE = "signature.json"
"""The extra file that says what the program takes and gives."""


def files(program: Program) -> dict[str, bytes]:
    """The one file of a program."""
    file = io.BytesIO()
    extra = {SIGNATURE: program.signature.to_json()}
    torch.export.save(program.exported, file, extra_files=extra)
    return {"": file.getvalue()}


def runner(content: Mapping[str, bytes]) -> Runner:
    """Steps what `files` has made."""
    extra: dict[str, Any] = {SIGNATURE: ""}
    step = torch.export.load(io.BytesIO(content[""]), extra_files=extra).module()
    signature = Signature.from_json(extra[SIGNATURE])

    @torch.no_grad()
    def run(inputs: Arrays) -> Arrays:
        given = [torch.as_tensor(inputs[field.name]) for field in signature.inputs]
        outputs = step(*given)
        return {f.name: x.numpy() for f, x in zip(signature.outputs, outputs, strict=True)}

    return run
