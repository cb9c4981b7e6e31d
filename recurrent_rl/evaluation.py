"""Playing episodes with a trained policy, with its memory or without."""

from __future__ import annotations

import dataclasses
import json
import reprlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

from recurrent_rl.agents.files import read_json, write_atomically
from recurrent_rl.agents.policy import Policy
from recurrent_rl.episodes import successes as episode_successes
from recurrent_rl.errors import UserError
from recurrent_rl.progress import ProgressBar
from recurrent_rl.rollout import action_masks
from recurrent_rl.signals import StopSignals

FILE_NAME = "evaluation.json"
EVALUATION_SEED = 10_000_000
"""Training draws its environments' seeds from seed, seed + 1, ...; these lie far from them."""
EVALUATION_COPIES = 64
"""Copies of the environment stepped side by side."""


@dataclass(frozen=True)
class Evaluation:
    """The episodes played: one entry each."""

    returns: NDArray[np.float64]
    lengths: NDArray[np.int64]
    successes: NDArray[np.float64]
    """1 or 0 for each episode whose environment told; empty where it does not tell."""

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(self.returns.mean())

    @property
    def ci95(self) -> tuple[float, float]:
        """95 % confidence interval of the mean return."""
        return confidence_interval(self.returns)

    @property
    def success_rate(self) -> float | None:
        """Share of episodes that reached their goal; None where the environment does not tell."""
        return float(self.successes.mean()) if len(self.successes) else None

    def scalars(self) -> dict[str, float]:
        """The means under Stable-Baselines3's TensorBoard tags."""
        means = {"eval/mean_reward": self.mean, "eval/mean_ep_length": float(self.lengths.mean())}
        if self.success_rate is not None:
            means["eval/success_rate"] = self.success_rate
        return means


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
    """What an evaluation comes to."""

    mean_return: float
    ci95: tuple[float, float]
    mean_length: float
    success_rate: float | None

    @classmethod
    def of(cls, played: Evaluation) -> Figures:
        """Of the episodes played."""
        return cls(played.mean, played.ci95, float(played.lengths.mean()), played.success_rate)


@dataclass(frozen=True)
class SavedEvaluation:
    """What an evaluation found, as a run's `evaluation.json` holds it."""

    timesteps: int
    """Steps that the policy was trained for."""
    episodes: int
    greedy: Figures
    """Taking the likeliest actions."""
    sampled: Figures | None = None
    """Sampling the actions as in training; None where that was not played."""
    without_memory: Figures | None = None
    """With the memory reset at every step; None where that was not played."""

    @classmethod
    def of(cls, policy: Policy, played: dict[str, Evaluation]) -> SavedEvaluation:
        """Of the episodes that this policy played, by their names in `WAYS`."""
        return cls(
            timesteps=int(policy.summary.get("timesteps", 0)),
            episodes=len(played["greedy"].returns),
            **{name: Figures.of(of_way) for name, of_way in played.items()},
        )

    def save(self, run_dir: Path) -> None:
        """Write it into the run's folder."""
        text = json.dumps(dataclasses.asdict(self), indent=2)
        write_atomically(run_dir / FILE_NAME, text.encode())

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
            fields = read_json(path.read_text(encoding="utf-8"))
            for name in WAYS:
                if fields[name] is not None:
                    figures = {**fields[name], "ci95": tuple(fields[name]["ci95"])}
                    fields[name] = Figures(**figures)
            return _checked(cls(**fields))
        except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
            raise UserError(
                f"{path} cannot be read ({error}); write it anew: recurrent-rl evaluate {run_dir}"
            ) from error


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


def is_evaluated(run_dir: Path) -> bool:
    """Whether the run in this folder has an evaluation."""
    return (run_dir / FILE_NAME).is_file()


