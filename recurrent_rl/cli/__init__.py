"""The command `recurrent-rl`: finds the requested command, and says clearly what went wrong."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from typing import Any, NamedTuple

from rich.text import Text

from recurrent_rl.agents.raising import in_a_sentence, own_calls
from recurrent_rl.cli.benchmark import benchmark_command
from recurrent_rl.cli.check import check_command
from recurrent_rl.cli.compare import compare_command
from recurrent_rl.cli.completion import completion_command
from recurrent_rl.cli.convert import convert_command
from recurrent_rl.cli.envs import envs_command
from recurrent_rl.cli.evaluate import evaluate_command
from recurrent_rl.cli.export import export_command
from recurrent_rl.cli.info import info_command
from recurrent_rl.cli.monitor import monitor_command
from recurrent_rl.cli.share import share_command
from recurrent_rl.cli.train import train_command
from recurrent_rl.cli.tune import tune_command
from recurrent_rl.errors import RaisedError, UserError
from recurrent_rl.output import UNREAD, forget_unwritten, without_controls
from recurrent_rl.runs.progress import make_console
from recurrent_rl.signals import say_stopped


class Command(NamedTuple):
    """A command of the command line."""

    run: Callable[[Sequence[str]], int]
    """Takes the arguments, and returns the exit status; its docstring's first line is its help."""
    arguments: str
    """The settings class of its arguments, as `module:Class` within this package."""


