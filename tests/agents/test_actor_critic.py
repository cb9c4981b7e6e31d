"""The actor-critic: one function for steps and sequences, and nothing shared that should not be."""

import dataclasses
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch.testing import assert_close

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.kernels.safeguards import MemoryInputError
from recurrent_rl.agents.memory.registry import MEMORIES
from recurrent_rl.agents.memory.states import PairState, tensors_of
from recurrent_rl.agents.normalisers import SETTLED
from recurrent_rl.agents.spaces import UnsupportedSpaceError

T, B = 9, 3
OBSERVATION = spaces.Dict({"a": spaces.Discrete(3), "v": spaces.Box(-1, 1, (2,))})
ACTION = spaces.Discrete(4)


def make(**config: Any) -> ActorCritic:
    torch.manual_seed(0)
    settings = {"memory": "lstm", "hidden_size": 6, "encoder_size": 5, **config}
    agent = ActorCritic(OBSERVATION, ACTION, AgentConfig(**settings))
    torch.nn.init.normal_(agent.critic.weight)  # an untrained critic says zero whatever it sees
    return agent


def test_an_untrained_critic_expects_nothing() -> None:
    agent = ActorCritic(OBSERVATION, ACTION, AgentConfig())
    components, start = inputs(agent)
    assert (agent.unroll(components, agent.initial_state(B), start)[0].value == 0).all()


def inputs(agent: ActorCritic) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    components = {
        "a": torch.randint(3, (T, B), generator=generator),
        "v": torch.randn(T, B, 2, generator=generator),
    }
    action = torch.randint(4, (T, B), generator=generator)
    reward = torch.randn(T, B, generator=generator)
    return (
        agent.with_previous(components, action, reward),
        torch.rand(T, B, generator=generator) < 0.25,
    )


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("memory", list(MEMORIES))
def test_unroll_equals_repeated_step(memory: str, separate: bool) -> None:
    agent = make(
        memory=memory,
        num_layers=2,
        separate_memory=separate,
        previous_action=True,
        previous_reward=True,
    )
    components, start = inputs(agent)
    state = agent.initial_state(B)
    output, end = agent.unroll(components, state, start)
    assert output.value.shape == (T, B)
    for t in range(T):
        step, state = agent.step({path: x[t] for path, x in components.items()}, state, start[t])
        assert_close(step.value, output.value[t])
        action = torch.full((B,), 2)
        assert_close(
            step.distribution.log_prob(action),
            output.distribution.log_prob(action.expand(T, B))[t],
        )
    for a, b in zip(state, end, strict=True):
        assert_close(a, b)


def test_with_a_memory_each_neither_touches_the_others_weights() -> None:
    agent = make(separate_memory=True)
    components, start = inputs(agent)
    output, state = agent.unroll(components, agent.initial_state(B), start)
    assert isinstance(state, PairState)
    assert all(field.shape == (1, B, 6) for field in tensors_of(state))
    actor, critic = (list(trunk.parameters()) for trunk in agent.trunks)
    of_value = torch.autograd.grad(output.value.sum(), [*actor, *critic], allow_unused=True)
    assert all(g is None for g in of_value[: len(actor)])
    assert any(g is not None and (g != 0).any() for g in of_value[len(actor) :])
    entropy = output.distribution.entropy().sum()
    of_policy = torch.autograd.grad(entropy, [*actor, *critic], allow_unused=True)
    assert all(g is None for g in of_policy[len(actor) :])


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize(
    "critic", [{}, {"separate_memory": True}, {"separate_memory": True, "critic_memory": False}]
)
def test_layers_stand_between_the_memory_and_what_reads_it(
    critic: dict[str, Any], activation: str
) -> None:
    agent = make(
        actor_layers=(7, 3),
        critic_layers=(5,),
        layers_activation=activation,
        one_hot=True,
        **critic,
    )
    agent.return_normaliser.mean.fill_(2.0)
    agent.return_normaliser.std.fill_(3.0)
    components, start = inputs(agent)
    state = agent.initial_state(B)
    output, end = agent.unroll(components, state, start)

    act = getattr(torch, activation)

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        weight, bias = (agent.get_parameter(f"{name}.{kind}") for kind in ("weight", "bias"))
        return x @ weight.T + bias

    remembered = [
        memory.unroll(x, part, start)[0]
        for memory, x, part in zip(
            agent.memories(), agent.encode(components, start), agent.split_state(state), strict=True
        )
    ]
    actor, value = remembered[0], remembered[-1]
    for name in ("actor_layers.0", "actor_layers.2"):
        actor = act(linear(actor, name))
    value = act(linear(value, "critic_layers.0"))
    logits = linear(actor, "head.linear")
    assert_close(
        output.distribution.entropy(), torch.distributions.Categorical(None, logits).entropy()
    )
    assert_close(output.value, 2 + 3 * linear(value, "critic").squeeze(-1))

    for t in range(T):
        step, state = agent.step({path: x[t] for path, x in components.items()}, state, start[t])
        assert_close(step.value, output.value[t])
        assert_close(step.distribution.mode(), output.distribution.mode()[t])
    assert_close(tensors_of(state), tensors_of(end))


