"""Gymnasium's own checker, whose warnings and errors become findings."""

from __future__ import annotations

import re
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils.env_checker import check_env

from recurrent_rl.agents.action_masks import flat_mask
from recurrent_rl.checks.finding import Report
from recurrent_rl.checks.results import CONTAINED, RESET, allowed_action

AGAIN = "Do as it says; gymnasium.utils.env_checker.check_env(env) says it again."
ACTION_BOUNDS = (
    "Give the bounds where you know them: the policy begins by covering what lies between. Without "
    "both of them actions begin around zero, with a standard deviation of 1."
)
# A part of Gymnasium's message, the topic, and what to do; no advice: it is of no concern here.
_ADVICE: tuple[tuple[str, str, str | None], ...] = (
    ("different from the unwrapped version", "", None),
    ("alternative render modes", "", None),
    ("symmetric and normalized", "", None),  # -1..1 of the policy spans what bounds there are
    ("action space minimum value is -infinity", "action bounds", ACTION_BOUNDS),
    ("action space maximum value is infinity", "action bounds", ACTION_BOUNDS),
    (
        "-infinity",
        "lower bounds",
        "Give the bounds where you know them. Training does without: it scales floats by what it "
        "has seen.",
    ),
    (
        "is infinity",
        "upper bounds",
        "Give the bounds where you know them. Training does without: it scales floats by what it "
        "has seen.",
    ),
    ("within the observation space", "observation", CONTAINED),
    ("was expecting", "observation type", "Return a NumPy array of the space's type."),
    ("should be an int or np.int64", "observation type", "Return an int."),
    ("share an object", "buffers", "Return new arrays and a new info each time."),
    ("truncates after 1 step", "one step", "Nothing, where an episode is meant to last one step."),
    ("super().reset(seed=seed)", "super", "Call super().reset(seed=seed) first in reset()."),
    ("initialized env._np_random", "super", "Call super().reset(seed=seed) first in reset()."),
    ("default seed argument", "reset", RESET),
    ("keyword argument", "reset", RESET),
    ("cannot be reset with", "reset", RESET),
    ("deterministic", "determinism", "Draw from self.np_random alone."),
    ("`.np_random`", "determinism", "Draw from self.np_random alone."),
    ("although similar", "determinism", "Draw from self.np_random alone."),
    ("The reward", "reward", "Return a finite float."),
    ("signal to be a boolean", "ends", "Return a bool."),
    ("dictionary", "info", "Return a dictionary."),
)
_HARMLESS = ("share an object", "truncates after 1 step")
"""Errors of Gymnasium's that no training minds."""


def check_by_gymnasium(env: gym.Env[Any, Any], report: Report, masked: bool) -> None:
    """Let Gymnasium's checker look at the environment; rendering and closing are left out.

    Args:
        env: to check.
        report: takes the findings.
        masked: whether it gives action masks, of which that checker knows nothing.
    """
    level = gym.logger.min_level
    gym.logger.min_level = gym.logger.WARN
    error: Exception | None = None
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                check_env(
                    _KeptToMasks(env) if masked else env,
                    skip_render_check=True,
                    skip_close_check=True,
                )
            except Exception as raised:
                error = raised
    finally:
        gym.logger.min_level = level
    for warning in caught:
        text = re.sub(r"\x1b\[[0-9;]*m", "", str(warning.message))
        if text.startswith("WARN: "):
            _add(report, text.removeprefix("WARN: "), is_error=False)
    if error is not None:
        _add(report, str(error) or type(error).__name__, is_error=True)


def _add(report: Report, text: str, is_error: bool) -> None:
    found = next((one for one in _ADVICE if one[0] in text), (text, text, AGAIN))
    part, topic, fix = found
    if fix is None or (topic == "observation" and "observation type" in report):
        return
    add = report.fault if is_error and part not in _HARMLESS else report.note
    add(topic, f"Gymnasium's checker: {text}", fix)


class _KeptToMasks(gym.Wrapper[Any, Any, Any, Any]):
    """Takes another action where the one given is forbidden."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        self.mask = info.get("action_mask")
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        if self.mask is not None:
            mask = flat_mask(self.action_space, self.mask)
            # Of what was given alone, that the same action is the same again.
            given = np.ravel(action).astype(np.int64).view(np.uint64)  # which may be negative
            draw = np.random.default_rng(given.tolist())
            action = allowed_action(self.action_space, mask, draw)
        result = self.env.step(action)
        self.mask = result[4].get("action_mask")
        return result
