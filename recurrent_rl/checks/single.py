"""Checks of one environment, by episodes of random actions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.generators import forked_torch_state
from recurrent_rl.agents.spaces import UnsupportedSpaceError
from recurrent_rl.checks.episodes import Played, Player, check_reset
from recurrent_rl.checks.finding import FaultyEnvironmentError, Report
from recurrent_rl.checks.gymnasium_checker import check_by_gymnasium
from recurrent_rl.checks.hidden_limits import MEANT, TIME_LIMIT, check_hidden_limit
from recurrent_rl.checks.results import allowed_action, check_resolution, check_spaces, same
from recurrent_rl.errors import UserError
from recurrent_rl.vector_env.checked_env import LentEnv
from recurrent_rl.vector_env.environments import Environments
from recurrent_rl.vector_env.limits import Limits, limits_of

EPISODES = 4
ALL_STEPS = 10_000
"""Steps in all after which no further episode is begun."""
STEPS = 1_000
"""Steps of an episode at most, where the environment tells of no time limit."""
SEEDS = 10
"""Other seeds of which one has to give another episode."""
SHORT = 10
"""Steps of an episode that is too short to be ended by a time limit."""
STARTS = 3
"""Different first observations that tell an episode's first from its last."""

SEEDED = (
    "Draw from self.np_random alone, after super().reset(seed=seed), and set all of the state anew "
    "in reset()."
)
ITS_LAST = (
    "Return the episode's last observation; begin the next episode in reset() alone, which the "
    "caller calls."
)


def check_single(env: gym.Env[Any, Any], report: Report, max_steps: int | None, seed: int) -> None:
    """Check one environment; it is left amid an episode.

    Args:
        env: to check.
        report: takes the findings.
        max_steps: of an episode; by default its time limit, or `STEPS`.
        seed: of the first episode and its actions.
    """
    limits = limits_of(env)
    steps = max_steps or steps_of(limits)
    player = Player(env, report)
    if check_spaces(env, report) and check_reset(env, report):
        try:
            _check_episodes(player, limits, steps, seed)
        except FaultyEnvironmentError:
            return
    check_by_gymnasium(env, report, masked=player.masked > 0)
    if not report.is_faulty:
        _check_training(env, report)


def steps_of(limits: Limits) -> int:
    """Steps of an episode at most: its longest, unless that is not known or too many."""
    longest = limits.longest
    return longest if longest is not None and longest <= ALL_STEPS else STEPS


def _check_episodes(player: Player, limits: Limits, steps: int, seed: int) -> None:
    report = player.report
    played: list[Played] = []
    while len(played) < EPISODES and (
        len(played) < 2 or sum(len(one.actions) for one in played) < ALL_STEPS
    ):
        played.append(player.play(seed + len(played), steps))
    ends = [(len(one.actions), one.terminated, one.over) for one in played]
    check_time_limit(ends, limits, steps, report)
    check_resolution(player.env.observation_space, played[0].observations, report)
    _check_determinism(player, played[0], steps)
    if "determinism" not in report:
        _check_seeds(player, played[0], steps)
    _check_last_observations(player, [one for one in played if one.over])
    if not ("time limit" in report or "determinism" in report):
        check_hidden_limit(player.env, played, limits.registered, report)


def check_time_limit(
    ends: list[tuple[int, bool, bool]], limits: Limits, steps: int, report: Report
) -> None:
    """Look at how episodes ended.

    Args:
        ends: of each episode its steps, whether it terminated, and whether it ended at all.
        limits: what the environment tells of its episodes' length.
        steps: after which playing was given up.
        report: takes the findings.
    """
    limit, longest, _ = limits
    at_limit = [terminated for length, terminated, over in ends if over and length == limit]
    if len(at_limit) > 1 and all(at_limit):
        report.fault(
            "time limit",
            f"All {len(at_limit)} episodes that reached the time limit of {limit} steps "
            "(max_episode_steps) reported terminated there: what is cut by time is learnt from as "
            "if nothing had followed.",
            TIME_LIMIT,
        )
    if limit is not None and any(length >= limit + over for length, _, over in ends):
        report.fault(
            "time limit",
            f"An episode went on after the time limit of {limit} steps (max_episode_steps).",
            "Return truncated=True at that step, or name no max_episode_steps.",
        )
    elif longest is None and (length := _end_of_all(ends)) is not None:
        what = f"All {len(ends)} episodes of random actions reported terminated at step {length}."
        report.note("time limit", what, MEANT)
    elif ends and not any(over for *_, over in ends) and steps >= (longest or 0):
        tells = "" if longest else ", and the environment states no time limit"
        report.note(
            "time limit",
            f"No episode ended within {steps:,} steps of random actions{tells}: until one ends, no "
            "return is logged, and an evaluation gives it up.",
            "Name a limit: gymnasium.register(..., max_episode_steps=N), or return truncated=True.",
        )