def test_a_critic_without_memory_knows_the_present_alone() -> None:
    agent = make(separate_memory=True, critic_memory=False, previous_action=False)
    components, _ = inputs(agent)
    fresh = agent.initial_state(B)
    _, used = agent.unroll(components, fresh)
    now = {path: x[0] for path, x in components.items()}
    one, other = (agent.step(now, state)[0] for state in (fresh, used))
    assert torch.equal(one.value, other.value)
    assert not torch.equal(one.distribution.entropy(), other.distribution.entropy())


def test_an_agent_that_is_fed_its_reward_asks_for_it() -> None:
    agent = make(previous_reward=True)
    with pytest.raises(MemoryInputError, match="is fed its previous reward: give reward"):
        agent.with_previous({}, torch.zeros(1), None)


def test_what_came_before_an_episode_is_not_fed_to_its_first_step() -> None:
    agent = make(previous_action=True, previous_reward=True)
    components, _ = inputs(agent)
    start = torch.zeros(T, B, dtype=torch.bool)
    start[4, 1] = True
    other = agent.with_previous(
        components,
        (components["previous_action"] + 1) % 4,
        components["previous_reward"].squeeze(-1) + 1,
    )
    state = agent.initial_state(B)
    values = [
        agent.step({path: x[4] for path, x in each.items()}, state, start[4])[0].value
        for each in (components, other)
    ]
    assert values[0][1] == values[1][1]
    assert (values[0][[0, 2]] != values[1][[0, 2]]).all()


@pytest.mark.parametrize(
    ("observation", "action"),
    [(spaces.Text(3), ACTION), (spaces.Graph(spaces.Discrete(2), None), ACTION)],
)
def test_spaces_without_encoder_or_head_are_refused_by_name(
    observation: gym.Space[Any], action: gym.Space[Any]
) -> None:
    with pytest.raises(UnsupportedSpaceError, match=str(observation).split("(")[0]):
        ActorCritic(observation, action, AgentConfig())
    with pytest.raises(UnsupportedSpaceError, match=str(observation).split("(")[0]):
        ActorCritic(spaces.Discrete(2), observation, AgentConfig())


def test_observations_are_normalised_inside() -> None:
    agent = make()
    components, start = inputs(agent)
    far = {**components, "v": 1000 * components["v"] + 5000.0}
    agent.observation_normaliser.update(far, torch.ones(T, B, dtype=torch.bool))
    v = agent.observation_normaliser(far)["v"]
    assert_close(v.mean((0, 1)), torch.zeros(2), atol=1e-4, rtol=0)
    plain = make(normalize_observations=False)
    plain.load_state_dict(agent.state_dict())
    assert_close(
        agent.unroll(far, agent.initial_state(B), start)[0].value,
        plain.unroll({**far, "v": v}, plain.initial_state(B), start)[0].value,
    )


@pytest.mark.parametrize("separate", [False, True])
def test_what_the_normaliser_takes_in_moves_no_action_and_no_value(separate: bool) -> None:
    agent = make(separate_memory=separate, previous_reward=True)
    components, _ = inputs(agent)
    valid, start = torch.ones(T, B, dtype=torch.bool), torch.zeros(T, B, dtype=torch.bool)
    for _ in range(SETTLED):
        agent.take_in(components, valid, start)

    def said() -> tuple[torch.Tensor, ...]:
        output, _ = agent.unroll(components, agent.initial_state(B))
        return output.distribution.log_prob(torch.zeros(T, B, dtype=torch.int64)), output.value

    before, seen = said(), agent.observation_normaliser(components)
    normalised = ("v", "previous_reward")
    agent.take_in(components | {x: 2 * components[x] + 2 for x in normalised}, valid, start)
    for name in normalised:
        change = agent.observation_normaliser(components)[name] - seen[name]
        assert change.abs().max() > 0.1
    assert_close(said(), before)


