"""The forms in which a policy can be exported, and the way there: trace, write, check, keep."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.arguments import PATH, argument, check_is
from recurrent_rl.agents.errors import UserError
from recurrent_rl.agents.export import c_files, numpy_folder, onnx_model, torch_program
from recurrent_rl.agents.export.check import Arrays, Check, Runner, checks
from recurrent_rl.agents.export.graph import Program, process_as_before, trace
from recurrent_rl.agents.export.names import FormatName
from recurrent_rl.agents.export.own_parts import blaming_parts
from recurrent_rl.agents.export.signature import Signature
from recurrent_rl.agents.export.step import ExportError
from recurrent_rl.agents.files import kind_of, refuse_nonfinite, write_together
from recurrent_rl.agents.generators import forked_torch_state
from recurrent_rl.agents.settings import at_least, check_choice

POLICY_STEM = "policy"
"""What the names of files and folders begin with, unless the policy's file has another."""
SINGLE = ("",)
"""The names of the files of a form that is a single file."""
FIX = "Export it to another format, or compute with other operations."
"""What helps where a part of one's own does not run in a format."""


@dataclass(frozen=True)
class Format:
    """A form in which a policy can be exported."""

    file: str
    """The name of the file or folder, where only a folder to put it in is given."""
    names: tuple[str, ...]
    """Of its files in its folder; of a single file the name is empty."""
    files: Callable[[Program], dict[str, bytes]]
    """What it is made of, by these names."""
    runner: Callable[[Mapping[str, bytes]], Runner]
    """Steps what `files` has made, for the check."""
    next: str
    """What to do with it, a line of code for its path."""
    checked: bool = True
    """Whether it computes what the policy does; else it is near it, and its return tells how good
    it is."""
    streams: Literal["any", "fixed", "one"] = "any"
    """How many it steps at once: a number fixed when it is written or any, a fixed one, or one."""

    def beside(self, policy: Path) -> Path:
        """Where it goes by default: beside a policy's file, or into the folder of its run."""
        if policy.is_dir():
            return policy / self.file
        return policy.with_name(policy.stem + self.file.removeprefix(POLICY_STEM))

    def refuse_batch(self, batch: int | Literal["dynamic"]) -> None:
        """Refuse a number of streams that it cannot step.

        Raises:
            ExportError: it cannot.
        """
        if self.streams == "one" and batch != 1:
            raise ExportError(
                "A policy in C steps one stream, with a state for each: batch=1 (--batch 1)."
            )
        if self.streams == "fixed" and batch == "dynamic":
            raise ExportError(
                "A policy on NumPy has arrays of fixed shapes: say for how many streams, as by "
                "batch=1 (--batch 1), or export it to onnx or torch."
            )

    def places(self, path: Path) -> dict[str, Path]:
        """Where its files go, by their names.

        Args:
            path: of the file or folder; or an existing folder to put a file into.

        Raises:
            ExportError: a trained policy or a checkpoint would be overwritten.
        """
        if path.is_dir() and self.names == SINGLE:
            path = path / self.file
        found = {name: path / name if name else path for name in self.names}
        for file in found.values():
            if (kind := kind_of(file)) is not None:
                raise ExportError(
                    f"{file} is a file that recurrent-rl reads ({kind}), and an export would "
                    "overwrite it. Name another place for the export: path=... (--out PATH)."
                )
        return found


FORMATS: dict[FormatName, Format] = {
    "onnx": Format(
        "policy.onnx",
        SINGLE,
        onnx_model.files,
        onnx_model.runner,
        "session = onnxruntime.InferenceSession({path!r})",
    ),
    "torch": Format(
        "policy.pt2",
        SINGLE,
        torch_program.files,
        torch_program.runner,
        "step = torch.export.load({path!r}).module()",
    ),
    "c": Format(
        "policy_c",
        c_files.NAMES,
        c_files.files,
        c_files.runner,
        "cc -std=c99 -O3 -c {path}/policy.c",
        streams="one",
    ),
    "c-int8": Format(
        "policy_c_int8",
        c_files.NAMES,
        c_files.short_files,
        c_files.runner,
        "cc -std=c99 -O3 -c {path}/policy.c",
        checked=False,
        streams="one",
    ),
    "numpy": Format(
        "policy_numpy",
        numpy_folder.NAMES,
        numpy_folder.files,
        numpy_folder.runner,
        "sys.path.insert(0, {path!r}); from policy import Policy; policy = Policy()",
        streams="fixed",
    ),
}
"""By the name under which a user asks for them."""


