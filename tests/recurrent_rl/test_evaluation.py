"""Evaluation: unbiased, the same in both autoreset modes, and honest about spaces."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from recurrent_rl.agents.actor_critic import ActorCritic, AgentConfig
from recurrent_rl.agents.policy import Policy
from recurrent_rl.errors import UserError
from recurrent_rl.evaluation import SavedEvaluation, confidence_interval, evaluate
from recurrent_rl.vectorize import make_vector_env


class Lottery(gym.Env[Any, Any]):
    """Half of the episodes last 1 step and pay 1; half last 9 and pay 9. Actions mean nothing."""

    observation_space = spaces.Box(0, 10, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.length = 1 if self.np_random.random() < 0.5 else 9
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.t += 1
        end = self.t == self.length
        info = {"is_success": self.length == 9} if end else {}
        return np.full(1, self.t, np.float32), 1.0, end, False, info


def policy_for(observation: Any, action: Any, memory: str = "gru") -> Policy:
    torch.manual_seed(0)
    return Policy(ActorCritic(observation, action, AgentConfig(memory, hidden_size=8)))


def lottery(mode: AutoresetMode, copies: int) -> SyncVectorEnv:
    return SyncVectorEnv([Lottery] * copies, autoreset_mode=mode)


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
def test_short_episodes_are_not_favoured(mode: AutoresetMode) -> None:
    # 50 copies, 100 episodes: the first 100 to finish would be short ones nearly all.
    policy = policy_for(Lottery.observation_space, Lottery.action_space)
    means = []
    for seed in range(6):
        result = evaluate(policy, lottery(mode, 50), 100, seed=1000 * seed)
        assert len(result.returns) == 100
        np.testing.assert_array_equal(result.returns, result.lengths)
        np.testing.assert_array_equal(result.successes, result.returns == 9)
        means.append(result.mean)
    assert np.mean(means) == pytest.approx(5.0, abs=0.5)


def test_both_autoreset_modes_play_the_same_episodes() -> None:
    policy = policy_for(Lottery.observation_space, Lottery.action_space)
    same, following = (
        evaluate(policy, lottery(mode, 4), 30, seed=3)
        for mode in (AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP)
    )
    assert sorted(same.returns) == sorted(following.returns)


def test_fewer_episodes_than_copies_and_uneven_shares_are_played_exactly() -> None:
    policy = policy_for(Lottery.observation_space, Lottery.action_space)
    seen: list[int] = []
    for episodes in (1, 7, 11):
        env = lottery(AutoresetMode.SAME_STEP, 5)
        result = evaluate(policy, env, episodes, seed=0, on_episode=seen.append)
        assert len(result.returns) == episodes
        assert seen[-1] == episodes


def test_evaluation_is_repeated_by_its_seed() -> None:
    env = make_vector_env("recurrent_rl/RepeatPrevious-Easy-v0", 8)
    policy = policy_for(env.single_observation_space, env.single_action_space)
    first, again, other = (
        evaluate(policy, env, 20, deterministic=False, seed=seed) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first.returns, again.returns)
    assert (first.returns != other.returns).any()


def test_a_stop_is_heard() -> None:
    policy = policy_for(Lottery.observation_space, Lottery.action_space)
    env = lottery(AutoresetMode.SAME_STEP, 2)
    assert len(evaluate(policy, env, 100, seed=0, should_stop=lambda: True).returns) == 0


def test_a_policy_for_other_spaces_is_refused_with_both() -> None:
    policy = policy_for(spaces.Discrete(3), spaces.Discrete(2))
    with pytest.raises(UserError, match=r"observation space Discrete\(3\), but .* Box"):
        evaluate(policy, lottery(AutoresetMode.SAME_STEP, 1), 1)
    policy = policy_for(Lottery.observation_space, spaces.Discrete(5))
    with pytest.raises(UserError, match=r"action space Discrete\(5\), but .* Discrete\(2\)"):
        evaluate(policy, lottery(AutoresetMode.SAME_STEP, 1), 1)


def test_the_disabled_autoreset_mode_is_refused() -> None:
    policy = policy_for(Lottery.observation_space, Lottery.action_space)
    with pytest.raises(UserError, match="SAME_STEP or NEXT_STEP"):
        evaluate(policy, lottery(AutoresetMode.DISABLED, 1), 1)


def test_the_interval_of_a_mean_covers_it_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(2000):
        low, high = confidence_interval(rng.exponential(1.0, 400))
        inside += low <= 1.0 <= high
    assert inside / 2000 == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe",
        b"{",
        b"[]",
        b"null",
        b"7",
        b"[" * 5000,
        b'{"greedy": null, "sampled": null, "without_memory": null}',
        b'{"timesteps": "", "episodes": 1, "greedy": GOOD, "sampled": null, "without_memory": 0}',
        b'{"timesteps": 1, "episodes": 1, "greedy": {}, "sampled": null, "without_memory": null}',
        b'{"timesteps": 1, "episodes": 1, "greedy": [1], "sampled": null, "without_memory": null}',
    ],
)
def test_a_saved_evaluation_that_cannot_be_read_is_told_with_the_fix(
    content: bytes, tmp_path: Path
) -> None:
    good = b'{"mean_return": 1, "ci95": [0, 2], "mean_length": 3, "success_rate": null}'
    (tmp_path / "evaluation.json").write_bytes(content.replace(b"GOOD", good))
    with pytest.raises(UserError, match=r"evaluation.json cannot be read .*recurrent-rl evaluate"):
        SavedEvaluation.load(tmp_path)
