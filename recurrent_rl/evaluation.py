"""Playing episodes with a trained policy, with its memory or without."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

from recurrent_rl.agents.files import write_atomically
from recurrent_rl.agents.policy import Policy
from recurrent_rl.episodes import successes as episode_successes
from recurrent_rl.errors import UserError
from recurrent_rl.rollout import action_masks

FILE_NAME = "evaluation.json"
EVALUATION_SEED = 10_000_000
"""Training draws its environments' seeds from seed, seed + 1, ...; these lie far from them."""


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


@dataclass(frozen=True)
class SavedEvaluation:
    """What an evaluation found, as a run's `evaluation.json` holds it."""

    timesteps: int
    """Steps that the policy was trained for."""
    episodes: int
    deterministic: bool
    mean_return: float
    ci95: tuple[float, float]
    mean_length: float
    success_rate: float | None
    return_without_memory: float | None
    """Mean return with the memory reset at every step; None where that was not played."""

    @classmethod
    def of(
        cls,
        played: Evaluation,
        timesteps: int,
        deterministic: bool,
        without_memory: Evaluation | None = None,
    ) -> SavedEvaluation:
        """A summary of the episodes played."""
        return cls(
            timesteps=timesteps,
            episodes=len(played.returns),
            deterministic=deterministic,
            mean_return=played.mean,
            ci95=played.ci95,
            mean_length=float(played.lengths.mean()),
            success_rate=played.success_rate,
            return_without_memory=without_memory.mean if without_memory else None,
        )

    def save(self, run_dir: Path) -> None:
        """Write it into the run's folder."""
        write_atomically(run_dir / FILE_NAME, json.dumps(vars(self), indent=2).encode())

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
            fields = json.loads(path.read_text())
            return cls(**{**fields, "ci95": tuple(fields["ci95"])})
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"{path} cannot be read ({error}); write it anew: recurrent-rl evaluate {run_dir}"
            ) from error


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
