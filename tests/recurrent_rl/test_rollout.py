"""What the collector stores: resets, ends, both autoreset modes, memory across calls."""

import copy
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torch.testing import assert_close

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.policy import Policy
from recurrent_rl.collector import Collector
from recurrent_rl.config import TrainConfig
from recurrent_rl.errors import UserError
from recurrent_rl.ppo import ppo_loss

LENGTHS = (3, 5, 4)


class Counter(gym.Env[Any, Any]):
    """Observes (index, episode, step); episodes of a fixed length, every second one truncated."""

    action_space = gym.spaces.Discrete(2)
    observation_space = gym.spaces.Box(-1e6, 1e6, (3,), np.float32)

    def __init__(self, index: int) -> None:
        self.index = index
        self.episode = -1
        self.t = 0

    def _observation(self) -> np.ndarray[Any, Any]:
        return np.array([self.index, self.episode, self.t], dtype=np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray[Any, Any], dict[str, Any]]:
        super().reset(seed=seed)
        self.episode += 1
        self.t = 0
        return self._observation(), {}

    def step(self, action: int) -> tuple[np.ndarray[Any, Any], float, bool, bool, dict[str, Any]]:
        self.t += 1
        end = self.t == LENGTHS[self.index]
        by_time = end and self.episode % 2 == 1
        reward = self.index + 0.1 * self.t
        return self._observation(), reward, end and not by_time, by_time, {"is_success": by_time}


def make_env(mode: AutoresetMode) -> SyncVectorEnv:
    return SyncVectorEnv([partial(Counter, i) for i in range(3)], autoreset_mode=mode)


def make_agent(memory: str = "lstm", **kwargs: Any) -> ActorCritic:
    torch.manual_seed(0)
    kwargs = {"previous_action": False, "normalize_observations": False, **kwargs}
    config = AgentConfig(memory=memory, hidden_size=8, encoder_size=8, **kwargs)
    return with_opinions(ActorCritic(Counter.observation_space, Counter.action_space, config))


def with_opinions(agent: ActorCritic) -> ActorCritic:
    """An untrained critic says zero whatever it sees; this one does not."""
    torch.nn.init.normal_(agent.critic.weight)
    return agent


def make_collector(mode: AutoresetMode, num_steps: int = 12, chunk: int = 4) -> Collector:
    return Collector(make_env(mode), make_agent(), num_steps, chunk, seed=0)


def test_episode_start_belongs_to_the_first_observation_of_an_episode() -> None:
    rollout = make_collector(AutoresetMode.SAME_STEP).collect(0)
    step_in_episode = rollout.components[""][..., 2]
    assert torch.equal(rollout.episode_start, step_in_episode == 0)
    assert rollout.valid.all()


def test_the_row_after_the_last_is_the_first_of_the_next_rollout() -> None:
    collector = make_collector(AutoresetMode.SAME_STEP)
    first = collector.collect(0)
    carried = {name: x.clone() for name, x in collector.next_row().items()}
    state = first.chunk_states[-1]
    second = collector.collect(0)
    for name, x in second.inputs(0).items():
        assert torch.equal(x, carried[name])
    assert all(torch.equal(a, b) for a, b in zip(second.chunk_states[0], state, strict=True))


class Overwriting(gym.vector.VectorWrapper):
    """Returns the same arrays at each step, with other numbers in them."""

    def step(self, actions: Any) -> Any:
        *results, infos = super().step(actions)
        if not hasattr(self, "results"):
            self.results = results
        for own, given in zip(self.results, results, strict=True):
            own[:] = given
        return *self.results, infos


class Foreign(gym.vector.VectorWrapper):
    """Shows observations as flipped images are, with negative strides; in the other byte order."""

    def step(self, actions: Any) -> Any:
        observation, *rest = super().step(actions)
        backwards = observation[:, ::-1].astype(observation.dtype.newbyteorder())
        return backwards[:, ::-1], *rest


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
@pytest.mark.parametrize("kind", [Overwriting, Foreign])
def test_a_vector_environment_may_give_the_same_arrays_again_and_views_in_any_byte_order(
    kind: type[gym.vector.VectorWrapper], mode: AutoresetMode
) -> None:
    expected = make_collector(mode).collect(0)
    rollout = Collector(kind(make_env(mode)), make_agent(), 12, 4, seed=0).collect(0)
    assert expected.truncated.any()
    assert expected.terminated.any()
    for name, x in vars(expected).items():
        if isinstance(x, torch.Tensor):
            assert torch.equal(getattr(rollout, name), x), name