@dataclass(frozen=True)
class Exported:
    """A policy that was exported."""

    path: Path
    """Of the file or folder."""
    size: int
    """In bytes."""
    signature: Signature
    """What it takes and gives."""
    check: Check | None
    """How far it is from the policy; None of a form that is not checked."""


def export(
    agent: ActorCritic,
    path: str | Path,
    to: FormatName,
    batch: int | Literal["dynamic"] = 1,
    value: bool = True,
) -> Exported:
    """Export a policy's step, and check that it computes what the policy does.

    Args:
        agent: of the policy.
        path: of the file or folder to write; or an existing folder to put a file into.
        to: one of `FORMATS`.
        batch: streams stepped at once, or "dynamic" for any number.
        value: also give the value.

    Raises:
        ExportError: the policy cannot be exported so, the check failed, or a trained policy would
            be overwritten: nothing is written then.
        FileWriteError: the disk is full, or the folder cannot be written to.
        NonFiniteError: a weight is NaN or infinite.
        SettingError: an argument is of another type, or there is no such form.
    """
    check_is("path", path, *PATH)
    check_choice("to", to, FORMATS)
    found = export_each(agent, {to: Path(path)}, batch, value)[to]
    if isinstance(found, UserError):
        raise found
    return found


@forked_torch_state()
@process_as_before()
def export_each(
    agent: ActorCritic,
    paths: Mapping[FormatName, Path],
    batch: int | Literal["dynamic"] = 1,
    value: bool = True,
) -> dict[FormatName, Exported | UserError]:
    """Export to several formats, of one trace and with one check for all: these take longest.

    Args:
        agent: of the policy.
        paths: as for `export`, by the names of the formats.
        batch: as for `export`.
        value: as for `export`.

    Returns:
        What was exported to each format, or why it failed: then nothing of it was written.

    Raises:
        ExportError: the policy cannot be exported to any format, or one of these cannot step so
            many streams, or would overwrite a trained policy.
        NonFiniteError: a weight is NaN or infinite.
        SettingError: an argument is of another type.
    """
    is_dynamic = isinstance(batch, str) and batch == "dynamic"
    streams = None if is_dynamic else argument("batch", batch, Annotated[int, at_least(1)])
    value = argument("value", value, bool)
    refuse_nonfinite(agent.state_dict())
    places = {}
    for to, path in paths.items():
        FORMATS[to].refuse_batch(batch)
        places[to] = FORMATS[to].places(path)
    program = trace(agent, value, streams)
    files: dict[FormatName, dict[str, bytes]] = {}
    runs: dict[FormatName, Runner] = {}
    found: dict[FormatName, Exported | UserError] = {}
    for to in paths:
        try:
            files[to] = FORMATS[to].files(program)
            if FORMATS[to].checked:
                runs[to] = _runner(agent, to, files[to])
        except UserError as error:
            found[to] = error
    with blaming_parts(agent, "The check of this policy's export does not run", FIX):
        checked = dict(zip(runs, checks(agent, program.signature, [*runs.values()]), strict=True))
    for to in paths:
        if to not in found:
            found[to] = _kept(paths[to], places[to], files[to], program.signature, checked.get(to))
    return {to: found[to] for to in paths}


def _runner(agent: ActorCritic, to: FormatName, files: Mapping[str, bytes]) -> Runner:
    """Steps what a format is made of; of parts of one's own, what fails in it is told as theirs."""
    what = f"What was exported to {to} does not run"
    with blaming_parts(agent, what, FIX):
        step = FORMATS[to].runner(files)

    def run(inputs: Arrays) -> Arrays:
        with blaming_parts(agent, what, FIX):
            return step(inputs)

    return run


def _kept(
    path: Path,
    places: Mapping[str, Path],
    files: Mapping[str, bytes],
    signature: Signature,
    check: Check | ExportError | None,
) -> Exported | UserError:
    """Write the files of a format, unless its check refuses them."""
    if isinstance(check, ExportError):
        return check
    try:
        write_together({places[name]: content for name, content in files.items()})
    except UserError as error:
        return error
    return Exported(places.get("", path), sum(map(len, files.values())), signature, check)
