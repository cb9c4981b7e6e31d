"""Checks of a vector environment, by steps of random actions in all of its environments."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper
from numpy.typing import NDArray

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.generators import forked_torch_state
from recurrent_rl.agents.raising import place
from recurrent_rl.agents.spaces import as_array, rows_of
from recurrent_rl.checks.episodes import MASKS
from recurrent_rl.checks.finding import Report
from recurrent_rl.checks.results import (
    allowed_action,
    check_observations,
    check_resolution,
    check_spaces,
    same,
)
from recurrent_rl.checks.single import SEEDED, STARTS, check_time_limit, steps_of
from recurrent_rl.errors import UserError
from recurrent_rl.vector_env.environments import (
    NEEDED_MODE,
    Environments,
    Step,
    final_is_batched,
    unusable_mode,
)
from recurrent_rl.vector_env.limits import Limits, limits_of
from recurrent_rl.vector_env.wrapping import refuse_normalising

PROBE = 50
"""Steps in which two seeds, or two environments, have to differ."""
BETWEEN = 100
"""Observations to keep that begin no episode."""
FAR = 10_000
"""Between two seeds, that no environment's is the same in both."""
FINAL = (
    "Where an episode ends, put its last observation into infos['final_obs'], and return the next "
    "episode's first. Environments in an AsyncVectorEnv must not write the next into the array of "
    "the last; let them return self.buffer.copy()."
)


class _Last(VectorWrapper[Any, Any, Any, Any, Any]):
    """Keeps what the environment last returned, as it was."""

    kept: tuple[Any, ...] = ()

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        self.kept = self.env.reset(seed=seed, options=options)
        return self.kept

    def step(self, actions: Any) -> Any:
        self.kept = self.env.step(actions)
        return self.kept


class _Row(NamedTuple):
    """Of a step of the probe: what each environment showed, a list of `B` each."""

    observation: list[Any]
    reward: list[float]
    terminated: list[bool]
    truncated: list[bool]


def check_vector_env(env: VectorEnv, report: Report, max_steps: int | None, seed: int) -> None:
    """Check a vector environment; it is left amid episodes.

    Args:
        env: to check.
        report: takes the findings.
        max_steps: of an episode; by default its time limit, or as for a single environment.
        seed: of the first reset, and of the actions.
    """
    if (mode := unusable_mode(env)) is not None:
        report.fault(
            "autoreset", f"The vector environment's autoreset_mode is {mode}.", NEEDED_MODE
        )
        return
    if not check_spaces(env, report, "single_"):
        return
    try:
        refuse_normalising(env, "The vector environment")
    except UserError as error:
        report.refused("training", error)
        return
    limits = limits_of(env)
    player = _VectorPlayer(env, report)
    try:
        player.play(seed, max_steps or steps_of(limits), limits)
        player.compare_probes(seed)
    except UserError as error:
        report.fault("training", f"Training refuses it: {error}", "Mend the environment.")
    except Exception as error:
        report.fault(
            "raises",
            f"The vector environment raised {type(error).__name__}: {error}{place(error)}",
            "Mend it; every action of the action space must be taken, or be forbidden by "
            "infos['action_mask'].",
        )


