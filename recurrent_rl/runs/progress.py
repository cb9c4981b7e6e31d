"""Progress of long commands: a bar on a terminal, one line in a notebook, some lines in a log."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from recurrent_rl.output import UNREAD, forget_unwritten, without_controls

LOG_SECONDS = 15.0
"""Between two lines of a log."""
REDRAW_SECONDS = 0.2
"""Between two states of a notebook's line."""


class ProgressBar:
    """Shows how far a command is, with a few metrics beside it.

    Args:
        label: what is under way.
        total: units of work in all.
        unit: what is counted, for the speed.
        start: units done before, by a run that is resumed.
        visible: show nothing at all where false.
    """

    def __init__(
        self, label: str, total: int, unit: str, start: int = 0, visible: bool = True
    ) -> None:
        self.label = label
        self.total = total
        self.unit = unit
        self.start = start
        self.visible = visible
        self.console = make_console(stderr=True)
        self._began = time.monotonic()
        self._last_line = self._began
        self._end: Any = ()  # the metrics of the line that says all is done
        self._drawn: Any = None  # a notebook's line, once there is one
        self._bar = Progress(
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[metrics]}", markup=False),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not (visible and self.console.is_terminal),
            transient=False,
        )
        self._task = self._bar.add_task(label, total=total, completed=start, metrics="")

    def update(self, done: int, metrics: dict[str, str] | None = None) -> None:
        """Say that `done` units are complete, with `metrics` to show beside them."""
        elapsed = time.monotonic() - self._began
        speed = (done - self.start) / max(elapsed, 1e-9)
        shown = {**(metrics or {}), f"{self.unit}/s": f"{speed:,.0f}"}
        text = "  ".join(f"{name} {value}" for name, value in shown.items())
        self._bar.update(self._task, completed=min(done, self.total), metrics=text)
        seconds = REDRAW_SECONDS if self.console.is_jupyter else LOG_SECONDS
        # Its line comes at once, and again where the metrics change after it.
        complete = done >= self.total > self.start and metrics != self._end
        if complete:
            self._end = metrics
        due = complete or time.monotonic() - self._last_line >= seconds
        if self.visible and not self.console.is_terminal and due:
            self._last_line = time.monotonic()
            self._print(f"{self.label}: {done:,} of {self.total:,}  {text}")

    def say(self, text: str) -> None:
        """Print a sentence above the bar; nothing where that is not visible."""
        if self.visible:
            self.console.print(text, soft_wrap=True, highlight=False)

    def _print(self, line: str) -> None:
        if not self.console.is_jupyter:
            self.console.print(line, soft_wrap=True)
            return
        # A display that is updated: front ends and saved notebooks keep its last state alone, where
        # of printed lines, with "\r" between them, some show and save all.
        from IPython.display import display

        content = {"text/plain": line}
        if self._drawn is None:
            self._drawn = display(content, raw=True, display_id=True)
        else:
            self._drawn.update(content, raw=True)

    def __enter__(self) -> ProgressBar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


class _Console(Console):
    """Goes quiet where nobody reads it; on standard error, which has progress, on any error."""

    def print(self, *objects: Any, **options: Any) -> None:
        """As rich does, with escapes for the control characters of texts."""
        shown = [without_controls(x) if isinstance(x, str) else x for x in objects]
        super().print(*shown, **options)

    def on_broken_pipe(self) -> None:  # rich would end the program
        self.quiet = True
        forget_unwritten(self.file)

    def __exit__(self, *raised: Any) -> None:  # here all is written
        try:
            super().__exit__(*raised)
        except (OSError, ValueError) as error:
            if not self.stderr and getattr(error, "errno", None) not in UNREAD:
                raise
            self.on_broken_pipe()


def make_console(stderr: bool = False) -> Console:
    """The terminal as it is, where all text is printed as it is: folders may be named "[bold]".

    Where output goes to a file it is wide enough for the tables. What nobody reads ends nothing;
    on standard output another error, as of a full disk, is raised.
    """
    console = _Console(stderr=stderr, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = 120
    return console
