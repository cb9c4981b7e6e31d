"""Playing episodes with a trained policy, with its memory or without."""

from __future__ import annotations

import dataclasses
import json
import math
import reprlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from recurrent_rl.agents.files import read_json, write_atomically
from recurrent_rl.agents.policy import Policy, sampling_generator
from recurrent_rl.environments import Environments
from recurrent_rl.episodes import EpisodeStatistics
from recurrent_rl.errors import UserError
from recurrent_rl.runs.progress import ProgressBar
from recurrent_rl.seeding import Stream, number
from recurrent_rl.signals import StopSignals

FILE_NAME = "evaluation.json"
EVALUATION_COPIES = 64
"""Copies of the environment stepped side by side."""
STEP_LIMIT = 10_000
"""Steps after which an episode is given up, in an environment without a time limit of its own."""


@dataclass(frozen=True)
class Evaluation:
    """The episodes played: one entry each."""

    returns: NDArray[np.float64]
    lengths: NDArray[np.int64]
    successes: NDArray[np.float64]
    """1 or 0 for each episode; empty where the environment tells of none."""
    unfinished: int = 0
    """Episodes that were given up after `max_steps` steps; none of the figures counts them."""
    max_steps: int | None = None

    @property
    def mean(self) -> float:
        """Mean return; NaN where no episode was finished."""
        return _mean(self.returns)

    @property
    def ci95(self) -> tuple[float, float]:
        """95 % confidence interval of the mean return."""
        return confidence_interval(self.returns)

    @property
    def mean_length(self) -> float:
        """Mean length; NaN where no episode was finished."""
        return _mean(self.lengths)

    @property
    def success_rate(self) -> float | None:
        """Share of episodes that reached their goal; None where the environment does not tell."""
        return float(self.successes.mean()) if len(self.successes) else None

    def scalars(self) -> dict[str, float]:
        """The means under Stable-Baselines3's TensorBoard tags."""
        means = {"eval/mean_reward": self.mean, "eval/mean_ep_length": self.mean_length}
        if self.success_rate is not None:
            means["eval/success_rate"] = self.success_rate
        if self.unfinished:
            means["eval/unfinished_episodes"] = float(self.unfinished)
        return means


def _mean(values: NDArray[Any]) -> float:
    return float(values.mean()) if len(values) else math.nan


class Way(NamedTuple):
    """A way of playing: how actions are chosen, and whether the memory is left alone."""

    label: str
    deterministic: bool = True
    with_memory: bool = True


WAYS = {
    "greedy": Way("likeliest actions"),
    "sampled": Way("sampled actions", deterministic=False),
    "without_memory": Way("memory reset every step", with_memory=False),
}
"""What a policy is asked to show: the first is the policy as it is used."""


@dataclass(frozen=True)
class Figures:
    """What an evaluation comes to: NaN, and an interval without bounds, where nothing is known."""

    mean_return: float
    ci95: tuple[float, float]
    mean_length: float
    success_rate: float | None
    unfinished: int = 0
    """Episodes that were given up, and do not count."""

    @classmethod
    def of(cls, played: Evaluation) -> Figures:
        """Of the episodes played."""
        return cls(
            played.mean, played.ci95, played.mean_length, played.success_rate, played.unfinished
        )

    def to_json(self) -> dict[str, Any]:
        """As JSON values: null for what is not known."""
        fields = dataclasses.asdict(self)
        for name in ("mean_return", "mean_length"):
            fields[name] = _known(fields[name])
        return fields | {"ci95": [_known(bound) for bound in self.ci95]}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Figures:
        """The inverse of `to_json`; what an older version did not write takes its default."""
        missing = {
            name: math.nan for name in ("mean_return", "mean_length") if fields[name] is None
        }
        low, high = fields["ci95"]
        ci95 = (-math.inf if low is None else low, math.inf if high is None else high)
        return cls(**{**fields, **missing, "ci95": ci95})


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


