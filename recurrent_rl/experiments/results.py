"""What a finished run left in its folder: settings, learning curve and evaluation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recurrent_rl.agents.arguments import argument
from recurrent_rl.config import TrainConfig
from recurrent_rl.errors import UserError
from recurrent_rl.fields import FolderPath
from recurrent_rl.runs.evaluation_result import SavedEvaluation
from recurrent_rl.runs.folder import RunFolder
from recurrent_rl.runs.learning_curve import learning_curve as learning_curve

MMER_STEPS = 65_536
"""Steps over which POPGym (Morad et al., ICLR 2023) averages returns before the maximum."""


@dataclass(frozen=True, eq=False)
class Run:
    """A run as its folder has it."""

    path: Path
    config: TrainConfig
    evaluation: SavedEvaluation | None
    """Of the policy after the run's last step; None where it was not evaluated since."""
    steps: NDArray[np.int64]
    """Environment steps at each point of the learning curve; none where no episode ended in
    training."""
    returns: NDArray[np.float64]
    """Mean return of the last 100 episodes there, of the policy as it acted in training."""

    @property
    def mmer(self) -> float:
        """Maximum over training of the mean episode return: the score of POPGym's tables.

        NaN where no episode ended in training.

        Points are averaged over stretches of 65,536 steps before the maximum is taken. A point
        is of the steps up to its own, so that the last one of a stretch is at its end. A
        last stretch of less than half of these steps counts only where it is the first too: the
        maximum favours what is averaged over few points.
        """
        if not len(self.steps):
            return math.nan
        stretch = (self.steps - 1) // MMER_STEPS
        last = stretch[-1]
        if last > stretch[0] and 2 * (self.steps[-1] - last * MMER_STEPS) < MMER_STEPS:
            stretch = stretch[stretch < last]
        returns = self.returns[: len(stretch)]
        return float(max(returns[stretch == s].mean() for s in np.unique(stretch)))


@dataclass(frozen=True, eq=False)
class EvaluatedRun(Run):
    """A run that can be compared: it is over, and was evaluated after its last step."""

    evaluation: SavedEvaluation


def load_run(run_dir: str | Path) -> Run:
    """Read a run's folder.

    Raises:
        UserError: there is no run in it, or its settings or its evaluation cannot be read.
    """
    run_dir = Path(argument("run_dir", run_dir, FolderPath))
    folder = RunFolder(run_dir)
    config, evaluation = folder.load_config(), folder.load_evaluation()
    if evaluation is not None and not _is_of_the_last_step(evaluation, folder, config):
        evaluation = None
    return Run(run_dir, config, evaluation, *learning_curve(run_dir))


def _is_of_the_last_step(
    evaluation: SavedEvaluation, folder: RunFolder, config: TrainConfig
) -> bool:
    """Whether an evaluation is of the policy after the last step that a run was trained for."""
    has_all = evaluation.timesteps >= config.total_timesteps
    return has_all or evaluation.timesteps == folder.trained_timesteps()


def load_evaluated_run(run_dir: str | Path) -> EvaluatedRun:
    """Read the folder of a run that is to be compared.

    Raises:
        UserError: as `load_run`; it was not evaluated after its last step, it has not all its steps
            and nothing ended it on purpose, or no episode of the evaluation was finished.
    """
    run_dir = Path(argument("run_dir", run_dir, FolderPath))
    folder = RunFolder(run_dir)
    config, evaluation = folder.load_config(), folder.load_evaluation()
    to_evaluate = folder.to_evaluate(config)
    if evaluation is None:
        raise UserError(f"{run_dir} has no evaluation yet; make it: {to_evaluate}")
    evaluated, total = evaluation.timesteps, config.total_timesteps
    if not _is_of_the_last_step(evaluation, folder, config):
        raise UserError(
            f"{run_dir} cannot be compared: its evaluation is of {evaluated:,} of {total:,} "
            f"steps. Resume it ({folder.to_resume()}) or, where it has them all or was ended on "
            f"purpose, evaluate it ({to_evaluate})."
        )
    if evaluated < total and folder.stop_reason() is None:
        raise UserError(
            f"{run_dir} cannot be compared: it has {evaluated:,} of {total:,} steps, and nothing "
            f"ended it on purpose. Resume it ({folder.to_resume()})."
        )
    if np.isnan(evaluation.deterministic.mean_return):
        raise UserError(
            f"{run_dir} cannot be compared: no episode of its evaluation ended within "
            f"{evaluation.max_steps} steps. Leave it out, or play for longer (--max-steps N; "
            f"in Python max_steps=N): {to_evaluate}"
        )
    return EvaluatedRun(run_dir, config, evaluation, *learning_curve(run_dir))
