"""Behaviour cloning: what is learnt from recorded episodes, and which are refused."""

from __future__ import annotations

import copy
import dataclasses
import math
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import recurrent_rl
from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.files import NonFiniteError
from recurrent_rl.agents.heads import make_head
from recurrent_rl.agents.memory.registry import MEMORIES
from recurrent_rl.agents.policy import Policy
from recurrent_rl.errors import UserError
from recurrent_rl.runs.imitation import imitate
from recurrent_rl.runs.recorded import RecordedEpisode, side_by_side

DISCRETE = gym.spaces.Discrete(3)
SPACES = [
    gym.spaces.Discrete(4, start=2),
    gym.spaces.MultiDiscrete([3, 2], start=[1, 0]),
    gym.spaces.MultiDiscrete(np.array([[2, 3], [4, 2]])),
    gym.spaces.MultiBinary([2, 3]),
    gym.spaces.Box(-2.0, 4.0, (3,), np.float64),
    gym.spaces.Box(-np.inf, np.inf, (2, 2), np.float32),
]


def policy_of(
    observations: gym.Space[Any] = DISCRETE, actions: gym.Space[Any] = DISCRETE, **agent: Any
) -> Policy:
    torch.manual_seed(0)
    settings = {"hidden_size": 16, "encoder_size": 16} | agent
    return Policy(ActorCritic(observations, actions, AgentConfig(**settings)))


def delayed(episodes: int, steps: int = 12, seed: int = 0) -> list[RecordedEpisode]:
    """Each action is the observation two steps before; the first two are 0."""
    draw = np.random.default_rng(seed)
    recorded = []
    for i in range(episodes):
        seen = draw.integers(3, size=steps + i % 4)
        actions = np.concatenate([[0, 0], seen[:-2]])
        recorded.append(RecordedEpisode(seen, actions, np.ones(len(seen))))
    return recorded


@pytest.mark.parametrize("memory", ["lstm", "gru-rotor", "gru-matrix"])
def test_a_policy_learns_to_do_what_takes_memory(memory: str) -> None:
    policy = policy_of(memory=memory)
    found = imitate(policy, delayed(32), epochs=120, learning_rate=1e-2, progress=False)
    assert found.agreement[0] < 0.6
    assert found.agreement[-1] > 0.98
    assert found.log_likelihood[-1] > -0.1
    same = []
    for new in delayed(8, seed=9):
        actor = policy.actor()
        same += [
            actor.act(x) == action for x, action in zip(new.observations, new.actions, strict=True)
        ]
    assert np.mean(same) > 0.7  # a third by chance


def test_without_memory_it_cannot() -> None:
    policy = policy_of(memory="none")
    policy.summary["command"] = "recurrent-rl train"
    found = imitate(policy, delayed(32), epochs=60, progress=False)
    assert found.agreement[-1] < 0.7
    assert "command" not in policy.summary  # which would not make this policy


def test_the_critic_learns_the_returns() -> None:
    policy = policy_of(memory="lstm")
    episodes = [RecordedEpisode([0, 1, 2], [0, 1, 2], [0.0, 0.0, 10.0 * k]) for k in (1, 1, 1)]
    imitate(policy, episodes, epochs=200, learning_rate=1e-2, gamma=0.5, progress=False)
    agent = policy.agent
    batch = side_by_side(agent, episodes[:1], gamma=0.5)
    output, _ = agent.unroll(batch.components, agent.initial_state(1), batch.episode_start)
    assert output.value.flatten().tolist() == pytest.approx([2.5, 5.0, 10.0], rel=0.1)