def test_the_next_step_mode_marks_inserted_rows_and_nothing_else() -> None:
    collector = make_collector(AutoresetMode.NEXT_STEP)
    for _ in range(3):
        rollout = collector.collect(0)
        environments = torch.arange(3)
        at_end = rollout.components[""][..., 2] == torch.tensor(LENGTHS)[environments]
        # A row that shows an episode's last observation is the one in which the reset happens.
        assert torch.equal(~rollout.valid, at_end)
        assert torch.equal(rollout.episode_start, rollout.components[""][..., 2] == 0)
        assert (rollout.rewards[~rollout.valid[:-1]] == 0).all()


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
@pytest.mark.parametrize("fed_back", [False, True])
def test_values_bootstrap_from_the_final_observation_with_the_state_before_the_reset(
    fed_back: bool, mode: AutoresetMode
) -> None:
    agent = make_agent(previous_action=fed_back, previous_reward=fed_back)
    collector = Collector(make_env(mode), agent, 12, 4, seed=0)
    seen = 0
    for _ in range(4):
        rollout = collector.collect(0)
        # Play every column again, step by step, and value what followed each truncation afresh.
        state = rollout.chunk_states[0]
        for t in range(rollout.num_steps):
            components, start, _ = rollout.row(t)
            output, state = agent.step(components, state, start)
            assert_close(output.value.float(), rollout.values[t], rtol=1e-5, atol=1e-6)
            for b in torch.nonzero(rollout.truncated[t])[:, 0].tolist():
                index, episode, _ = components[""][b].tolist()
                final = {"": torch.tensor([[index, episode, LENGTHS[b]]], dtype=torch.float32)}
                last = rollout.actions[t, b : b + 1], rollout.rewards[t, b : b + 1]
                own = type(state)(*(x[:, b : b + 1] for x in state))
                value = agent.step(agent.with_previous(final, *last), own)[0].value
                assert_close(value[0].float(), rollout.next_values[t, b], rtol=1e-5, atol=1e-6)
                seen += 1
        # Everywhere else the next row follows, behind the last step that of the next rollout.
        components, start, _ = rollout.row(rollout.num_steps)
        following = [*rollout.values[1:-1], agent.step(components, state, start)[0].value]
        others = ~rollout.truncated
        assert_close(rollout.next_values[others], torch.stack(following)[others])
    assert seen > 4


def test_both_autoreset_modes_store_the_same_episodes() -> None:
    episodes: list[dict[tuple[int, int], list[float]]] = []
    for mode in (AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP):
        collector = make_collector(mode)
        found: dict[tuple[int, int], list[float]] = {}
        for _ in range(4):
            rollout = collector.collect(0)
            for t in range(rollout.num_steps):
                for b in range(3):
                    if rollout.valid[t, b]:
                        index, episode, _ = rollout.components[""][t, b].tolist()
                        rewards = found.setdefault((int(index), int(episode)), [])
                        rewards.append(float(rollout.rewards[t, b]))
        episodes.append(found)
    shared = [key for key in episodes[1] if len(episodes[1][key]) == LENGTHS[key[0]]]
    assert len(shared) > 10
    for key in shared:
        assert episodes[0][key] == episodes[1][key]


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
def test_episode_statistics_count_each_step_once(mode: AutoresetMode) -> None:
    collector = make_collector(mode)
    for _ in range(5):
        collector.collect(0)
    ends: list[list[int]] = [[], [], []]
    for one in collector.episodes.ended:
        index = one.environment
        assert one.length == LENGTHS[index]
        assert one.total == pytest.approx(sum(index + 0.1 * (t + 1) for t in range(one.length)))
        ends[index].append(one.step)
    inserted = mode is AutoresetMode.NEXT_STEP
    for length, steps in zip(LENGTHS, ends, strict=True):
        assert steps == list(range(length, 61, length + inserted))
    assert 0.3 < collector.episodes.latest().means()["rollout/success_rate"] < 0.7


def test_chunks_keep_their_steps_together_and_start_from_their_own_state() -> None:
    collector = make_collector(AutoresetMode.SAME_STEP, num_steps=12, chunk=4)
    rollout = collector.collect(0)
    zeros = torch.zeros(12, 3)
    data = rollout.sequences(zeros, zeros)
    assert data.episode_start.shape == (4, 9)
    for k in range(3):
        for b in range(3):
            column = k * 3 + b
            rows = slice(4 * k, 4 * k + 4)
            assert torch.equal(data.components[""][:, column], rollout.components[""][rows, b])
            for field, stored in zip(data.state, rollout.chunk_states[k], strict=True):
                assert torch.equal(field[:, column], stored[:, b])
    output, end_state = collector.agent.unroll(data.components, data.state, data.episode_start)
    assert_close(output.value.float(), data.values, rtol=1e-5, atol=1e-6)
    for new, stored in zip(end_state, data.end_state, strict=True):
        assert_close(new, stored)


