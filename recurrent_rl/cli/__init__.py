"""The command `recurrent-rl`: finds the requested command, and says clearly what went wrong."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Sequence

from rich.text import Text

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
from recurrent_rl.errors import UserError
from recurrent_rl.runs.progress import make_console
from recurrent_rl.signals import say_stopped

# Each command imports what it needs when it runs: `recurrent-rl envs` needs no PyTorch.
COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "train": train_command,
    "evaluate": evaluate_command,
    "envs": envs_command,
    "check": check_command,
    "monitor": monitor_command,
    "benchmark": benchmark_command,
    "compare": compare_command,
    "share": share_command,
    "tune": tune_command,
    "convert": convert_command,
    "export": export_command,
    "info": info_command,
    "completion": completion_command,
}
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; ends by `SystemExit` with the command's status.

    0 is success, 2 a mistake in the arguments; 130, 143 and 129 a stop by Ctrl-C, SIGTERM and
    SIGHUP.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if "" not in sys.path:  # the working directory: modules beside the reader are found
        sys.path.append("")
    if arguments[:1] == ["help"]:
        arguments = [*arguments[1:2], "--help"]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        raise SystemExit(0)
    if arguments[0] == "--version":
        from recurrent_rl import __version__

        print(f"recurrent-rl {__version__}")
        raise SystemExit(0)
    name, rest = arguments[0], arguments[1:]
    if name not in COMMANDS:
        _fail(f"Unknown command {name!r}; use one of {', '.join(COMMANDS)}.")
    try:
        status = COMMANDS[name](rest)
    except UserError as error:  # others are bugs, and keep their traceback
        _fail("\n".join([str(error), *getattr(error, "__notes__", ())]))
    except OSError as error:
        # Wherever it shows itself, also in TensorBoard's writer: the disk is at fault, not us.
        if error.errno not in DISK_ERRORS:
            raise
        _fail(f"The disk cannot be written to: {error}. Make room there, or choose another folder.")
    except KeyboardInterrupt as error:
        say_stopped(error)
        raise SystemExit(getattr(error, "status", 130)) from None  # see recurrent_rl/__main__.py
    raise SystemExit(status)


def _fail(message: str) -> None:
    text = Text.assemble(("error:", "bold red"), " ", message)
    make_console(stderr=True).print(text, soft_wrap=True)
    raise SystemExit(2)


def _help() -> str:
    lines = [
        f"  {name:12}{(command.__doc__ or '').splitlines()[0]}"
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
