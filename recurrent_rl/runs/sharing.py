"""A run's policy as it is shared: with the results of its evaluation."""

from __future__ import annotations

import math
from pathlib import Path

from recurrent_rl.agents.model_card import Result
from recurrent_rl.agents.policy import Policy
from recurrent_rl.command import command_of
from recurrent_rl.runs.evaluation_result import WAYS, EvaluationSummary, SavedEvaluation
from recurrent_rl.runs.folder import RunFolder
from recurrent_rl.runs.student import student_t


def results_of(policy: Policy, source: Path) -> list[Result]:
    """The lines of a card, from the evaluation of the run that a policy is of.

    Args:
        policy: that is shared.
        source: the run folder, or policy file, that it was loaded from.

    Returns:
        A line for each way of playing; none where the run was not evaluated after the policy's
        steps.

    Raises:
        UserError: the run's evaluation cannot be read.
    """
    folder = RunFolder(source if source.is_dir() else source.parent)
    saved = folder.load_evaluation()
    if saved is None or saved.timesteps != policy.summary.get("timesteps"):
        return []
    played = [(WAYS[name].label, getattr(saved, name)) for name in WAYS]
    return [_result(label, summary, saved) for label, summary in played if summary is not None]


def _result(label: str, summary: EvaluationSummary, saved: SavedEvaluation) -> Result:
    """One line. The interval that is saved is that of a mean: half of it is t x std / sqrt(n)."""
    low, high = summary.ci95
    episodes = summary.episodes
    if episodes is None:  # as many were asked for in each way; those that did not end do not count
        played = saved.episodes + saved.deterministic.unfinished
        episodes = max(played - summary.unfinished, 0)
    std = (high - low) / 2 / student_t(episodes) * episodes**0.5
    return Result(
        label,
        episodes,
        summary.mean_return,
        std if math.isfinite(std) else math.nan,
        summary.mean_length,
        summary.success_rate,
    )


def with_command(policy: Policy, source: Path) -> Policy:
    """The policy; where its file is too old to tell the command that trained it, the run's."""
    folder = RunFolder(source if source.is_dir() else source.parent)
    if "command" in policy.summary or not folder.exists():
        return policy
    return Policy(policy.agent, policy.summary | {"command": command_of(folder.load_config())})