def test_previous_action_and_reward_are_those_of_the_step_before() -> None:
    agent = make_agent(previous_action=True, previous_reward=True)
    collector = Collector(make_env(AutoresetMode.SAME_STEP), agent, 12, 12, seed=0)
    collector.collect(0)
    rollout = collector.collect(0)
    assert torch.equal(rollout.components["previous_action"][1:], rollout.actions)
    assert torch.equal(rollout.components["previous_reward"][1:, :, 0], rollout.rewards)


class Masked(Counter):
    """Allows one action; tells of no mask at an episode's first step: there both are allowed."""

    def step(self, action: int) -> tuple[np.ndarray[Any, Any], float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, _ = super().step(action)
        mask = np.arange(2) == (self.index + self.episode + self.t) % 2
        return observation, reward, terminated, truncated, {"action_mask": mask}


class Forgetful(SyncVectorEnv):
    """At every fifth step none of its environments tells of a mask."""

    steps = 0

    def step(self, actions: Any) -> Any:
        *result, infos = super().step(actions)
        self.steps += 1
        if self.steps % 5 == 0:
            infos.pop("action_mask", None)
        return *result, infos


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
def test_a_mask_is_of_the_row_whose_action_it_limits_in_rollout_and_update(
    mode: AutoresetMode,
) -> None:
    env = Forgetful([partial(Masked, i) for i in range(3)], autoreset_mode=mode)
    collector = Collector(env, make_agent(), 12, 4, seed=0)
    for iteration in range(4):
        rollout = collector.collect(0)
        index, episode, t = rollout.components[""].unbind(-1)
        untold = (12 * iteration + torch.arange(13)) % 5 == 0
        free = (t == 0) | ~rollout.valid | untold.unsqueeze(-1)
        allowed = (index + episode + t) % 2
        wanted = (torch.arange(2) == allowed.unsqueeze(-1)) | free.unsqueeze(-1)
        assert rollout.action_mask is not None
        assert torch.equal(rollout.action_mask, wanted)
        forced = ~free[:-1]
        assert 0 < forced.sum() < forced.numel()
        assert torch.equal(rollout.actions[forced], allowed[:-1][forced].long())
        assert (rollout.log_probs[forced] == 0).all()
        assert (rollout.log_probs[~forced] < 0).all()
        data = rollout.sequences(rollout.rewards, rollout.rewards)
        loss, _ = ppo_loss(collector.agent, data, TrainConfig("Masked-v0"))
        assert float(loss.ratio_error) < 1e-5


class Repeating(SyncVectorEnv):
    """In the step that only resets, tells a reward."""

    ended: Any = False

    def step(self, actions: Any) -> Any:
        observation, reward, terminated, truncated, infos = super().step(actions)
        reward = np.where(self.ended, 7.0, reward)
        self.ended = terminated | truncated
        return observation, reward, terminated, truncated, infos


def test_a_reward_of_a_step_that_only_resets_does_not_count() -> None:
    rollouts = []
    for kind in (SyncVectorEnv, Repeating):
        env = kind([partial(Counter, i) for i in range(3)], autoreset_mode=AutoresetMode.NEXT_STEP)
        collector = Collector(env, make_agent(), 40, 40, seed=0)
        rollouts.append(collector.collect(0))
        assert not rollouts[-1].valid.all()
    plain, repeated = map(vars, rollouts)
    for name in ("rewards", "terminated", "truncated", "valid", "episode_start", "next_values"):
        assert torch.equal(plain[name], repeated[name])


class Faulty(Counter):
    """Goes wrong at its seventh step."""

    fault: Any = None

    def step(self, action: int) -> tuple[np.ndarray[Any, Any], float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = super().step(action)
        if self.index == 1 and self.episode == 1 and self.t == 2:
            observation, reward = self.fault(observation, reward)
        return observation, reward, terminated, truncated, info


def test_an_observation_with_nan_is_refused_by_environment_and_step() -> None:
    Faulty.fault = staticmethod(lambda o, r: (o * np.float32("nan"), r))
    env = SyncVectorEnv(
        [partial(Faulty, i) for i in range(3)], autoreset_mode=AutoresetMode.SAME_STEP
    )
    collector = Collector(env, make_agent(), 12, 12, seed=0)
    with pytest.raises(UserError, match=r"at step 7: .* of environment 1 holds NaN or infinity"):
        collector.collect(0)


def test_a_reward_that_is_nan_is_refused_by_environment_and_step() -> None:
    Faulty.fault = staticmethod(lambda o, r: (o, float("nan")))
    env = SyncVectorEnv(
        [partial(Faulty, i) for i in range(3)], autoreset_mode=AutoresetMode.SAME_STEP
    )
    collector = Collector(env, make_agent(), 12, 12, seed=0)
    with pytest.raises(UserError, match=r"at step 7: reward nan in environment 1"):
        collector.collect(0)


class Opponent(Counter):
    """Has a policy of its own, which it changes at each step: by a gradient, or all at once."""

    def __init__(self, memory: str, trains: bool) -> None:
        super().__init__(2)
        space = gym.spaces.Box(-1, 1, (2,), np.float32)
        agent = ActorCritic(space, space, AgentConfig(memory, hidden_size=16, encoder_size=8))
        torch.nn.init.normal_(agent.head.linear.weight)
        self.policy = Policy(agent)
        self.trains = trains
        self.found: list[bool] = []

    def step(self, action: int) -> tuple[np.ndarray[Any, Any], float, bool, bool, dict[str, Any]]:
        observation, state = np.ones(2, np.float32), None
        for weights in self.policy.agent.memories()[0].parameters():
            change = 0.5 * weights.detach()
            if self.trains:
                (change,) = torch.autograd.grad(0.25 * weights.square().sum(), weights)
            with torch.no_grad():
                weights.sub_(change)
        acted, _ = self.policy.predict(observation, state, deterministic=True)
        fresh, _ = copy.deepcopy(self.policy).predict(observation, state, deterministic=True)
        self.found.append(np.allclose(acted, fresh, atol=1e-5))
        return super().step(action)


@pytest.mark.parametrize("trains", [False, True])
@pytest.mark.parametrize("memory", ["gru", "lstm", "gru-rotor", "gru-matrix"])
def test_an_environment_may_act_by_weights_that_it_changes(memory: str, trains: bool) -> None:
    env = Opponent(memory, trains)
    vector_env = SyncVectorEnv([lambda: env], autoreset_mode=AutoresetMode.SAME_STEP)
    Collector(vector_env, make_agent(memory), 6, 6, seed=0).collect()
    assert env.found == 6 * [True]


def test_the_disabled_autoreset_mode_is_refused_with_the_fix() -> None:
    with pytest.raises(UserError, match=r"autoreset_mode=AutoresetMode\.SAME_STEP"):
        make_collector(AutoresetMode.DISABLED)


class Nested(Counter):
    """The same episodes, observed as a Dict with a Tuple inside."""

    observation_space = gym.spaces.Dict(  # type: ignore[assignment]
        {
            "z": gym.spaces.Tuple((Counter.observation_space, gym.spaces.Discrete(3))),
            "a": gym.spaces.MultiBinary(1),
        }
    )

    def _observation(self) -> Any:
        vector = super()._observation()
        return {"z": (vector, self.index), "a": np.array([self.t % 2], np.int8)}


def test_final_observations_of_nested_spaces_are_valued_too() -> None:
    env = SyncVectorEnv(
        [partial(Nested, i) for i in range(3)], autoreset_mode=AutoresetMode.SAME_STEP
    )
    torch.manual_seed(0)
    config = AgentConfig(
        "gru",
        hidden_size=8,
        encoder_size=8,
        previous_action=False,
        normalize_observations=False,
    )
    agent = with_opinions(ActorCritic(Nested.observation_space, Nested.action_space, config))
    collector = Collector(env, agent, 12, 12, seed=0)
    seen = 0
    for _ in range(2):
        rollout = collector.collect(0)
        state = rollout.chunk_states[0]
        for t in range(rollout.num_steps):
            components, start, _ = rollout.row(t)
            _, state = agent.step(components, state, start)
            for b in torch.nonzero(rollout.truncated[t])[:, 0].tolist():
                index, episode, _ = components["z/0"][b].tolist()
                final = {
                    "z/0": torch.tensor([[index, episode, LENGTHS[b]]]),
                    "z/1": torch.tensor([b]),
                    "a": torch.tensor([[LENGTHS[b] % 2]], dtype=torch.uint8),
                }
                own = type(state)(*(x[:, b : b + 1] for x in state))
                value = agent.step(final, own, torch.tensor([False]))[0].value
                assert_close(value[0], rollout.next_values[t, b], rtol=1e-5, atol=1e-6)
                seen += 1
    assert seen > 1
