"""`recurrent-rl export`: a trained policy as a program for other runtimes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from recurrent_rl.agents.settings import at_least, settle
from recurrent_rl.cli.terminal import Best, Imports, Quiet, parse
from recurrent_rl.errors import UserError
from recurrent_rl.fields import FolderPath
from recurrent_rl.runs.progress import make_console

if TYPE_CHECKING:
    from recurrent_rl.agents.export.formats import Exported
    from recurrent_rl.agents.export.signature import Field


@dataclass(frozen=True)
class ExportArguments:
    """Write a policy's step for another runtime, checked against the policy."""

    policy: Annotated[FolderPath, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_OR_POLICY")]
    """Run folder or policy file; or hf://OWNER/NAME of the Hugging Face Hub."""
    best: Best = False
    """Of a run, take best_policy.safetensors: the policy that did best in the evaluations during
    training (--eval-interval), instead of the last one."""
    to: Literal["onnx", "torch", "c", "c-int8", "numpy"] = "onnx"
    """onnx: a model for ONNX Runtime, in Python, C++, JavaScript and elsewhere. torch: a program
    that torch.export.load reads. c: C99, header and source; c-int8: its weights in 8 bits, not
    checked. numpy: a Python file and the weights. None needs recurrent-rl any more."""
    out: FolderPath | None = None
    """File or folder to write; by default beside the policy or, for a policy of the Hub, in the
    working folder."""
    batch: Annotated[int, at_least(1)] | Literal["dynamic"] = 1
    """Streams of observations stepped at once, or dynamic for any number (onnx and torch)."""
    value: bool = True
    """Also give the value: the return that is expected from here."""
    imports: Imports = ()
    """Module to import first, in which memories and the like are registered, or one of them as
    module:Class; may be given several times."""
    quiet: Quiet = False
    """Show no progress, and of the result one line."""

    def __post_init__(self) -> None:
        settle(self, UserError)


def export_command(arguments: Sequence[str]) -> int:
    """Write a policy as ONNX, C, NumPy or a program of PyTorch, checked against it."""
    from recurrent_rl.agents.export.formats import FORMATS
    from recurrent_rl.agents.hub import SCHEME
    from recurrent_rl.runs.trained_on import chosen_policy

    given, console = parse(ExportArguments, "export", arguments), make_console()
    policy, source, file, label = chosen_policy(given.policy, given.best)
    form = FORMATS[given.to]
    if given.out is not None:
        path = Path(given.out)
    elif str(given.policy).startswith(SCHEME):  # whose file lies in the Hub's cache
        path = Path(form.file)
    else:
        path = form.beside(file if given.best else source)
    with nullcontext() if given.quiet else console.status(f"Tracing and checking {label}"):
        exported = policy.export(path, given.to, given.batch, given.value)
    if given.quiet:
        console.print(f"{exported.path}: {in_a_line(exported)}", soft_wrap=True, highlight=False)
        return 0
    print(f"{exported.path}, {exported.size:,} bytes: {in_a_line(exported)}.\n")
    for title, fields in (
        ("inputs", exported.signature.inputs),
        ("outputs", exported.signature.outputs),
    ):
        print(title)
        for field in fields:
            print(f"  {field.name:22} {described(field):22} {field.meaning}")
    print("\nThe state goes round, and is zeros at first:", end=" ")
    print(", ".join(f"{new} to {old}" for old, new in exported.signature.state.items()) or "none")
    print(f"\nnext: {form.next.format(path=str(exported.path))}")
    return 0


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
