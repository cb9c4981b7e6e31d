"""Evaluation: unbiased, the same in both autoreset modes, and honest about spaces."""

import contextlib
import json
import math
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import TimeLimit

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.policy import Policy
from recurrent_rl.checks.check import check_env
from recurrent_rl.envs.wrappers import HideIndices
from recurrent_rl.errors import UserError
from recurrent_rl.runs.evaluation import STEP_LIMIT, evaluate, evaluate_ways
from recurrent_rl.runs.evaluation_result import SavedEvaluation
from recurrent_rl.runs.folder import RunFolder
from recurrent_rl.seeding import Stream, number
from recurrent_rl.signals import StopSignals
from recurrent_rl.vector_env.config import EnvConfig
from recurrent_rl.vector_env.limits import limits_of
from recurrent_rl.vector_env.vectorize import make_vector_env


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


def lottery(mode: AutoresetMode, count: int) -> SyncVectorEnv:
    return SyncVectorEnv([Lottery] * count, autoreset_mode=mode)


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
def test_short_episodes_are_not_favoured(mode: AutoresetMode) -> None:
    # 50 environments, 100 episodes: the first 100 to finish would be short ones nearly all.
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


def test_fewer_episodes_than_environments_and_uneven_shares_are_played_exactly() -> None:
    policy = policy_for(Lottery.observation_space, Lottery.action_space)
    seen: list[int] = []
    for episodes in (1, 7, 11):
        env = lottery(AutoresetMode.SAME_STEP, 5)
        result = evaluate(policy, env, episodes, seed=0, on_episode=seen.append)
        assert len(result.returns) == episodes
        assert seen[-1] == episodes


