"""As a header and a source in C99."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurrent_rl.agents.action_masks import mask_sizes
from recurrent_rl.agents.export.c.names import struct_fields
from recurrent_rl.agents.export.c.source import written
from recurrent_rl.agents.export.check import Arrays, Runner
from recurrent_rl.agents.export.graph import Program
from recurrent_rl.agents.export.lowering import lower
from recurrent_rl.agents.export.own_parts import naming_parts
from recurrent_rl.agents.export.signature import Signature
from recurrent_rl.agents.export.step import START, ExportError, limits_of
from recurrent_rl.agents.files import temporary_folder

NAME = "policy"
HEADER, SOURCE, SIGNATURE = f"{NAME}.h", f"{NAME}.c", f"{NAME}.json"
NAMES = (HEADER, SOURCE, SIGNATURE)
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic")
"""What the source compiles with."""


def files(program: Program, int8: bool = False) -> dict[str, bytes]:
    """Header, source, and the signature as JSON.

    Args:
        program: of one stream.
        int8: keep the weights of products in 8 bits each.
    """
    agent = program.agent
    listing, masks = lower(program), mask_sizes(agent.action_space) or []
    with naming_parts(agent):
        source = written(listing, NAME, limits_of(agent.observation_space), masks, int8)
    return {
        HEADER: source.header.encode(),
        SOURCE: source.source.encode(),
        SIGNATURE: program.signature.to_json().encode(),
    }


def short_files(program: Program) -> dict[str, bytes]:
    """The same with weights of 8 bits."""
    return files(program, int8=True)


def compiler() -> str:
    """The C compiler of this machine.

    Raises:
        ExportError: there is none.
    """
    for name in filter(None, (os.environ.get("CC"), "cc", "gcc", "clang")):
        if shutil.which(name):
            return name
    raise ExportError(
        "An export to C is compiled to be checked, and there is no C compiler here. Install gcc or "
        "clang, or name yours in the environment variable CC."
    )


def runner(content: Mapping[str, bytes]) -> Runner:
    """Compiles what `files` has made, and steps it."""
    with temporary_folder() as folder:
        for name in (HEADER, SOURCE):
            (Path(folder) / name).write_bytes(content[name])
        built = Path(folder) / "policy.so"
        command = [compiler(), *STRICT, "-O2", "-shared", "-fPIC", "-o", str(built)]
        done = subprocess.run(
            [*command, str(Path(folder) / SOURCE), "-lm"], capture_output=True, text=True
        )
        if done.returncode:
            raise ExportError(f"{command[0]} does not compile the export: {done.stderr.strip()}")
        step = ctypes.CDLL(str(built)).policy_step
    return _Runner(Signature.from_json(content[SIGNATURE].decode()), step)


class _Runner:
    """Calls a compiled step."""

    def __init__(self, signature: Signature, step: Any) -> None:
        self._step, self._signature = step, signature
        shapes = {f.name: f for f in (*signature.inputs, *signature.outputs)}

        def array(name: str) -> NDArray[Any]:
            return np.zeros([int(n or 1) for n in shapes[name].shape], shapes[name].dtype)

        self._kept = {START: np.zeros(1, np.uint8)}
        self._kept |= {name: array(name) for name in struct_fields(signature)}
        dtype = np.dtype([(name, x.dtype, (x.size,)) for name, x in self._kept.items()], align=True)
        self._state = np.zeros(1, dtype)
        inside = {START, *signature.state}
        self._given = {f.name: array(f.name) for f in signature.inputs if f.name not in inside}
        self._action = array("action")
        pointers = [self._state, *self._given.values(), self._action]
        self._arguments = [ctypes.c_void_p(x.ctypes.data) for x in pointers]

    def __call__(self, inputs: Arrays) -> Arrays:
        for name, value in inputs.items():
            if name in self._given:
                self._given[name][...] = value
            else:
                self._state[name][0] = value.reshape(-1)
        if status := self._step(*self._arguments):
            raise ExportError(f"The compiled step refuses its input, with status {status}.")
        found = {"action": self._action.copy()}
        before = {after: before for before, after in self._signature.state.items()}
        for field in self._signature.outputs[1:]:
            name = before.get(field.name, field.name)
            found[field.name] = self._state[name][0].reshape(self._kept[name].shape).copy()
        return found
