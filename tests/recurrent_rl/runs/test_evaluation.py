"""Evaluation: unbiased, the same in both autoreset modes, and honest about spaces."""

import json
import math
import tempfile
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
from recurrent_rl.config import EnvConfig
from recurrent_rl.errors import UserError
from recurrent_rl.runs.evaluation import (
    FILE_NAME,
    STEP_LIMIT,
    Evaluation,
    Figures,
    SavedEvaluation,
    check_writable,
    confidence_interval,
    evaluate,
    is_evaluated,
    time_limit,
)
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


class Endless(Lottery):
    """Episodes of copy i end after `lengths[i]` steps; None for never."""

    def __init__(self, lengths: list[int | None]) -> None:
        self.own = lengths.pop(0)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        observation, info = super().reset(seed=seed)
        self.length = 10**9 if self.own is None else self.own
        return observation, info


def endless(mode: AutoresetMode, *lengths: int | None) -> SyncVectorEnv:
    left = list(lengths)
    return SyncVectorEnv([lambda: Endless(left)] * len(lengths), autoreset_mode=mode)


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
def test_an_episode_that_passes_the_limit_is_given_up_and_those_after_it_are_not_begun(
    mode: AutoresetMode,
) -> None:
    policy = policy_for(Lottery.observation_space, Lottery.action_space)
    # Three episodes each: copy 1 never ends, copy 2 ends one step too late, copy 3 just in time.
    env = endless(mode, 2, None, 6, 5)
    result = evaluate(policy, env, 12, seed=0, max_steps=5)
    assert sorted(result.returns) == [2, 2, 2, 5, 5, 5]
    assert (result.unfinished, result.max_steps) == (2, 5)
    assert result.mean == 3.5
    assert result.scalars()["eval/unfinished_episodes"] == 2


def test_where_no_episode_ends_there_is_no_mean_and_nothing_fails(tmp_path: Path) -> None:
    policy = policy_for(Lottery.observation_space, Lottery.action_space)
    env = endless(AutoresetMode.SAME_STEP, None, None)
    result = evaluate(policy, env, 5, seed=0, max_steps=7)
    assert (len(result.returns), result.unfinished) == (0, 2)
    assert math.isnan(result.mean)
    assert math.isnan(result.scalars()["eval/mean_reward"])
    assert result.ci95 == (-math.inf, math.inf)
    saved = SavedEvaluation.of(policy, {"greedy": result})
    saved.save(tmp_path)
    text = (tmp_path / FILE_NAME).read_text()
    fields = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert (fields["episodes"], fields["max_steps"]) == (0, 7)
    assert fields["greedy"]["mean_return"] is None
    assert fields["greedy"]["unfinished"] == 2
    read = SavedEvaluation.load(tmp_path)
    assert read is not None
    assert math.isnan(read.greedy.mean_return)
    assert read.greedy.ci95 == (-math.inf, math.inf)


def test_the_limit_is_the_environments_own_where_it_has_one() -> None:
    assert time_limit(make_vector_env("CartPole-v1", 2)) == 500
    assert time_limit(make_vector_env("Acrobot-v1", 2)) == 500
    own = make_vector_env("recurrent_rl/TMaze-v0", 2, EnvConfig('{"length": 5}'))
    assert time_limit(own) == 12
    shorter = EnvConfig('{"max_episode_steps": 30}', vectorization="sync")
    assert time_limit(make_vector_env("CartPole-v1", 2, shorter)) == 30
    unlimited = EnvConfig('{"max_episode_steps": -1}', vectorization="sync")
    assert time_limit(make_vector_env("CartPole-v1", 2, unlimited)) is None
    made_by_hand = SyncVectorEnv(
        [lambda: gym.make("Acrobot-v1")], autoreset_mode=AutoresetMode.SAME_STEP
    )
    assert time_limit(made_by_hand) == 500
    assert time_limit(lottery(AutoresetMode.SAME_STEP, 2)) is None
    policy = policy_for(Lottery.observation_space, Lottery.action_space)
    assert evaluate(policy, lottery(AutoresetMode.SAME_STEP, 2), 2).max_steps == STEP_LIMIT
    with pytest.raises(UserError, match="max_steps is 0; it must be at least 1"):
        evaluate(policy, lottery(AutoresetMode.SAME_STEP, 1), 1, max_steps=0)


def test_a_long_episode_is_told_of_while_it_lasts() -> None:
    policy = policy_for(Lottery.observation_space, Lottery.action_space)
    told: list[int] = []
    env = endless(AutoresetMode.SAME_STEP, None)
    evaluate(policy, env, 1, seed=0, max_steps=350, on_episode=told.append)
    assert told == [0, 0, 0]


def saved_of(policy: Policy, episodes: int, ways: tuple[str, ...] = ("greedy",)) -> SavedEvaluation:
    played = Evaluation(np.full(episodes, 1.0), np.full(episodes, 3), np.zeros(0))
    return SavedEvaluation.of(policy, dict.fromkeys(ways, played))


def test_a_finer_evaluation_of_the_same_policy_is_kept(tmp_path: Path) -> None:
    policy = policy_for(Lottery.observation_space, Lottery.action_space)
    policy.summary = {"timesteps": 100}
    fine = saved_of(policy, 50, ("greedy", "sampled"))
    assert fine.save(tmp_path) is fine
    for coarser in (saved_of(policy, 49, ("greedy", "sampled")), saved_of(policy, 50)):
        assert coarser.save(tmp_path) == fine
        assert SavedEvaluation.load(tmp_path) == fine
    as_fine = saved_of(policy, 50, ("greedy", "sampled", "without_memory"))
    assert as_fine.save(tmp_path) is as_fine
    policy.summary = {"timesteps": 200}
    of_another_policy = saved_of(policy, 3)
    of_another_policy.save(tmp_path)
    assert SavedEvaluation.load(tmp_path) == of_another_policy
    assert is_evaluated(tmp_path, 200)
    assert not is_evaluated(tmp_path, 100)


def test_an_evaluation_that_cannot_be_read_is_written_anew(tmp_path: Path) -> None:
    policy = policy_for(Lottery.observation_space, Lottery.action_space)
    for text in ("{", "[" * 100_000, '{"greedy": 3}', "null"):
        (tmp_path / FILE_NAME).write_text(text)
        assert not is_evaluated(tmp_path, 0)
        with pytest.raises(UserError, match="cannot be read"):
            SavedEvaluation.load(tmp_path)
    saved = saved_of(policy, 3)
    assert saved.save(tmp_path) is saved
    assert SavedEvaluation.load(tmp_path) == saved


def test_an_evaluation_of_an_older_version_is_read(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text(
        '{"timesteps": 9, "episodes": 1, "greedy": {"mean_return": 1.0, "ci95": '
        '[-Infinity, Infinity], "mean_length": 3.0, "success_rate": null}, "sampled": null, '
        '"without_memory": null}'
    )
    greedy = Figures(1.0, (-math.inf, math.inf), 3.0, None)
    assert SavedEvaluation.load(tmp_path) == SavedEvaluation(9, 1, greedy)


def test_a_folder_that_cannot_be_written_is_refused_with_the_way_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_writable(tmp_path)
    assert not list(tmp_path.iterdir())

    def read_only(*_: Any, **__: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", read_only)
    with pytest.raises(UserError, match=r"Read-only file system.*saves nothing.*policy"):
        check_writable(tmp_path)


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
