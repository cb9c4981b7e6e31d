"""What a run returned while it was trained, and what was lost since."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recurrent_rl.agents.arguments import argument
from recurrent_rl.episodes import WINDOW
from recurrent_rl.errors import UserError
from recurrent_rl.fields import FolderPath
from recurrent_rl.runs.evaluation_result import Evaluation
from recurrent_rl.runs.folder import RunFolder

if TYPE_CHECKING:  # its import takes a while, and not every process reads a curve
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

SURE = 3.0
"""Half intervals of the evaluation: what the means of one policy's episodes differ by is less."""


def learning_curve(
    run_dir: str | Path, tag: str = "rollout/ep_rew_mean"
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Steps and values of one scalar in the run's TensorBoard events; empty where there is none.

    Raises:
        UserError: there is no such folder, or an argument is of another type.
    """
    run_dir, tag = argument("run_dir", run_dir, FolderPath), argument("tag", tag, str)
    if not Path(run_dir).is_dir():
        raise UserError(f"{run_dir} is no folder: there is no learning curve in it.")
    return _curve(_events(run_dir), tag)


def _events(run_dir: str | Path) -> EventAccumulator:
    """All that TensorBoard has of a run, read once."""
    from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

    events = EventAccumulator(str(run_dir), size_guidance={SCALARS: 0})
    events.Reload()
    return events


def _curve(events: EventAccumulator, tag: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Steps and values of one scalar; empty where there is none."""
    points: list[Any] = events.Scalars(tag) if tag in events.Tags()["scalars"] else []
    steps = np.array([point.step for point in points], dtype=np.int64)
    return steps, np.array([point.value for point in points])


class InTraining(NamedTuple):
    """Mean returns of the last 100 episodes, of the policy as it acted in training."""

    first: float
    """From about the hundredth episode on."""
    best: float
    """The highest."""
    step: int
    """Environment steps at the highest."""
    last: float


def in_training(run_dir: str | Path) -> InTraining | None:
    """What a run returned while it was trained; None where it had fewer than some 100 episodes."""
    events = _events(run_dir)
    steps, returns = _curve(events, "rollout/ep_rew_mean")
    _, lengths = _curve(events, "rollout/ep_len_mean")
    counts = steps >= WINDOW * lengths
    steps, returns = steps[counts], returns[counts]
    if not len(returns):
        return None
    best = int(returns.argmax())
    return InTraining(float(returns[0]), float(returns[best]), int(steps[best]), float(returns[-1]))


def what_was_lost(folder: RunFolder, evaluation: Evaluation) -> str | None:
    """What to say of a policy that returned far more in training than it does now, if it did.

    Far more is half of what was gained in training, and more than what the means of one policy's
    episodes differ by.

    Args:
        folder: of the run.
        evaluation: of its last policy, with the deterministic actions.
    """
    if (trained := in_training(folder.path)) is None:
        return None
    low, high = evaluation.ci95
    far = max((trained.best - trained.first) / 2, SURE * (high - low) / 2)
    if trained.best - trained.last > far and not folder.best_policy.exists():
        return (
            f"The mean return in training was {trained.best:.3g} after {trained.step:,} steps, and "
            f"fell to {trained.last:.3g}. To keep the best policy, train with --eval-interval N "
            "(eval_interval)."
        )
    if trained.last - evaluation.mean > far:
        return (
            f"With actions drawn as in training the policy returned {trained.last:.3g}, and "
            f"{evaluation.mean:.3g} with deterministic ones: play it with deterministic=False, or "
            "train with --no-previous-action (previous_action=False). What a policy remembers "
            "beside its own random actions it can lose where they are not random."
        )
    return None
