"""`recurrent-rl monitor`: TensorBoard over the run folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from recurrent_rl.agents.settings import between, validated
from recurrent_rl.cli.terminal import parse
from recurrent_rl.errors import UserError
from recurrent_rl.fields import FolderPath
from recurrent_rl.runs.progress import make_console


@validated
@dataclass(frozen=True)
class MonitorArguments:
    """Serve TensorBoard over the run folders, until Ctrl-C."""

    log_dir: Annotated[FolderPath, tyro.conf.Positional, tyro.conf.arg(metavar="LOG_DIR")] = "runs"
    """Folder that holds the run folders, or one run folder."""
    port: Annotated[int, between(0, 65_535)] = 6006
    """Port to listen on; 0 picks a free one."""
    host: str = "localhost"
    """Address to listen on."""


def monitor_command(arguments: Sequence[str]) -> int:
    """Watch runs in TensorBoard."""
    import time

    from tensorboard import program

    from recurrent_rl.runs.overview import WebApp, with_overview
    from recurrent_rl.signals import StopSignals

    given = parse(MonitorArguments, "monitor", arguments)
    if not Path(given.log_dir).is_dir():
        raise UserError(f"There is no folder {given.log_dir!r}; train first, or name another.")

    def server(app: WebApp, flags: Any) -> program.TensorBoardServer:
        return program.create_port_scanning_werkzeug_server(with_overview(app), flags)

    board = program.TensorBoard(server_class=server)
    board.configure(logdir=given.log_dir, port=given.port, host=given.host)
    try:
        url = board.launch()
    except program.TensorBoardServerException as error:
        raise UserError(f"TensorBoard could not start: {error} Try --port 0.") from error
    console = make_console()
    console.print(f"TensorBoard shows {given.log_dir} at {url}  (Ctrl-C ends it)", soft_wrap=True)
    with StopSignals() as stop:
        while not stop:
            time.sleep(0.2)
    return stop.exit_status