@pytest.mark.parametrize("with_memory", [True, False])
@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
def test_a_policy_is_told_where_episodes_start_and_what_the_step_before_paid(
    mode: AutoresetMode, with_memory: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = AgentConfig("gru", hidden_size=8, previous_reward=True)
    policy = Policy(ActorCritic(Lottery.observation_space, Lottery.action_space, config))
    told = []

    def choose(self: Policy, arrays: Any, state: Any, start: Any, mask: Any, *rest: Any) -> Any:
        told.append((arrays[""][:, 0].copy(), start.numpy(), rest[0].copy()))
        return original(self, arrays, state, start, mask, *rest)

    original = Policy.choose
    monkeypatch.setattr(Policy, "choose", choose)
    evaluate(policy, lottery(mode, 4), episodes=20, seed=0, with_memory=with_memory)
    seen, starts, rewards = map(np.stack, zip(*told, strict=True))
    first = seen == 0  # the step's number in its episode
    assert 0.05 < first.mean() < 0.9
    assert (starts == (first if with_memory else True)).all()
    assert (rewards[~first] == 1).all()


def test_what_a_mask_forbids_is_not_played() -> None:
    env = make_vector_env("recurrent_rl/Probe-Mask-v0", 8)  # which refuses what is forbidden
    policy = policy_for(env.single_observation_space, env.single_action_space)
    policy.agent.head.linear.bias.detach()[0] = 50.0
    played = evaluate(policy, env, episodes=100, deterministic=False, seed=0)
    assert set(played.returns) == {0, 1}


def test_each_way_plays_the_same_episodes_which_training_has_not_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ways = []

    def noted(*given: Any, **settings: Any) -> Any:
        asked = ("deterministic", "with_memory", "seed")
        ways.append(tuple(settings[name] for name in asked))
        return evaluate(*given, **settings)

    monkeypatch.setattr("recurrent_rl.runs.evaluation.evaluate", noted)
    env = lottery(AutoresetMode.SAME_STEP, 4)
    policy = policy_for(Lottery.observation_space, Lottery.action_space)
    played = evaluate_ways(policy, env, EnvConfig(), 8, 5, StopSignals(), progress=False)
    seed = number(5, Stream.EVALUATION)
    assert ways == [(True, True, seed), (False, True, seed), (True, False, seed)]
    assert [*played] == ["deterministic", "stochastic", "memory_ablation"]
    assert len({tuple(one.returns) for one in played.values()}) == 1


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


def test_what_a_policy_does_not_hide_itself_a_wrapper_hides() -> None:
    seen = HideIndices(gym.make("CartPole-v1"), [1, 3]).observation_space
    policy = policy_for(seen, spaces.Discrete(2))  # as one in a file of format 1
    with pytest.raises(UserError, match="The policy was trained for the observation space"):
        evaluate(policy, "CartPole-v1", 1, env_config=EnvConfig())
    hidden = EnvConfig(hide_indices=(1, 3))
    assert evaluate(policy, "CartPole-v1", 2, env_config=hidden).lengths.min() > 0


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


class Endless(Lottery):
    """Episodes of environment i end after `lengths[i]` steps; None for never."""

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
    # Three episodes each. Environment 1 never ends, 2 ends a step too late, 3 just in time.
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
    saved = SavedEvaluation.of(policy, {"deterministic": result})
    folder = RunFolder(tmp_path)
    folder.save_evaluation(saved)
    text = folder.evaluation.read_text()
    fields = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert (fields["episodes"], fields["max_steps"]) == (0, 7)
    assert fields["deterministic"]["mean_return"] is None
    assert fields["deterministic"]["unfinished"] == 2
    read = folder.load_evaluation()
    assert read is not None
    assert math.isnan(read.deterministic.mean_return)
    assert read.deterministic.ci95 == (-math.inf, math.inf)


def test_the_limit_is_the_environments_own_where_it_has_one() -> None:
    assert limits_of(make_vector_env("CartPole-v1", 2)).longest == 500
    assert limits_of(make_vector_env("Acrobot-v1", 2)).longest == 500
    own = make_vector_env("recurrent_rl/TMaze-v0", 2, EnvConfig({"length": 5}))
    assert limits_of(own).longest == 12
    shorter = EnvConfig({"max_episode_steps": 30}, vectorization="sync")
    assert limits_of(make_vector_env("CartPole-v1", 2, shorter)).longest == 30
    unlimited = EnvConfig({"max_episode_steps": -1}, vectorization="sync")
    assert limits_of(make_vector_env("CartPole-v1", 2, unlimited)).longest is None
    made_by_hand = SyncVectorEnv(
        [lambda: gym.make("Acrobot-v1")], autoreset_mode=AutoresetMode.SAME_STEP
    )
    assert limits_of(made_by_hand).longest == 500
    assert limits_of(lottery(AutoresetMode.SAME_STEP, 2)).longest is None
    policy = policy_for(Lottery.observation_space, Lottery.action_space)
    assert evaluate(policy, lottery(AutoresetMode.SAME_STEP, 2), 2).max_steps == STEP_LIMIT
    with pytest.raises(UserError, match="max_steps is 0; it must be at least 1"):
        evaluate(policy, lottery(AutoresetMode.SAME_STEP, 1), 1, max_steps=0)


@pytest.mark.parametrize(
    ("told", "limit"),
    [
        (5, 5),
        (5.0, 5),
        (np.int64(5), 5),
        (torch.tensor(5), 5),
        (np.full(8, 5), 5),
        (np.array([5, 6]), None),
        (math.inf, None),
        (math.nan, None),
        (2.5, None),
        (-1, None),
        ("5", None),
        ([5, [6]], None),
        (lambda: 5, None),
        (None, None),
    ],
)
def test_a_limit_that_is_no_whole_number_is_none(told: Any, limit: int | None) -> None:
    env = lottery(AutoresetMode.SAME_STEP, 2)
    vars(env.envs[0].unwrapped)["max_episode_steps"] = told
    assert limits_of(env).longest == limit
    env = lottery(AutoresetMode.SAME_STEP, 2)
    vars(env)["max_episode_steps"] = told
    assert limits_of(env).longest == limit
    assert check_env(env) == ()


class Trial(gym.Wrapper[Any, Any, Any, Any]):
    """Joins three episodes, and begins the others by a method of its own."""

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        self.left = 3
        return self.env.reset(seed=seed)

    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = self.env.step(action)
        if terminated or truncated:
            self.left -= 1
            if self.left:
                observation, terminated, truncated = self.begin(), False, False
        return observation, reward, terminated, truncated, info

    def begin(self) -> Any:
        return self.env.reset()[0]


class PlainTrial(Trial):
    """As the other, in one method."""

    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.left -= terminated or truncated
        if (terminated or truncated) and self.left:
            return self.env.reset()[0], reward, False, False, info
        return observation, reward, terminated, truncated, info


def cut() -> gym.Env[Any, Any]:
    """An environment of Gymnasium's that a time limit alone ends."""
    return gym.make("Pendulum-v1", max_episode_steps=10)


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_a_time_limit_within_what_joins_episodes_is_not_that_of_the_whole(
    vectorization: Any,
) -> None:
    settings = EnvConfig(vectorization=vectorization)
    for make, limit in (
        (lambda: PlainTrial(cut()), None),
        (lambda: TimeLimit(PlainTrial(cut()), 25), 25),
        (lambda: Trial(cut()), 10),
    ):
        with contextlib.closing(make_vector_env(make, 1, settings)) as env:
            assert limits_of(env).longest == limit


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
@pytest.mark.parametrize("kind", [Trial, PlainTrial])
def test_an_episode_that_goes_on_beyond_its_time_limit_is_played_to_its_end(
    kind: type[Trial], mode: AutoresetMode
) -> None:
    env = SyncVectorEnv([lambda: kind(cut())] * 2, autoreset_mode=mode)
    policy = policy_for(env.single_observation_space, env.single_action_space)
    result = evaluate(policy, env, 5, seed=0)
    assert (result.lengths.tolist(), result.unfinished) == ([30] * 5, 0)
    assert evaluate(policy, env, 2, seed=0, max_steps=20).unfinished == 2


def test_a_long_episode_is_told_of_while_it_lasts() -> None:
    policy = policy_for(Lottery.observation_space, Lottery.action_space)
    told: list[int] = []
    env = endless(AutoresetMode.SAME_STEP, None)
    evaluate(policy, env, 1, seed=0, max_steps=350, on_episode=told.append)
    assert told == [0, 0, 0]


def test_what_a_signal_cut_short_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = StopSignals()

    def stopped(*given: Any, **settings: Any) -> Any:
        stop.received = 2
        return evaluate(*given, **settings)

    monkeypatch.setattr("recurrent_rl.runs.evaluation.evaluate", stopped)
    policy = policy_for(Lottery.observation_space, Lottery.action_space)
    env = lottery(AutoresetMode.SAME_STEP, 4)
    assert evaluate_ways(policy, env, EnvConfig(), 8, 5, stop, progress=False) == {}


@pytest.mark.parametrize("episodes", [0, -1, 1.5, float("nan"), True, "3"])
def test_a_number_of_episodes_that_cannot_be_is_refused(episodes: Any) -> None:
    two = gym.spaces.Discrete(2)
    policy = Policy(ActorCritic(two, two, AgentConfig("none", encoder_size=4)))
    with pytest.raises(UserError, match=r"^episodes is .*; it must be (at least 1|a whole number)"):
        evaluate(policy, "CartPole-v1", episodes)