def confidence_interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """95 % confidence interval of a mean, mean ± 1.96 s / sqrt(n): for 30 values or more."""
    half = 1.96 * float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else np.inf
    return float(values.mean()) - half, float(values.mean()) + half


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
    on_episode: Callable[[int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Evaluation:
    """Play `episodes` episodes.

    Each copy plays its share of the episodes and no more: to take those that finish first would
    favour the short ones.

    Args:
        policy: plays.
        env: vector environment in autoreset mode SAME_STEP or NEXT_STEP.
        episodes: to play in all.
        deterministic: take the likeliest actions instead of sampling.
        with_memory: false resets the state at every step, which shows what memory is worth.
        seed: of the environments and of sampled actions.
        on_episode: called with the number of finished episodes.
        should_stop: asked at each step; true ends early, with the episodes played so far.

    Raises:
        UserError: the policy is for other spaces, or the autoreset mode is DISABLED.
    """
    check_spaces(policy, env)
    mode = env.metadata.get("autoreset_mode")
    if mode not in (AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP):
        raise UserError(f"The environment's autoreset_mode is {mode}; use SAME_STEP or NEXT_STEP.")
    if seed is not None:
        policy.seed(seed)
    count = env.num_envs
    quota = np.full(count, episodes // count)
    quota[: episodes % count] += 1
    played = np.zeros(count, dtype=np.int64)
    running_return, running_length = np.zeros(count), np.zeros(count, dtype=np.int64)
    returns: list[float] = []
    lengths: list[int] = []
    successes: list[float] = []

    observation, infos = env.reset(seed=seed)
    state = policy.initial_state(count)
    start = np.ones(count, dtype=bool)
    inserted = np.zeros(count, dtype=bool)  # rows in which NEXT_STEP only resets
    rewards: NDArray[np.float64] = np.zeros(count)
    masked = policy.agent.head.mask_size if "action_mask" in infos else None
    while (played < quota).any() and not (should_stop and should_stop()):
        masks = action_masks(infos, (count, masked)) if masked else None
        if masks is not None:
            masks[inserted] = True  # the action is ignored there
        action, state = policy.predict(
            observation,
            state,
            start if with_memory else np.ones(count, dtype=bool),
            deterministic,
            masks,
            rewards,
        )
        observation, rewards, terminated, truncated, infos = env.step(action)
        done = terminated | truncated
        running_return += np.where(inserted, 0.0, rewards)
        running_length += ~inserted
        counted = done & (played < quota)
        if counted.any():
            returns += running_return[counted].tolist()
            lengths += running_length[counted].tolist()
            successes += episode_successes(infos, counted)
            played += counted
            if on_episode:
                on_episode(len(returns))
        running_return[done] = 0
        running_length[done] = 0
        start, inserted = (done, inserted) if mode is AutoresetMode.SAME_STEP else (inserted, done)
    return Evaluation(np.array(returns), np.array(lengths, dtype=np.int64), np.array(successes))


def evaluate_ways(
    policy: Policy,
    env: VectorEnv,
    episodes: int,
    seed: int,
    stop: StopSignals,
    compare: bool = True,
) -> dict[str, Evaluation]:
    """Play the same episodes in each of the `WAYS`, with a progress bar.

    Args:
        policy: plays.
        env: vector environment as for `evaluate`.
        episodes: to play in each way.
        seed: training with the same seed saw other episodes.
        stop: a signal ends the playing early; what is returned then is cut short.
        compare: false plays only the first way. A policy without memory is not asked to do without.

    Returns:
        What was played, by the names in `WAYS`.
    """
    played = {}
    for name, way in WAYS.items():
        if (name != "greedy" and not compare) or stop:
            break
        if policy.config.memory == "none" and not way.with_memory:
            continue
        with ProgressBar(f"Evaluating, {way.label}", episodes, "episodes") as bar:
            played[name] = evaluate(
                policy,
                env,
                episodes,
                deterministic=way.deterministic,
                with_memory=way.with_memory,
                seed=EVALUATION_SEED + seed,
                on_episode=bar.update,
                should_stop=lambda: bool(stop),
            )
    return played