def test_what_was_before_an_episode_is_not_normalised_with_what_was_in_it() -> None:
    agent, other = (make(previous_reward=True) for _ in range(2))
    components, start = inputs(agent)
    valid = torch.ones(T, B, dtype=torch.bool)
    lost = components["previous_reward"].masked_fill(start.unsqueeze(-1), 100.0)
    agent.take_in(components, valid, start)
    other.take_in(components | {"previous_reward": lost}, valid, start)
    for name, x in agent.state_dict().items():
        assert torch.equal(other.state_dict()[name], x), name
    seen = agent.observation_normaliser(components)
    assert_close(seen["previous_reward"][~start].std(correction=0), torch.tensor(1.0))
    assert_close(seen["v"].std((0, 1), correction=0), torch.ones(2))


def test_what_is_fed_back_is_normalised_as_observations_are() -> None:
    torque = spaces.Box(-2, 2, (2,))
    config = AgentConfig("gru", hidden_size=6, encoder_size=5, previous_reward=True)
    agent = ActorCritic(OBSERVATION, torque, config)
    components, start = inputs(make())
    generator = torch.Generator().manual_seed(2)
    action = 5 + 3 * torch.randn(T, B, 2, generator=generator)
    reward = 100 + 50 * torch.randn(T, B, generator=generator)
    components = agent.with_previous(components, action, reward)
    assert torch.equal(components["previous_action"], action)
    assert torch.equal(components["previous_reward"], reward.unsqueeze(-1))
    nowhere = torch.zeros(T, B, dtype=torch.bool)
    agent.take_in(components, ~nowhere, nowhere)
    seen = agent.observation_normaliser(components)
    for name in ("previous_action", "previous_reward", "v"):
        assert_close(seen[name].mean((0, 1)), torch.zeros(seen[name].shape[-1]), atol=1e-4, rtol=0)
        assert_close(seen[name].std((0, 1), correction=0), torch.ones(seen[name].shape[-1]))
    plain = ActorCritic(
        OBSERVATION, torque, dataclasses.replace(config, normalize_observations=False)
    )
    plain.load_state_dict(agent.state_dict())
    assert torch.equal(agent.encode(components, start)[0], plain.encode(seen, start)[0])


def test_a_key_clashes_with_an_input_of_the_agents_own_only_where_it_has_one() -> None:
    box, action = spaces.Box(-1, 1, (2,)), spaces.Discrete(3)
    space = spaces.Dict({"previous_reward": box, "x": spaces.Dict({"previous_action": box})})
    ActorCritic(space, action, AgentConfig(hidden_size=4, encoder_size=4))
    with pytest.raises(
        UnsupportedSpaceError, match=r"key 'previous_reward'.*Set previous_reward to"
    ):
        ActorCritic(space, action, AgentConfig(previous_reward=True))
    with pytest.raises(UnsupportedSpaceError, match="key 'previous_action'"):
        ActorCritic(spaces.Dict({"previous_action": box}), action, AgentConfig())


def test_a_key_of_the_environments_is_seen_also_where_an_episode_starts() -> None:
    box = spaces.Box(-1, 1, (2,))
    config = AgentConfig(hidden_size=4, encoder_size=4, previous_action=False)
    agent = ActorCritic(spaces.Dict({"previous_action": box}), spaces.Discrete(3), config)
    start = torch.ones(1, dtype=torch.bool)
    one, other = (
        agent.encode({"previous_action": torch.full((1, 2), x)}, start)[0] for x in (0.1, 0.9)
    )
    assert not torch.equal(one, other)


def test_a_component_without_entries_beside_others_has_no_part_in_what_is_computed() -> None:
    full: dict[str, gym.Space[Any]] = {"d": spaces.Box(-1, 1, (2,))}
    empty: dict[str, gym.Space[Any]] = {
        "a": spaces.Dict({}),
        "b": spaces.Box(-1, 1, (0, 4, 3)),
        "c": spaces.Box(0, 255, (0, 3), np.uint8),
    }
    outputs = []
    for space in (spaces.Dict(full), spaces.Dict({**empty, **full})):
        torch.manual_seed(0)
        agent = ActorCritic(
            space, spaces.Discrete(3), AgentConfig("lstm", hidden_size=4, encoder_size=4)
        )
        components = {
            "b": torch.zeros(5, 0, 4, 3),
            "c": torch.zeros(5, 0, 3, dtype=torch.uint8),
            "d": torch.ones(5, 2),
            "previous_action": torch.zeros(5, dtype=torch.int64),
        }
        components = {path: x for path, x in components.items() if path in agent.component_spaces}
        outputs.append(agent.step(components, agent.initial_state(5))[0].distribution.mode())
    assert torch.equal(*outputs)