class _VectorPlayer:
    """Plays in all environments, and reports what is wrong with what they return."""

    def __init__(self, env: VectorEnv, report: Report) -> None:
        self.env = _Last(env)
        self.report = report
        with forked_torch_state():
            agent = ActorCritic(
                env.single_observation_space, env.single_action_space, AgentConfig("none")
            )
        self.environments = Environments(self.env, agent)
        self.count = env.num_envs
        self.masked = False
        """Whether an action mask came at any step."""
        self.unmasked = ""
        """Where one was lacking first."""

    def play(self, seed: int, steps: int, limits: Limits) -> None:
        """Play until each environment has ended two episodes, or for two of `steps`."""
        report, space, count = self.report, self.env.single_action_space, self.count
        space.seed(seed)
        draw = np.random.default_rng(seed)
        step = self.environments.reset(seed)
        self._look(step, f"After reset(seed={seed})")
        lengths, ends = np.zeros(count, dtype=np.int64), list[tuple[int, bool, bool]]()
        finals: list[tuple[Any, Any]] = []
        between: list[Any] = []
        ended = np.zeros(count, dtype=np.int64)
        for t in range(2 * steps + 2):
            actions = self._actions(step, draw)
            inserted = ~step.valid
            before = self.env.kept[0], copy.deepcopy(self.env.kept[0])
            step = self.environments.step(actions)
            where = f"At step {t + 1} after reset(seed={seed})"
            if not same(*before):
                report.fault(
                    "buffers",
                    f"{where}: the observations that were returned before it have changed since.",
                    "Return new arrays each time.",
                )
            self._look(step, where)
            self._look_at_inserted(inserted, where)
            if len(between) < BETWEEN:
                shown = copy.deepcopy(self.env.kept[0])
                between += [rows_of(shown, i) for i in np.flatnonzero(~step.episode_start).tolist()]
            lengths += ~inserted
            done = step.terminated | step.truncated
            if self.environments.same_step and done.any():
                finals += self._finals(np.flatnonzero(done).tolist(), where)
            for i in np.flatnonzero(done).tolist():
                ends.append((int(lengths[i]), bool(step.terminated[i]), True))
            lengths[done] = 0
            ended += done
            if (ended >= 2).all() and len(ends) >= STARTS:
                break
        ends += [(int(n), False, False) for n in lengths if n >= steps]
        check_time_limit(ends, limits, steps, report)
        check_resolution(self.env.single_observation_space, between, report)
        self._look_at_finals(finals, between)

    def _actions(self, step: Step, draw: np.random.Generator) -> NDArray[Any]:
        space, masks = self.env.single_action_space, step.action_mask
        one = [None] * self.count if masks is None else list(masks)
        return np.stack([np.asarray(allowed_action(space, mask, draw)) for mask in one])

    def _look(self, step: Step, where: str) -> None:
        observation, infos = self.env.kept[0], self.env.kept[-1]
        check_observations(self.env.single_observation_space, observation, where, self.report)
        told = np.zeros(self.count, dtype=bool)
        if "action_mask" in infos:
            told = np.asarray(infos.get("_action_mask", ~told), dtype=bool)
        self.masked = self.masked or bool(told.any())
        if (step.valid & ~told).any():
            self.unmasked = self.unmasked or where
        if self.masked and self.unmasked:
            self.report.fault(
                "mask",
                f"{self.unmasked} there is no action mask of some environment, which there is at "
                "other steps: every action counts as allowed there.",
                MASKS,
            )

    def _look_at_inserted(self, inserted: NDArray[np.bool_], where: str) -> None:
        """In mode NEXT_STEP the step after an end only resets."""
        if not inserted.any():
            return
        rewards = as_array(self.env.kept[1]).reshape(self.count)
        if (rewards[inserted] != 0).any():
            self.report.fault(
                "autoreset",
                f"{where}: an environment whose episode ended at the step before gives a reward. "
                "Its autoreset_mode says NEXT_STEP, in which that step only resets, and is left "
                "out of what is learnt from.",
                "Give no reward there; or name the mode that it is: AutoresetMode.SAME_STEP.",
            )

    def _finals(self, rows: list[int], where: str) -> list[tuple[Any, Any]]:
        """Last observation, and the next episode's first, of environments that ended."""
        infos = self.env.kept[-1]
        given, present = infos["final_obs"], infos.get("_final_obs")
        batched = final_is_batched(given, self.env.single_observation_space)
        lacking = [
            i
            for i in rows
            if (present is not None and not present[i]) or (not batched and given[i] is None)
        ]
        if lacking:
            self.report.fault(
                "final observation",
                f"{where}: the episode of environment {lacking[0]} ended without an entry of "
                "infos['final_obs'].",
                FINAL,
            )
            return []
        last = [rows_of(given, i) if batched else given[i] for i in rows]
        following = [rows_of(self.env.kept[0], i) for i in rows]
        return list(zip(copy.deepcopy(last), copy.deepcopy(following), strict=True))

    def _look_at_finals(self, finals: list[tuple[Any, Any]], between: list[Any]) -> None:
        """Whether the last observations are those that the next episodes begin with.

        Args:
            finals: of each episode that ended its last observation, and the next one's first.
            between: observations that begin no episode.
        """
        if len(finals) < STARTS or not all(same(last, first) for last, first in finals):
            return
        starts: list[Any] = []
        for _, first in finals:
            if not any(same(first, start) for start in starts):
                starts.append(first)
        what = (
            f"In all of {len(finals)} episodes infos['final_obs'] is the observation that is "
            "returned at the same step"
        )
        if len(starts) >= STARTS:
            self.report.fault("final observation", f"{what}.", FINAL)
        elif between and len(starts) == 1 and not any(same(x, starts[0]) for x in between):
            self.report.note(
                "final observation",
                f"{what}, and that is seen nowhere between; so it is where an episode ends as the "
                "next begins.",
                f"See that it is meant. If not: {FINAL}",
            )

    def compare_probes(self, seed: int) -> None:
        """Whether a seed repeats what is shown, another changes it, and environments differ."""
        report, spec = self.report, self.env.spec
        first, again = self._probe(seed), self._probe(seed)
        if (spec is None or not spec.nondeterministic) and not same(first, again):
            if same(first, again, tolerance=1e-5):
                report.note(
                    "determinism",
                    f"After two resets with seed {seed} and the same actions not all is the same "
                    "to the last bit, though close: a run cannot be repeated bit for bit.",
                    SEEDED,
                )
            else:
                report.fault(
                    "determinism",
                    f"After two resets with seed {seed} and the same actions not all is the same: "
                    "no run can be repeated.",
                    SEEDED,
                )
            return
        changes = not same(first, self._probe(seed + FAR))
        if not changes:
            report.note(
                "seeds",
                f"With the same actions {PROBE} steps are the same after resets with two seeds.",
                "If something is meant to be random, draw it from generators of the seed.",
            )
        alike = all(same([column[0]] * self.count, column) for row in first for column in row)
        if changes and alike and self.count > 1:
            report.fault(
                "copies",
                f"After reset(seed={seed}) all {self.count} environments show the same, with the "
                "same actions: they are worth no more than one.",
                "Give environment i a generator of its own, of seed + i.",
            )

    def _probe(self, seed: int) -> list[_Row]:
        """What is shown where all environments take the same random actions."""
        space, draw = self.env.single_action_space, np.random.default_rng(0)
        space.seed(0)
        step = self.environments.reset(seed)
        rows = [self._shown(step)]
        for _ in range(PROBE):
            actions, masks = self._actions(step, draw), step.action_mask
            if masks is None or (masks == masks[0]).all():
                actions = np.stack([actions[0]] * self.count)
            step = self.environments.step(actions)
            rows.append(self._shown(step))
        return rows

    def _shown(self, step: Step) -> _Row:
        observation = copy.deepcopy(self.env.kept[0])
        return _Row(
            [rows_of(observation, i) for i in range(self.count)],
            *(x.tolist() for x in (step.reward, step.terminated, step.truncated)),
        )
