"""What `recurrent-rl evaluate` shows of episodes: as a video, in a window, or in the terminal."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from recurrent_rl.agents.policy import Policy
from recurrent_rl.cli.evaluate_arguments import EvaluateArguments
from recurrent_rl.cli.evaluation_table import in_a_line
from recurrent_rl.cli.terminal import print_labelled
from recurrent_rl.errors import UserError
from recurrent_rl.runs.evaluation_result import WAYS, Evaluation
from recurrent_rl.runs.progress import ProgressBar
from recurrent_rl.runs.watching.filmed import Moment
from recurrent_rl.runs.watching.filming import record_video
from recurrent_rl.runs.watching.stage import Stage
from recurrent_rl.runs.watching.strip import Band
from recurrent_rl.seeding import Stream, number
from recurrent_rl.signals import StopSignals
from recurrent_rl.vector_env.config import EnvConfig

EPISODES = 3
"""Shown where no number was given."""
_LABEL = 15
"""Letters before the last steps."""
_PATIENCE = 0.05
"""Seconds between two looks whether a signal came."""


@dataclass(frozen=True)
class Show:
    """Episodes that are shown: whose, where, and as the arguments say."""

    given: EvaluateArguments
    policy: Policy
    label: str
    """What the policy is called."""
    env_id: str
    env_config: EnvConfig
    stop: StopSignals
    """A signal ends it."""
    console: Console

    def film(self) -> int:
        """Write the video that the arguments ask for, and say what was played."""
        given, console = self.given, self.console
        assert given.video is not None
        path = Path(given.video)
        with ProgressBar("Filming", self._episodes, "episodes", visible=not given.quiet) as bar:
            played = record_video(
                self.policy,
                self.env_id,
                path,
                self._episodes,
                fps=given.fps,
                env_config=self.env_config,
                deterministic=WAYS[given.way].deterministic,
                with_memory=WAYS[given.way].with_memory,
                seed=self._seed,
                max_steps=given.max_steps,
                on_episode=bar.update,
                should_stop=lambda: bool(self.stop),
            )
        if self.stop:
            console.print("Stopped; no video was written.")
            return self.stop.exit_status
        self._print_played(played)
        if not given.quiet:
            print_labelled(console, [("Video", str(path))])
        return 0

    def watch(self) -> int:
        """Play before the eyes of whoever gave the command."""
        if _has_screen():
            with Stage(self.policy, self.env_id, self.env_config, "human") as stage:
                if stage.renders:
                    self._print_played(self._play(stage, None))
                    return self.stop.exit_status
        if not self.console.is_terminal:
            raise UserError(
                f"--watch draws {self.env_id} in the terminal, and the output is none. Run it in "
                "one, or write a video: --video FILE.gif"
            )
        with (
            Stage(self.policy, self.env_id, self.env_config, "ansi") as stage,
            Live(console=self.console, auto_refresh=False) as live,
        ):
            played = self._play(stage, live)
        self._print_played(played)
        return self.stop.exit_status

    @property
    def _episodes(self) -> int:
        return self.given.episodes or EPISODES

    @property
    def _seed(self) -> int:
        return number(self.given.seed, Stream.EVALUATION)

    def _play(self, stage: Stage, live: Live | None) -> Evaluation:
        """Play on this stage, no faster than a person can follow.

        Args:
            stage: where.
            live: where each moment is drawn; None: a window shows it.
        """
        given = self.given
        # A window keeps its own pace, where none is requested.
        seconds = 0.0 if live is None and given.fps is None else 1 / (given.fps or stage.fps)
        due = time.monotonic()

        def show(moment: Moment) -> None:
            nonlocal due
            if live is not None:
                live.update(as_text(moment), refresh=True)
            due = max(due, time.monotonic() - seconds) + seconds
            while not self.stop and (left := due - time.monotonic()) > 0:
                time.sleep(min(left, _PATIENCE))

        return stage.play(
            self._episodes,
            show,
            deterministic=WAYS[given.way].deterministic,
            with_memory=WAYS[given.way].with_memory,
            seed=self._seed,
            max_steps=given.max_steps,
            should_stop=lambda: bool(self.stop),
        )

    def _print_played(self, played: Evaluation) -> None:
        """The return of each episode; of a quiet command their mean."""
        given, console = self.given, self.console
        if given.quiet:
            line = f"{self.label}: {in_a_line({given.way: played})}"
            console.print(line, soft_wrap=True, highlight=False)
            return
        print_labelled(console, [("Policy", self.label)])
        every = zip(played.returns, played.lengths, strict=True)
        for i, (total, steps) in enumerate(every, start=1):
            console.print(f"episode {i}: return {total:.4g}, {steps:,} steps", highlight=False)
        if played.unfinished:
            console.print(f"One did not end within {played.max_steps:,} steps and was given up.")


def _has_screen() -> bool:
    """Whether there is a screen on which a window can open."""
    screens = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")
    return sys.platform in ("win32", "darwin") or any(os.environ.get(name) for name in screens)


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