# Each command imports what it needs when it runs: `recurrent-rl envs` needs no PyTorch.
COMMANDS = {
    "train": Command(train_command, "train_arguments:TrainArguments"),
    "evaluate": Command(evaluate_command, "evaluate_arguments:EvaluateArguments"),
    "envs": Command(envs_command, "envs:EnvsArguments"),
    "check": Command(check_command, "check:CheckArguments"),
    "monitor": Command(monitor_command, "monitor:MonitorArguments"),
    "benchmark": Command(benchmark_command, "benchmark:BenchmarkArguments"),
    "compare": Command(compare_command, "compare:CompareArguments"),
    "share": Command(share_command, "share:ShareArguments"),
    "tune": Command(tune_command, "tune_arguments:TuneArguments"),
    "convert": Command(convert_command, "convert:ConvertArguments"),
    "export": Command(export_command, "export:ExportArguments"),
    "info": Command(info_command, "info:InfoArguments"),
    "completion": Command(completion_command, "completion:CompletionArguments"),
}
MISTAKE, RAISED = 2, 1
"""Exit status after a mistake of the user's, and after an error that code of theirs raised."""
_OF_OUTPUT = (
    "Standard output cannot be written to: {}. Make room where it goes, or send it elsewhere."
)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_OF_THE_DISK = "The disk cannot be written to: {}. Make room there, or choose another folder."
_OF_FILES = (
    "The system allows no more open files ({}). Allow more (ulimit -n 4096), or use fewer "
    "environments or processes: --num-envs, --workers; --vectorization sync needs none."
)
_OF_PROCESSES = (
    "The system has no room for another process ({}). Use fewer: --num-envs, --workers; "
    "--vectorization sync needs none."
)
_OF_NAMES = "A name is too long for the file system: {}. Give a shorter one."
SYSTEM_ERRORS = {
    errno.ENAMETOOLONG: _OF_NAMES,
    **dict.fromkeys((*FULL, errno.EROFS), _OF_THE_DISK),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), _OF_FILES),
    **dict.fromkeys((errno.EAGAIN, errno.ENOMEM), _OF_PROCESSES),
}
"""What to say of an error of the system, wherever it shows itself: the machine is at fault."""
OUT_OF_MEMORY = (
    "There is not enough memory ({}). Make what is trained smaller: fewer --num-envs or "
    "--num-steps (a rollout is kept whole), a shorter --seq-len, a smaller --hidden-size."
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; ends by `SystemExit` with the command's status.

    0 is success, 2 a mistake in the arguments, 1 an error that the user's own code raised; 130, 143
    and 129 a stop by Ctrl-C, SIGTERM and SIGHUP.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a path may have what a terminal's encoding lacks
            stream.reconfigure(errors="backslashreplace")
    if "" not in sys.path:  # the working directory: modules beside the reader are found
        sys.path.append("")
    if arguments[:1] == ["help"]:
        arguments = [*arguments[1:2], "--help"]
    status: Any = 0
    try:
        try:
            status = _run(arguments)
        except SystemExit as end:  # after the help
            status = end.code
        print(end="", flush=True)  # else Python would do it, and fail in its own words
    except KeyboardInterrupt as error:
        say_stopped(error)
        raise SystemExit(getattr(error, "status", 130)) from None  # see recurrent_rl/__main__.py
    except Exception as error:
        if (fault := _fault_of_output(error)) is not None:
            if fault.errno not in UNREAD:
                _fail(_OF_OUTPUT.format(fault))
            raise SystemExit(status) from None  # its reader has gone, as `head` does
        if (told := _told(error)) is None:  # a bug, which keeps its traceback
            raise
        _fail("\n".join([*told.lines, *getattr(error, "__notes__", ())]), told.status)
    raise SystemExit(status)


def _run(arguments: Sequence[str]) -> int:
    """Run what these arguments name; returns the exit status."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return 0
    name, *rest = arguments
    if name == "--version":
        from recurrent_rl import __version__

        print(f"recurrent-rl {__version__}")
        return 0
    if name not in COMMANDS:
        raise UserError(f"Unknown command {name!r}; use one of {', '.join(COMMANDS)}.")
    return COMMANDS[name].run(rest)


class _Told(NamedTuple):
    """How a command that fails ends."""

    status: int
    lines: list[str]


def _told(error: Exception) -> _Told | None:
    """What to say of an error; None where it is a bug."""
    if isinstance(error, UserError):
        return _Told(RAISED if isinstance(error, RaisedError) else MISTAKE, [str(error)])
    if (fault := _fault_of_machine(error)) is not None:
        return _Told(MISTAKE, [fault])
    if (sentence := in_a_sentence(error)) is not None:
        return _Told(RAISED, [sentence, *filter(None, [own_calls(error)])])
    return None


def _fault_of_output(error: Exception) -> OSError | None:
    """Why standard output cannot be written to, where the error is of that; else None."""
    # Another file has a name; what the user's own code raised is told as such.
    if not isinstance(error, OSError) or error.filename is not None or in_a_sentence(error):
        return None
    if error.errno not in (*UNREAD, *FULL):
        return None
    try:
        print(flush=True)  # fails again
    except OSError as fault:
        forget_unwritten(sys.stdout)
        return fault if fault.errno == error.errno else None
    return None


def _fault_of_machine(error: Exception) -> str | None:
    """What to say of an error that is the machine's; None where it is not."""
    if not isinstance(error, (OSError, MemoryError, RuntimeError)):
        return None
    if isinstance(error, OSError):
        told = SYSTEM_ERRORS.get(error.errno or 0)
        return told and told.format(error)
    first = str(error).strip().partition("\n")[0]
    # PyTorch on the CPU raises a plain RuntimeError, on a GPU torch.OutOfMemoryError.
    if isinstance(error, MemoryError) or "allocate memory" in first or "out of memory" in first:
        return OUT_OF_MEMORY.format(first or "MemoryError")
    return None


def _fail(message: str, status: int = MISTAKE) -> None:
    text = Text.assemble(("error:", "bold red"), " ", without_controls(message))
    make_console(stderr=True).print(text, soft_wrap=True)
    raise SystemExit(status)


def _help() -> str:
    lines = [
        f"  {name:12}{(command.run.__doc__ or '').splitlines()[0]}"
        for name, command in COMMANDS.items()
    ]
    return "\n".join(
        [
            "usage: recurrent-rl COMMAND [ARGUMENTS]",
            "",
            "Reinforcement learning with recurrent policies.",
            "",
            *lines,
            "",
            "recurrent-rl help COMMAND explains a command and all its options.",
        ]
    )
