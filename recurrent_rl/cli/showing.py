"""What `recurrent-rl evaluate` shows of episodes: as a video, in a window, or in the terminal."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from recurrent_rl.errors import UserError

if TYPE_CHECKING:
    from recurrent_rl.agents.policy import Policy
    from recurrent_rl.cli.evaluate import EvaluateArguments
    from recurrent_rl.env_config import EnvConfig
    from recurrent_rl.runs.figures import Evaluation
    from recurrent_rl.runs.filming import Moment, Stage
    from recurrent_rl.runs.strip import Band
    from recurrent_rl.signals import StopSignals

EPISODES = 3
"""Shown where no number was given."""
_LABEL = 15
"""Letters before the last steps."""
_PATIENCE = 0.05
"""Seconds between two looks whether a signal came."""


def film(
    given: EvaluateArguments,
    policy: Policy,
    label: str,
    env_id: str,
    env_config: EnvConfig,
    stop: StopSignals,
    console: Console,
) -> int:
    """Write the video that the arguments ask for, and say what was played."""
    from recurrent_rl.runs.filming import record_video
    from recurrent_rl.runs.progress import ProgressBar
    from recurrent_rl.seeding import Stream, number

    assert given.video is not None
    path = Path(given.video)
    episodes = given.episodes or EPISODES
    with ProgressBar("Filming", episodes, "episodes", visible=not given.quiet) as bar:
        played = record_video(
            policy,
            env_id,
            path,
            episodes,
            fps=given.fps,
            env_config=env_config,
            way=given.way,
            seed=number(given.seed, Stream.EVALUATION),
            max_steps=given.max_steps,
            on_episode=bar.update,
            should_stop=lambda: bool(stop),
        )
    if stop:
        console.print("Stopped; no video was written.")
        return stop.exit_status
    _print_played(console, given, label, played)
    if not given.quiet:
        console.print(f"Video:     {path}", soft_wrap=True, highlight=False)
    return 0


def watch(
    given: EvaluateArguments,
    policy: Policy,
    label: str,
    env_id: str,
    env_config: EnvConfig,
    stop: StopSignals,
    console: Console,
) -> int:
    """Play before the eyes of whoever gave the command."""
    from recurrent_rl.runs.filming import Stage

    if _has_screen():
        with Stage(policy, env_id, env_config, "human") as stage:
            if stage.renders:
                played = _watch(stage, given, stop, None)
                _print_played(console, given, label, played)
                return stop.exit_status
    if not console.is_terminal:
        raise UserError(
            f"--watch draws {env_id} in the terminal, and the output is none. Run it in one, or "
            "write a video: --video FILE.gif"
        )
    with (
        Stage(policy, env_id, env_config, "ansi") as stage,
        Live(console=console, auto_refresh=False) as live,
    ):
        played = _watch(stage, given, stop, live)
    _print_played(console, given, label, played)
    return stop.exit_status


def _has_screen() -> bool:
    """Whether there is a screen on which a window can open."""
    screens = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")
    return sys.platform in ("win32", "darwin") or any(os.environ.get(name) for name in screens)


def _watch(
    stage: Stage,
    given: EvaluateArguments,
    stop: StopSignals,
    live: Live | None,
) -> Evaluation:
    """Play on this stage, no faster than a person can follow.

    Args:
        stage: where.
        given: the arguments.
        stop: a signal ends it.
        live: where each moment is drawn; None: a window shows it.
    """
    from recurrent_rl.seeding import Stream, number

    # A window keeps its own pace, where none is requested.
    seconds = 0.0 if live is None and given.fps is None else 1 / (given.fps or stage.fps)
    due = time.monotonic()

    def show(moment: Moment) -> None:
        nonlocal due
        if live is not None:
            live.update(as_text(moment), refresh=True)
        due = max(due, time.monotonic() - seconds) + seconds
        while not stop and (left := due - time.monotonic()) > 0:
            time.sleep(min(left, _PATIENCE))

    return stage.play(
        given.episodes or EPISODES,
        show,
        way=given.way,
        seed=number(given.seed, Stream.EVALUATION),
        max_steps=given.max_steps,
        should_stop=lambda: bool(stop),
    )


def _print_played(
    console: Console, given: EvaluateArguments, label: str, played: Evaluation
) -> None:
    """The return of each episode; of a quiet command their mean."""
    from recurrent_rl.cli.evaluation_table import in_a_line

    if given.quiet:
        line = f"{label}: {in_a_line({given.way: played})}"
        console.print(line, soft_wrap=True, highlight=False)
        return
    console.print(f"Policy:    {label}", soft_wrap=True, highlight=False)
    for i, (total, steps) in enumerate(zip(played.returns, played.lengths, strict=True), start=1):
        console.print(f"episode {i}: return {total:.4g}, {steps:,} steps", highlight=False)
    if played.unfinished:
        console.print(f"One did not end within {played.max_steps:,} steps and was given up.")


def as_text(moment: Moment) -> Group:
    """What a terminal shows of a moment: the environment's text, and the last steps in blocks."""
    strip = moment.strip
    return Group(
        Text.from_ansi(moment.view),
        Text(f"\n{moment.heading}", style="bold"),
        Text(" " * _LABEL + "".join("|" if starts else " " for starts in strip.starts)),
        *(line for band in strip.bands() for line in _lines(band, len(strip.starts))),
    )


def _lines(band: Band, steps: int) -> list[Text]:
    """The cells of a band, two rows in a line: one is the letter's colour, one the paper's."""
    lines = []
    for row in range(0, len(band.cells), 2):
        line = Text(f"{band.label if row == 0 else '':{_LABEL}}"[:_LABEL])
        upper = band.cells[row, :steps]
        lower = band.cells[min(row + 1, len(band.cells) - 1), :steps]
        for above, below in zip(upper.tolist(), lower.tolist(), strict=True):
            colours = (f"rgb({','.join(map(str, colour))})" for colour in (above, below))
            line.append("▀", style=" on ".join(colours))
        lines.append(line)
    return lines
