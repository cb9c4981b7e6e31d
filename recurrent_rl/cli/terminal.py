"""What all commands share: how arguments are read and where text is printed."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import tyro
from rich.console import Console
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from recurrent_rl.agents.settings import OTHER_NAMES, SettingError, suggestion
from recurrent_rl.cli.grouping import grouped, settings_of, ungrouped
from recurrent_rl.errors import UserError
from recurrent_rl.fields import json_object

Arguments = TypeVar("Arguments")
TYRO_OPTIONS = (tyro.conf.OmitArgPrefixes, tyro.conf.CascadeSubcommandArgs)
RULES = ConstructorRegistry()

Imports = Annotated[
    tuple[str, ...],
    tyro.conf.UseAppendAction,
    tyro.conf.arg(
        name="import",
        metavar="MODULE",
        help="Import this module first: one that registers memories, encoders or action heads of "
        "yours, or such a class as module:Class. May be given several times.",
    ),
]
"""The flag that names modules to import first; a command's field of this type is `imports`."""

Best = Annotated[
    bool,
    tyro.conf.FlagCreatePairsOff,
    tyro.conf.arg(
        help="Of a run, take best_policy.safetensors: the policy that did best in the evaluations "
        "during training (--eval-interval), instead of the last one."
    ),
]
"""The flag that takes a run's best policy instead of its last; a command's field of this type is
`best`."""

Quiet = Annotated[
    bool,
    tyro.conf.FlagCreatePairsOff,
    tyro.conf.arg(aliases=["-q"], help="Show no progress, and one line of the result."),
]
"""The flag of a long command that leaves one line of what it prints: the result."""


def print_labelled(console: Console, lines: Iterable[tuple[str, str]]) -> None:
    """Print where things are and the next useful commands, each after its label."""
    for label, text in lines:
        console.print(f"{label + ':':10} {text}", soft_wrap=True, highlight=False)


def parse(
    kind: type[Arguments],
    name: str,
    arguments: Sequence[str],
    groups: Mapping[str, Sequence[str]] | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> Arguments:
    """Read a command's arguments; its help and its own errors end the program here.

    Args:
        kind: the settings class to read.
        name: of the command.
        arguments: of the command.
        groups: of the settings in the help, as for `grouped`.
        defaults: what the settings are where no argument says otherwise, as for `grouped`.

    Raises:
        UserError: a flag is another library's, several runs are named where one is read, or a value
            cannot be.
    """
    _refuse_other_names(kind, name, arguments)
    _refuse_several_runs(kind, name, arguments)
    given: Any = tyro.cli(
        grouped(kind, groups or {}, defaults),
        prog=f"recurrent-rl {name}",
        args=list(arguments),
        config=TYRO_OPTIONS,
        registry=RULES,
    )
    if imports := getattr(given, "imports", ()):  # before settings that name what they register
        from recurrent_rl.agents.named_parts import import_parts

        import_parts(imports)
    return ungrouped(kind, given)


def _refuse_other_names(kind: type, command: str, arguments: Sequence[str]) -> None:
    """Refuse a flag that another library has, and say what it is called here.

    Raises:
        SettingError: names both.
    """
    settings = settings_of(kind)
    written = {name: setting.written for name, setting in settings.items()}
    for argument in arguments:
        flag = argument.partition("=")[0]
        name = flag.removeprefix("--").replace("-", "_")
        is_known = name in written or name in OTHER_NAMES
        if not (flag.startswith("--") and is_known) or written.get(name, "").startswith("--"):
            continue
        if hint := suggestion(name, written):
            raise SettingError(f"recurrent-rl {command} has no {flag}.{hint}")


def _refuse_several_runs(kind: type, command: str, arguments: Sequence[str]) -> None:
    """Refuse several run folders or policy files where one is read, as a shell makes them.

    Raises:
        UserError: names them.
    """
    files = [_file_of(one) for one in arguments]
    are_several = any(first and second for first, second in pairwise(files))
    if "runs" in settings_of(kind) or not are_several:
        return
    times = {one: file.stat().st_mtime for one, file in zip(arguments, files, strict=True) if file}
    what = "run" if all(Path(one).is_dir() for one in times) else "policy"
    raise UserError(
        f"recurrent-rl {command} takes one {what} here, and these are {len(times)}: "
        f"{', '.join(times)}. Name one; the newest is {max(times, key=times.__getitem__)}."
    )


def _file_of(argument: str) -> Path | None:
    """The settings of a run's folder, or a policy's file; None where an argument is neither."""
    path = Path(argument)
    with suppress(OSError):  # of a text too long for a path, such as a long JSON object
        for file in (path / "config.json", *([path] if path.suffix == ".safetensors" else [])):
            if file.is_file():
                return file
    return None


@RULES.primitive_rule
def _whole_number(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """Read 1e6 too where a whole number is expected; which number is one, the settings check."""
    if info.type is not int:
        return None

    def read(arguments: list[str]) -> float:
        (text,) = arguments
        for kind in (int, float):
            with suppress(ValueError):
                return kind(text)
        raise ValueError(f"{text!r} is no whole number; write it as 1000000, 1_000_000 or 1e6.")

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT",
        instance_from_str=read,
        is_instance=lambda value: isinstance(value, int),
        str_from_instance=lambda value: [str(value)],
    )


@RULES.primitive_rule
def _json_object(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """Read the text of a JSON object where a dictionary is expected."""
    is_union = get_origin(info.type) in (Union, UnionType)
    kinds = list(get_args(info.type)) if is_union else [info.type]
    kinds = [get_args(kind)[0] if get_origin(kind) is Annotated else kind for kind in kinds]
    if not any(get_origin(kind) is dict for kind in kinds):
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="JSON",
        instance_from_str=lambda texts: json_object("it", texts[0]),
        is_instance=lambda value: value is None or isinstance(value, dict),
        str_from_instance=lambda value: ["None" if value is None else json.dumps(value)],
    )


def figure(value: float | None) -> str:
    """A number as a table shows it; a dash where there is none."""
    return "-" if value is None or math.isnan(value) else f"{value:.4g}"


def quoted(path: str | Path) -> str:
    """A path as one word of a shell's command."""
    return shlex.quote(str(path))


def in_python(path: Path) -> str:
    """A path as a string of Python's."""
    return json.dumps(str(path), ensure_ascii=False)