@dataclass(frozen=True)
class SavedEvaluation:
    """What an evaluation found, as a run's `evaluation.json` holds it."""

    timesteps: int
    """Steps that the policy was trained for."""
    episodes: int
    """Episodes that `greedy` is of: finished ones."""
    greedy: Figures
    """Taking the likeliest actions."""
    sampled: Figures | None = None
    """Sampling the actions as in training; None where that was not played."""
    without_memory: Figures | None = None
    """With the memory reset at every step; None where that was not played."""
    max_steps: int | None = None
    """Steps after which an episode was given up; None in files of older versions."""

    @classmethod
    def of(cls, policy: Policy, played: dict[str, Evaluation]) -> SavedEvaluation:
        """Of the episodes that this policy played, by their names in `WAYS`."""
        timesteps = policy.summary.get("timesteps")
        return cls(
            timesteps=timesteps if isinstance(timesteps, int) else 0,
            episodes=len(played["greedy"].returns),
            max_steps=played["greedy"].max_steps,
            **{name: Figures.of(of_way) for name, of_way in played.items()},
        )

    def save(self, run_dir: Path) -> SavedEvaluation:
        """Write it into the run's folder, unless that would lose what is there.

        Returns:
            What the folder holds now: this one or, where the one there is of the same policy and
            of more episodes or of a way of playing that this one lacks, the one there.

        Raises:
            UserError: the folder cannot be written.
        """
        try:
            there = SavedEvaluation.load(run_dir)
        except UserError:  # to be written anew, as it says
            there = None
        if there is not None and self._would_lose(there):
            return there
        text = json.dumps(self.to_json(), indent=2, allow_nan=False)
        try:
            write_atomically(run_dir / FILE_NAME, text.encode())
        except OSError as error:
            raise UserError(f"{run_dir / FILE_NAME} cannot be written: {error}.") from error
        return self

    def to_json(self) -> dict[str, Any]:
        """As JSON values: what the file holds."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return fields | {name: fields[name] and fields[name].to_json() for name in WAYS}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> SavedEvaluation:
        """The inverse of `to_json`.

        Raises:
            ValueError, TypeError, LookupError, AttributeError: these fields are of no evaluation.
        """
        figures = {name: fields[name] and Figures.from_json(fields[name]) for name in WAYS}
        return _checked(cls(**{**fields, **figures}))

    def _would_lose(self, there: SavedEvaluation) -> bool:
        lacks_a_way = any(getattr(there, name) and not getattr(self, name) for name in WAYS)
        return there.timesteps == self.timesteps and (there.episodes > self.episodes or lacks_a_way)

    @classmethod
    def load(cls, run_dir: Path) -> SavedEvaluation | None:
        """Read it from the run's folder; None where there is none.

        Raises:
            UserError: the file cannot be read.
        """
        if not is_evaluated(run_dir):
            return None
        path = run_dir / FILE_NAME
        try:
            return cls.from_json(read_json(path.read_text(encoding="utf-8")))
        except (
            OSError,
            ValueError,
            TypeError,
            LookupError,
            AttributeError,
            RecursionError,
        ) as error:
            raise UserError(
                f"{path} cannot be read ({error}); write it anew: recurrent-rl evaluate {run_dir}"
            ) from error


def check_writable(run_dir: Path) -> None:
    """Refuse a folder in which no file can be made, before hours of playing are lost.

    Raises:
        UserError: says why, and how to evaluate without saving.
    """
    try:
        with tempfile.NamedTemporaryFile(dir=run_dir):
            pass
    except OSError as error:
        raise UserError(
            f"{FILE_NAME} cannot be written into {run_dir}: {error}. Make the folder writable, or "
            f"evaluate its policy file, which saves nothing: recurrent-rl evaluate "
            f"{run_dir / 'policy.safetensors'}"
        ) from error


def is_evaluated(run_dir: Path, timesteps: int | None = None) -> bool:
    """Whether the run in this folder has an evaluation: of its policy after so many steps."""
    if timesteps is None:
        return (run_dir / FILE_NAME).is_file()
    try:
        saved = SavedEvaluation.load(run_dir)
    except UserError:  # to be written anew, as it says
        return False
    return saved is not None and saved.timesteps == timesteps


def _checked(saved: SavedEvaluation) -> SavedEvaluation:
    """The evaluation, if its values are of the types it declares.

    Raises:
        TypeError: names one that is not.
    """
    for name in ("timesteps", "episodes"):
        if type(getattr(saved, name)) is not int:
            raise TypeError(f"{name} is {reprlib.repr(getattr(saved, name))}, not an integer")
    for way in WAYS:
        figures = getattr(saved, way)
        if figures is None and way != "greedy":
            continue
        rate = figures.success_rate
        numbers = [figures.mean_return, figures.mean_length, *figures.ci95]
        if len(numbers) != 4 or any(
            type(x) not in (int, float) for x in [*numbers, *([] if rate is None else [rate])]
        ):
            raise TypeError(f"{way} is {reprlib.repr(figures)}, not figures")
    return saved


def confidence_interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """95 % confidence interval of a mean, mean ± 1.96 s / sqrt(n): for 30 values or more.

    One value or none says nothing of it: the interval has no bounds.
    """
    if len(values) < 2:
        return -math.inf, math.inf
    half = 1.96 * float(values.std(ddof=1)) / len(values) ** 0.5
    return float(values.mean()) - half, float(values.mean()) + half


def time_limit(env: VectorEnv) -> int | None:
    """The steps after which the environment itself ends an episode; None where it does not tell."""
    base = env.unwrapped
    limit = getattr(base, "max_episode_steps", None)
    copies = getattr(base, "envs", None)  # SyncVectorEnv, whose own spec only `make_vec` sets
    spec = base.spec or (copies[0].spec if copies else None)
    if limit is None and spec is not None:
        limit = spec.kwargs.get("max_episode_steps", spec.max_episode_steps)
    return int(limit) if limit is not None and limit > 0 else None


def step_limit(env: VectorEnv, max_steps: int | None) -> int:
    """The steps after which an episode is given up: `max_steps`, else as `evaluate` says.

    Raises:
        UserError: `max_steps` is below 1.
    """
    if max_steps is not None and max_steps < 1:
        raise UserError(f"max_steps is {max_steps}; it must be at least 1.")
    return max_steps or time_limit(env) or STEP_LIMIT


def check_spaces(policy: Policy, env: VectorEnv) -> None:
    """Refuse an environment whose spaces are not the policy's.

    Raises:
        UserError: names both.
    """
    for what, of_policy, of_env in (
        ("observation", policy.observation_space, env.single_observation_space),
        ("action", policy.action_space, env.single_action_space),
    ):
        if of_policy != of_env:
            raise UserError(
                f"The policy was trained for the {what} space {of_policy}, but the environment's "
                f"is {of_env}. Name the environment and arguments the policy was trained with."
            )


def evaluate(
    policy: Policy,
    env: VectorEnv,
    episodes: int,
    *,
    deterministic: bool = True,
    with_memory: bool = True,
    seed: int | None = None,
    max_steps: int | None = None,
    on_episode: Callable[[int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Evaluation:
    """Play `episodes` episodes.

    Each copy plays its share of the episodes and no more: to take those that finish first would
    favour the short ones. A copy whose episode passes `max_steps` is given up, since a vector
    environment cannot reset one copy: what it still had to play is not begun.

    Args:
        policy: plays.
        env: vector environment in autoreset mode SAME_STEP or NEXT_STEP.
        episodes: to play in all.
        deterministic: take the likeliest actions instead of sampling.
        with_memory: false resets the state at every step, which shows what memory is worth.
        seed: of the environments and of sampled actions.
        max_steps: steps after which an episode is given up; by default the environment's own time
            limit or, where it tells of none, `STEP_LIMIT`.
        on_episode: called with the number of finished episodes, when one is finished and every 100
            steps.
        should_stop: asked at each step; true ends early, with the episodes played so far.

    Raises:
        UserError: the policy is for other spaces, `max_steps` is below 1, the autoreset mode is
            DISABLED, or what the environment returns is not what its spaces declare.
    """
    check_spaces(policy, env)
    environments = Environments(env, policy.agent)
    limit = step_limit(env, max_steps)
    generator = None if deterministic else sampling_generator(seed)
    count = env.num_envs
    quota = np.full(count, episodes // count)
    quota[: episodes % count] += 1
    played = np.zeros(count, dtype=np.int64)
    finished = EpisodeStatistics.of(count, window=None)
    unfinished = 0

    step = environments.reset(seed)
    state = policy.initial_state(count)
    every = np.ones(count, dtype=bool)
    while (played < quota).any() and not (should_stop and should_stop()):
        start = torch.as_tensor(step.episode_start if with_memory else every)
        action, state = policy.choose(
            step.observation,
            state,
            start.to(policy.agent.device),
            step.action_mask,
            step.reward,
            generator,
        )
        counted = step.valid
        step = environments.step(action)
        kept = finished.step(step, counted, wanted=played < quota)
        played += kept
        if on_episode and (kept.any() or environments.steps % 100 == 0):
            on_episode(len(finished.returns))
        given_up = (finished.running_length >= limit) & (played < quota)
        unfinished += int(given_up.sum())
        quota[given_up] = 0
    return Evaluation(
        np.array(finished.returns),
        np.array(finished.lengths, dtype=np.int64),
        np.array(finished.successes if finished.tells_success else (), dtype=np.float64),
        unfinished,
        limit,
    )


def evaluate_ways(
    policy: Policy,
    env: VectorEnv,
    episodes: int,
    seed: int,
    stop: StopSignals,
    compare: bool = True,
    max_steps: int | None = None,
    progress: bool = True,
) -> dict[str, Evaluation]:
    """Play the same episodes in each of the `WAYS`.

    Args:
        policy: plays.
        env: vector environment as for `evaluate`.
        episodes: to play in each way.
        seed: training with the same seed saw other episodes.
        stop: a signal ends the playing early; what is returned then is cut short.
        compare: false plays only the first way. A policy without memory is not asked to do without.
        max_steps: as for `evaluate`.
        progress: show a progress bar.

    Returns:
        What was played, by the names in `WAYS`.
    """
    played = {}
    at_most = {"at most": f"{step_limit(env, max_steps):,} steps each"}
    for name, way in WAYS.items():
        if (name != "greedy" and not compare) or stop:
            break
        if policy.config.memory == "none" and not way.with_memory:
            continue
        label = f"Evaluating, {way.label}"
        with ProgressBar(label, episodes, "episodes", visible=progress) as bar:
            played[name] = evaluate(
                policy,
                env,
                episodes,
                deterministic=way.deterministic,
                with_memory=way.with_memory,
                seed=number(seed, Stream.EVALUATION),
                max_steps=max_steps,
                on_episode=partial(bar.update, figures=at_most),
                should_stop=lambda: bool(stop),
            )
    return played
