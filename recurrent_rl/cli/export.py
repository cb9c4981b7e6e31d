"""`recurrent-rl export`: a trained policy as a program for other runtimes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from recurrent_rl.agents.export.names import FormatName
from recurrent_rl.agents.settings import at_least, validated
from recurrent_rl.cli.terminal import Best, Imports, Quiet, parse
from recurrent_rl.errors import UserError
from recurrent_rl.fields import FolderPath
from recurrent_rl.runs.progress import make_console

if TYPE_CHECKING:
    from recurrent_rl.agents.export.formats import Exported, Format
    from recurrent_rl.agents.export.signature import Field, Signature


@validated
@dataclass(frozen=True)
class ExportArguments:
    """Write a policy's step for another runtime, checked against the policy."""

    policy: Annotated[FolderPath, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_OR_POLICY")]
    """Run folder or policy file; or hf://OWNER/NAME of the Hugging Face Hub."""
    best: Best = False
    to: tuple[FormatName, ...] = ("onnx",)
    """One format or several. onnx: a model for ONNX Runtime, in Python, C++, JavaScript and
    elsewhere. torch: a program that torch.export.load reads. c: C99, header and source; c-int8:
    its weights in 8 bits, not checked. numpy: a Python file and the weights. Each runs
    without recurrent-rl."""
    out: FolderPath | None = None
    """File or folder to write; of several formats, or ending in a slash, the folder to put them
    into. By default beside the policy or, for a policy of the Hub, in the working folder."""
    batch: Annotated[int, at_least(1)] | Literal["dynamic"] = 1
    """Streams of observations stepped at once, or dynamic for any number (onnx and torch)."""
    value: bool = True
    """Also give the value: the return that is expected from here."""
    imports: Imports = ()
    quiet: Quiet = False

    def __post_init__(self) -> None:
        if not self.to:
            raise UserError("to is empty. Give one format or more, such as --to onnx c.")


def export_command(arguments: Sequence[str]) -> int:
    """Write a policy as ONNX, C, NumPy or a program of PyTorch, checked against it."""
    given, console = parse(ExportArguments, "export", arguments), make_console()

    from recurrent_rl.agents.export.formats import FORMATS, export_each
    from recurrent_rl.runs.trained_on import chosen_policy

    policy, source, file, label = chosen_policy(given.policy, given.best)
    beside = file if given.best else source
    paths: dict[FormatName, Path] = {to: _place(given, beside, FORMATS[to]) for to in given.to}
    status = console.status(f"Exporting {label} to {', '.join(paths)}")
    with nullcontext() if given.quiet else status:
        found = export_each(policy.agent, paths, given.batch, given.value)
    done = {to: one for to, one in found.items() if not isinstance(one, UserError)}
    for exported in done.values():
        if given.quiet:
            line = f"{exported.path}: {in_a_line(exported)}"
            console.print(line, soft_wrap=True, highlight=False)
        else:
            print(f"{exported.path}, {exported.size:,} bytes: {in_a_line(exported)}.", flush=True)
    _print_rest(given, done)
    if failed := {to: one for to, one in found.items() if isinstance(one, UserError)}:
        raise _with_what_stands(failed, done)
    return 0


def _print_rest(given: ExportArguments, done: Mapping[FormatName, Exported]) -> None:
    """The signature, which is the same of all, and what to do next with each."""
    from recurrent_rl.agents.export.formats import FORMATS

    if given.quiet or not done:
        return
    print_signature(next(iter(done.values())).signature)
    for name, exported in done.items():
        print(f"next: {FORMATS[name].next.format(path=str(exported.path))}")


def _with_what_stands(
    failed: Mapping[FormatName, UserError], done: Mapping[FormatName, Exported]
) -> UserError:
    """What failed of several formats, with what was written and what was not."""
    if len(failed) + len(done) == 1:
        return next(iter(failed.values()))
    errors = " ".join(f"{to}: {error}" for to, error in failed.items())
    stands = ", ".join(str(exported.path) for exported in done.values()) or "nothing"
    return UserError(f"{errors} Written: {stands}. Not written: {', '.join(failed)}.")


def _place(given: ExportArguments, beside: Path, form: Format) -> Path:
    """Where an export goes: a file, or a folder for what it is made of."""
    from recurrent_rl.agents.hub import SCHEME

    if given.out is not None:
        out = str(given.out)
        is_folder = len(set(given.to)) > 1 or ("" in form.names and out.endswith(("/", os.sep)))
        return Path(out) / form.file if is_folder else Path(out)
    # a file of the Hub lies in its cache
    return Path(form.file) if str(given.policy).startswith(SCHEME) else form.beside(beside)


def print_signature(signature: Signature) -> None:
    """What a step takes and gives."""
    print()
    for title, fields in (("inputs", signature.inputs), ("outputs", signature.outputs)):
        print(title)
        for field in fields:
            print(f"  {field.name:22} {described(field):22} {field.meaning}")
    print("\nThe state goes round, and is zeros at first:", end=" ")
    print(", ".join(f"{new} to {old}" for old, new in signature.state.items()) or "none", "\n")


def in_a_line(exported: Exported) -> str:
    """What the check has found."""
    if (check := exported.check) is None:
        return "not checked, since it only comes near the policy: judge it by its return"
    name, difference = check.largest
    return (
        f"{check.steps:,} steps checked against the policy; farthest off is {name}, by "
        f"{difference:.1e} (float32 itself by {check.own[name]:.1e})"
    )


def described(field: Field) -> str:
    """Type and shape."""
    sizes = ", ".join("batch" if size is None else str(size) for size in field.shape)
    return f"{field.dtype} [{sizes}]"
