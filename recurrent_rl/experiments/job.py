"""One run among many: where it is, what it is asked for, and whether it is done."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from recurrent_rl.config import TrainConfig
from recurrent_rl.errors import UserError
from recurrent_rl.runs.folder import RunFolder, RunState


@dataclass(frozen=True)
class Job:
    """A run that a benchmark or a search does: its folder and its settings."""

    run_dir: Path
    config: TrainConfig
    compare: bool = False
    """Whether it is evaluated in all ways, as for `resume`."""

    @property
    def folder(self) -> RunFolder:
        """What its files are named."""
        return RunFolder(self.run_dir)

    def check_same(self, fix: str) -> None:
        """Refuse a folder whose run learns something else.

        Args:
            fix: what to do then.

        Raises:
            UserError: names the settings that differ; or those of the run cannot be read.
        """
        if not self.folder.exists():
            return
        if different := self.folder.load_config().differences(self.config):
            raise UserError(
                f"{self.run_dir} holds a run with other settings ({', '.join(different)}). {fix}"
            )

    @property
    def state(self) -> RunState:
        """How far it is."""
        return self.folder.state() if self.folder.exists() else RunState.NEW

    @property
    def done(self) -> bool:
        """Whether it has all its steps and, where it asks for episodes of one, an evaluation.

        With `compare` that is one in all ways.
        """
        return self.is_done(self.state)

    def is_done(self, state: RunState) -> bool:
        """As `done`, of a state that was read."""
        if self.config.eval_episodes:
            steps = self.folder.evaluated_timesteps() or 0
            has_ways = self.folder.has_evaluation(steps, self.compare)
            return state is RunState.EVALUATED and has_ways
        return state in (RunState.FINISHED, RunState.EVALUATED)