def _end_of_all(ends: list[tuple[int, bool, bool]]) -> int | None:
    """The step at which all episodes terminated, where a time limit may have ended them."""
    lengths = {length if terminated else 0 for length, terminated, _ in ends}
    return lengths.pop() if len(ends) > 2 and len(lengths) == 1 and min(lengths) > SHORT else None


def _check_determinism(player: Player, first: Played, steps: int) -> None:
    report, spec = player.report, player.env.spec
    if spec is not None and spec.nondeterministic:
        return
    again = _replayed(player, first, first.seed, steps)
    if (t := 0 if again is None else first.differs(again)) is None:
        return
    where = "the first observation" if t == 0 else f"what step {t} returns"
    if again is not None and first.differs(again, tolerance=1e-5) is None:
        report.note(
            "determinism",
            f"After two resets with seed {first.seed} and the same actions {where} is not the "
            "same to the last bit, though close: a run cannot be repeated bit for bit.",
            SEEDED,
        )
        return
    report.fault(
        "determinism",
        f"After two resets with seed {first.seed} and the same actions {where} is not the same: "
        "no run can be repeated.",
        SEEDED,
    )


def _replayed(player: Player, played: Played, seed: int | None, steps: int) -> Played | None:
    """The same actions after another reset; None where that cannot be played."""
    quiet = Player(player.env, Report())
    try:
        return quiet.play(seed, steps, played.actions)
    except FaultyEnvironmentError:
        return None


def _check_seeds(player: Player, first: Played, steps: int) -> None:
    assert first.seed is not None
    tries = max(1, min(SEEDS, ALL_STEPS // len(first.actions)))  # few values differ seldom

    def differ(seeds: Sequence[int | None]) -> bool:
        others = (_replayed(player, first, seed, steps) for seed in seeds)
        return any(other is None or first.differs(other) is not None for other in others)

    if differ(range(first.seed + 1, first.seed + 1 + tries)):
        return
    if differ([None] * tries):
        player.report.note(
            "seeds",
            "Episodes differ from each other, but not with the seed: all environments of a run "
            "would play the same episodes.",
            SEEDED,
        )
    else:
        player.report.note(
            "seeds",
            "With the same actions every episode is the same, whatever the seed: nothing is "
            "random.",
            "If something is meant to be, draw it from self.np_random in reset() or step().",
        )


def _check_last_observations(player: Player, ended: list[Played]) -> None:
    """Whether the observation at an episode's end is already the next episode's first."""
    report = player.report
    if any(one.reset_itself for one in ended):
        report.fault(
            "final observation",
            "The step that ends an episode calls reset(): it returns the next episode's first "
            "observation, not this one's last.",
            ITS_LAST,
        )
    ended = [one for one in ended if len(one.actions) > 1]
    if len(ended) < STARTS or "determinism" in report:
        return

    def begins_another(one: Played, step: int) -> bool:
        """Whether the step gives the observation that a reset in its place would."""
        before = _replayed(player, one, one.seed, step - 1)
        return (
            before is not None
            and not before.over
            and same(player.env.reset()[0], one.observations[step])
        )

    for one in ended:
        last = len(one.actions)
        # Where an observation is drawn as a reset draws it, each step seems to begin an episode.
        if not begins_another(one, last) or begins_another(one, last // 2):
            return
    what = "The observation that ends an episode is the one that the next episode begins with"
    starts: list[Any] = []
    for one in ended:
        if not any(same(one.observations[0], start) for start in starts):
            starts.append(one.observations[0])
    if len(starts) >= STARTS:
        report.fault("final observation", f"{what}, in all of {len(ended)} episodes.", ITS_LAST)
        return
    between = [x for one in ended for x in one.observations[1:-1]]
    if between and len(starts) == 1 and not any(same(x, starts[0]) for x in between):
        report.note(
            "final observation",
            f"{what}, in all of {len(ended)} episodes, and that is seen nowhere between.",
            f"See that it is meant. If not: {ITS_LAST[0].lower()}{ITS_LAST[1:]}",
        )


def _check_training(env: gym.Env[Any, Any], report: Report) -> None:
    """Take some steps as training does; what it would refuse is a fault."""
    try:
        vector = SyncVectorEnv([lambda: LentEnv(env, 0)], autoreset_mode=AutoresetMode.SAME_STEP)
        space, draw = env.action_space, np.random.default_rng(0)
        with forked_torch_state():
            agent = ActorCritic(env.observation_space, space, AgentConfig("none"))
        environments = Environments(vector, agent)
        step = environments.reset(0)
        for _ in range(64):
            mask = None if step.action_mask is None else step.action_mask[0]
            step = environments.step(np.asarray(allowed_action(space, mask, draw))[None])
    except (UserError, UnsupportedSpaceError) as error:
        report.fault("training", f"Training refuses it: {error}", "Mend the environment.")
