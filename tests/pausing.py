"""The command, which pauses once in a phase of its run: for the tests of signals to workers.

    PAUSE_IN=checkpoint python tests/pausing.py train ...

The worker that is in this phase makes the file `paused` and goes on when there is a file `go`.
Each worker writes the number of its process to `process-RANK`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from recurrent_rl import cli
from recurrent_rl.collector import Collector
from recurrent_rl.runs import evaluation, periodic
from recurrent_rl.runs.callbacks import TrainingState
from recurrent_rl.trainer import Trainer


class Phase(NamedTuple):
    """A call during which a run pauses, before it has done anything."""

    worker: int
    of: Any
    """What the function is an attribute of."""
    name: str
    which: int = 1
    """Of the calls, from 1."""
    argument: str | None = None
    """That the call ends in; None: any."""


EVENTS = ("on_start", "on_rollout", "on_iteration", "on_evaluation", "on_end")
ITERATIONS = 6
"""Of a run, each with a checkpoint; the last is written once more at the end."""
PHASES = {
    "start": Phase(0, Trainer, "__init__"),
    "start of the other": Phase(1, Trainer, "__init__"),
    "rollout of the other": Phase(1, Collector, "collect", 3),
    **{event: Phase(0, TrainingState, "tell", 1, event) for event in EVENTS},
    "evaluation": Phase(0, periodic, "evaluate"),
    "checkpoint": Phase(0, os, "replace", 3, "checkpoint.safetensors"),
    "last policy": Phase(0, os, "replace", ITERATIONS + 1, "policy.safetensors"),
    "last checkpoint": Phase(0, os, "replace", ITERATIONS + 1, "checkpoint.safetensors"),
    "final evaluation": Phase(0, evaluation, "evaluate"),
}


def rank() -> int:
    """Of this worker: as torchrun says, or 1 where the first of two has started this process."""
    return int(os.environ.get("RANK", __name__ == "__mp_main__"))


def pausing(phase: Phase, call: Callable[..., Any]) -> Callable[..., Any]:
    """This call, which waits where it is the one that the phase means."""
    calls = 0

    def paused(*arguments: Any, **keywords: Any) -> Any:
        nonlocal calls
        if phase.argument is None or Path(str(arguments[-1])).name == phase.argument:
            calls += 1
            if calls == phase.which and not Path("paused").exists():
                Path("paused").touch()
                while not Path("go").exists():
                    time.sleep(0.01)
        return call(*arguments, **keywords)

    return paused


if "PAUSE_IN" in os.environ:  # where this is the command, or a process that it has started
    Path(f"process-{rank()}").write_text(str(os.getpid()))
    if (chosen := PHASES.get(os.environ["PAUSE_IN"])) is not None and chosen.worker == rank():
        of, name = chosen.of, chosen.name
        patch.object(of, name, pausing(chosen, getattr(of, name))).start()

if __name__ == "__main__":
    cli.main()