def test_episodes_stand_whole_in_columns_with_their_starts() -> None:
    policy = policy_of(previous_reward=True)
    lengths = (5, 2, 3, 4, 1)
    episodes = [
        RecordedEpisode(np.arange(n) % 3, np.full(n, k % 3), np.arange(n) + 10.0 * k)
        for k, n in enumerate(lengths)
    ]
    batch = side_by_side(policy.agent, episodes, gamma=0.0)
    assert batch.valid.shape == (5, 3)
    assert int(batch.valid.sum()) == sum(lengths)
    assert int(batch.episode_start.sum()) == len(lengths)
    assert batch.returns is not None
    starts = batch.episode_start.nonzero().tolist()
    for t, column in starts:
        k = int(batch.returns[t, column] // 10)
        rows = slice(t, t + lengths[k])
        assert batch.returns[rows, column].tolist() == (np.arange(lengths[k]) + 10.0 * k).tolist()
        assert batch.components[""][rows, column].tolist() == (np.arange(lengths[k]) % 3).tolist()
        assert set(batch.actions[rows, column].tolist()) == {k % 3}
        previous = batch.components["previous_reward"][rows, column, 0].tolist()
        assert previous == [0.0, *(10.0 * k + i for i in range(lengths[k] - 1))]


def test_what_fills_a_column_up_teaches_nothing() -> None:
    short, long = delayed(1, steps=4)[0], delayed(1, steps=12)[0]
    with_room, alone = policy_of(memory="gru"), policy_of(memory="gru")
    padded = imitate(with_room, [long, short], epochs=1, num_minibatches=1, progress=False)
    batch = side_by_side(alone.agent, [long, short], 0.99)
    assert not batch.valid.all()
    output, _ = alone.agent.unroll(
        batch.components, alone.agent.initial_state(2), batch.episode_start
    )
    own = output.distribution.log_prob(batch.actions)[batch.valid].mean()
    assert padded.log_likelihood[0] == pytest.approx(float(own.detach()), abs=1e-5)


def test_an_epoch_is_a_step_of_adam_along_the_clipped_gradient_of_all_recorded_steps() -> None:
    draw, lengths = np.random.default_rng(0), (5, 9, 23)
    episodes = [
        RecordedEpisode(draw.integers(3, size=n), draw.integers(3, size=n), draw.normal(size=n))
        for n in lengths
    ]
    policy = policy_of(memory="gru")
    agent = copy.deepcopy(policy.agent)
    settings: dict[str, Any] = {"num_minibatches": 1, "learning_rate": 0.01, "vf_coef": 3.0}
    imitate(policy, episodes, epochs=4, gamma=0.9, progress=False, **settings)
    # The same by hand, each episode alone; Kingma & Ba (2015), algorithm 1.
    alone = [side_by_side(agent, [one], 0.9) for one in episodes]
    returns = torch.cat([one.returns for one in alone if one.returns is not None])
    mean, std = returns.mean(), returns.std(correction=0)
    agent.return_normaliser.mean.copy_(mean)
    agent.return_normaliser.std.copy_(std)
    parameters = list(agent.parameters())
    first, second = ([torch.zeros_like(w) for w in parameters] for _ in range(2))
    norms = []
    for epoch in range(4):
        loss = torch.zeros(())
        for one in alone:
            assert one.returns is not None
            output, _ = agent.unroll(one.components, agent.initial_state(1), one.episode_start)
            errors = (output.value - one.returns) / std
            terms = 3.0 * 0.5 * errors**2 - output.distribution.log_prob(one.actions)
            loss = loss + terms.sum() / sum(lengths)
        gradient = torch.autograd.grad(loss, parameters)
        norms.append(math.sqrt(sum(float(g.square().sum()) for g in gradient)))
        for w, m, v, g in zip(parameters, first, second, gradient, strict=True):
            g = g * min(1.0, 0.5 / norms[-1])
            m.lerp_(g, 0.1)
            v.lerp_(g.square(), 0.001)
            m_hat, v_hat = m / (1 - 0.9 ** (epoch + 1)), v / (1 - 0.999 ** (epoch + 1))
            with torch.no_grad():
                w.sub_(0.01 * (1 - epoch / 4) * m_hat / (v_hat.sqrt() + 1e-5))
    assert min(norms) < 0.5 < max(norms)  # one is not clipped
    for x, y in zip(policy.agent.parameters(), parameters, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-3, atol=1e-4)


def test_a_gradient_that_overflows_is_refused() -> None:
    with pytest.raises(NonFiniteError, match="gradient's norm became inf"):
        imitate(policy_of(), delayed(2), epochs=1, vf_coef=1e30, progress=False)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_actions_of_an_environment_become_tensors_and_back(space: gym.Space[Any]) -> None:
    space.seed(3)
    head = make_head(space, 4)
    actions = np.stack([space.sample() for _ in range(7)])
    tensors = head.from_env(actions)
    assert tensors.dtype == head.action_dtype
    assert tensors.shape == (7, *head.action_shape)
    np.testing.assert_allclose(head.to_env(tensors), actions, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_every_kind_of_action_is_imitated(space: gym.Space[Any]) -> None:
    space.seed(3)
    episodes = [RecordedEpisode(np.zeros(4, int), np.stack([space.sample()] * 4)) for _ in range(3)]
    policy = policy_of(DISCRETE, space, memory="gru")
    found = imitate(policy, episodes, epochs=60, learning_rate=1e-2, progress=False)
    assert found.log_likelihood[-1] > found.log_likelihood[0]


def test_observations_come_as_lists_stacked_or_with_the_last_one() -> None:
    space = gym.spaces.Dict(
        {"a": gym.spaces.Box(-1, 1, (2,)), "b": gym.spaces.Tuple([DISCRETE, DISCRETE])}
    )
    space.seed(1)
    listed = [space.sample() for _ in range(5)]
    stacked = {
        "a": np.stack([one["a"] for one in listed]),
        "b": tuple(np.array([one["b"][i] for one in listed]) for i in (0, 1)),
    }
    actions = [0, 1, 2, 0]
    found = [
        imitate(policy_of(space), [RecordedEpisode(seen, actions)], epochs=2, progress=False)
        for seen in (listed, listed[:4], stacked)
    ]
    assert found[0] == found[1] == found[2]


def test_a_minari_dataset_is_read() -> None:
    @dataclasses.dataclass
    class EpisodeData:
        observations: Any
        actions: Any
        rewards: Any

    class Dataset:
        def iterate_episodes(self) -> Any:
            for one in delayed(4):
                seen = np.append(one.observations, 0)  # Minari keeps the last observation
                yield EpisodeData(seen, one.actions, one.rewards)

    ours = imitate(policy_of(), delayed(4), epochs=3, progress=False)
    theirs = imitate(policy_of(), Dataset(), epochs=3, progress=False)
    assert ours == theirs


def test_masks_forbid_what_was_forbidden() -> None:
    masks = np.array([[True, False, True]] * 4)
    episode = RecordedEpisode([0, 1, 2, 0], [0, 2, 0, 2], action_masks=masks)
    free = dataclasses.replace(episode, action_masks=None)
    masked, unmasked = (
        imitate(policy_of(), [one], epochs=1, progress=False) for one in (episode, free)
    )
    assert masked.log_likelihood[0] == pytest.approx(np.log(1 / 2), abs=0.05)
    assert unmasked.log_likelihood[0] == pytest.approx(np.log(1 / 3), abs=0.05)


@pytest.mark.parametrize("memory", MEMORIES)
def test_every_memory_imitates_and_the_same_seed_gives_the_same(memory: str) -> None:
    first, second = (
        imitate(policy_of(memory=memory), delayed(3), epochs=3, progress=False) for _ in range(2)
    )
    assert first == second
    assert first.log_likelihood[-1] > first.log_likelihood[0]


@pytest.mark.parametrize(
    ("episodes", "what"),
    [
        ([], "no episode to imitate"),
        (3, "episodes is 3; give a list of RecordedEpisode"),
        ("text", "give a list of RecordedEpisode"),
        (RecordedEpisode([0] * 99, [0] * 99), r"episodes is RecordedEp.{87}\.\.\.; give a list"),
        ([3], "Episode 0 is a int"),
        ([RecordedEpisode([0], [])], "Episode 0 cannot be imitated: it has no action"),
        ([RecordedEpisode([0, 0], [0, 0.7])], r"action 1 is .*0\.7.*, which is not in Discrete"),
        ([RecordedEpisode([0], [np.nan])], "action 0 is .*nan.*, which is not in Discrete"),
        ([RecordedEpisode([0], [None])], "its actions must be numbers; the first is None"),
        ([RecordedEpisode([0], 1)], "its actions are 1; give one for each step"),
        ([RecordedEpisode(None, [0])], "its observations are None; give one for each step"),
        ([RecordedEpisode([0], [0], "x")], "its rewards must be 1 finite numbers"),
        (torch.tensor(1), "episodes is .*; give a list of RecordedEpisode"),
        ([RecordedEpisode([0], [3])], "action 0 is .*3.*, which is not in Discrete"),
        ([RecordedEpisode([0, 1, 2], [0])], "it has 3 observations and 1 actions"),
        ([RecordedEpisode([0, 7], [0, 1])], "Episode 0 cannot be imitated: .*7"),
        ([RecordedEpisode([0, 1], [0, 1], [1.0])], "rewards must be 2 finite numbers"),
        ([RecordedEpisode([0], [1], [float("nan")])], "rewards must be 1 finite numbers"),
        ([RecordedEpisode([0], [1], action_masks=[[1, 1]])], "Episode 0 cannot be imitated"),
        (
            [RecordedEpisode([0, 0], [2, 1], action_masks=[[1, 0, 1]] * 2)],
            "action 1 is .*1.*, which its action mask forbids",
        ),
        ([RecordedEpisode([0], [[1]])], r"actions have the shape \(1, 1\)"),
    ],
)
def test_what_cannot_be_imitated_is_told_by_episode(episodes: Any, what: str) -> None:
    policy = policy_of()
    before = {name: x.clone() for name, x in policy.agent.state_dict().items()}
    with pytest.raises(UserError, match=what):
        imitate(policy, episodes, progress=False)
    for name, x in policy.agent.state_dict().items():
        assert torch.equal(x, before[name])


def test_an_agent_that_reads_rewards_needs_them() -> None:
    with pytest.raises(UserError, match="reads the previous reward: give its rewards"):
        imitate(policy_of(previous_reward=True), [RecordedEpisode([0], [1])], progress=False)


@pytest.mark.parametrize(
    "option",
    [{"epochs": 0}, {"learning_rate": -1.0}, {"num_minibatches": 0}, {"gamma": 2.0}, {"seed": -1}],
)
def test_options_that_cannot_be_are_refused(option: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=next(iter(option))):
        recurrent_rl.imitate(policy_of(), delayed(1), progress=False, **option)


@pytest.mark.slow  # imports jax
@pytest.mark.filterwarnings("default")  # Minari's own, of what a dataset's card could tell
def test_a_dataset_that_minari_has_recorded_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Needs Minari with its extras `hdf5` and `create`."""
    for needed in ("h5py", "jax"):
        pytest.importorskip(needed)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    minari = pytest.importorskip("minari")
    env = minari.DataCollector(gym.make("recurrent_rl.envs:recurrent_rl/RepeatPrevious-Easy-v0"))
    ours = []
    for seed in range(2):
        seen, actions, rewards, done = [env.reset(seed=seed)[0]], [], [], False
        while not done:
            actions.append(seen[-1])
            observation, reward, terminated, truncated, _ = env.step(actions[-1])
            seen.append(observation)
            rewards.append(reward)
            done = terminated or truncated
        ours.append(RecordedEpisode(np.array(seen), np.array(actions), np.array(rewards)))
    env.create_dataset("mine/recall-v0", algorithm_name="what is seen", author="", author_email="")
    theirs = minari.load_dataset("mine/recall-v0")
    spaces = (env.observation_space, env.action_space)
    found = [imitate(policy_of(*spaces), one, epochs=2, progress=False) for one in (ours, theirs)]
    assert found[0] == found[1]
    assert found[0].agreement[-1] > 0.2
