"""A critic that sees more: it moves no action, and no saved policy knows of it."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from safetensors import safe_open
from torch import Tensor, nn
from torch.testing import assert_close

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.encoders import Encoder
from recurrent_rl.agents.normalisers import SETTLED
from recurrent_rl.agents.policy import Policy, load_policy
from recurrent_rl.agents.settings import SettingError
from recurrent_rl.agents.spaces import Components, ObservationError, UnsupportedSpaceError

T, B = 7, 3
SPACE = spaces.Dict(
    {
        "clue": spaces.Discrete(3),
        "far": spaces.Box(-1, 1, (2,)),
        "state": spaces.Dict({"a": spaces.Box(-1, 1, (2,)), "b": spaces.Discrete(4)}),
        "unseen": spaces.Box(-1, 1, (9,)),
    }
)
ACTION = spaces.Discrete(4)
KEYS: dict[str, Any] = {"critic_keys": ("far", "state"), "actor_keys": ("clue",)}


def make(memory: str = "lstm", **config: Any) -> ActorCritic:
    torch.manual_seed(0)
    settings = {"hidden_size": 6, "encoder_size": 5, "previous_reward": True, **KEYS, **config}
    agent = ActorCritic(SPACE, ACTION, AgentConfig(memory, **settings))
    nn.init.normal_(agent.critic.weight)  # an untrained critic says zero whatever it sees
    return agent


def inputs(agent: ActorCritic) -> tuple[Components, Tensor]:
    generator = torch.Generator().manual_seed(1)
    components = {
        "clue": torch.randint(3, (T, B), generator=generator),
        "far": torch.randn(T, B, 2, generator=generator),
        "state/a": torch.randn(T, B, 2, generator=generator),
        "state/b": torch.randint(4, (T, B), generator=generator),
    }
    previous = torch.randint(4, (T, B), generator=generator), torch.randn(T, B, generator=generator)
    start = torch.rand(T, B, generator=generator) < 0.3
    return agent.with_previous(components, *previous), start


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("memory", ["none", "lstm", "gru-rotor", "gru-matrix"])
def test_no_gradient_leads_from_what_the_critic_alone_sees_to_an_action(
    memory: str, separate: bool
) -> None:
    agent = make(memory, separate_memory=separate)
    components, start = inputs(agent)
    hidden = [components["far"].requires_grad_(), components["state/a"].requires_grad_()]
    (distribution, value, _), _ = agent.unroll(components, agent.initial_state(B), start)
    acted = distribution.log_prob(torch.zeros(T, B, dtype=torch.int64)).sum()
    acted = acted + distribution.entropy().sum()
    names, weights = zip(*agent.named_parameters(), strict=True)
    found = torch.autograd.grad(acted, [*hidden, *weights], allow_unused=True, retain_graph=True)
    assert all(x is None for x in found[:2])
    acting = {name for name, x in zip(names, found[2:], strict=True) if x is not None}
    assert acting == set(dict(agent.without_critic().named_parameters()))
    for x in torch.autograd.grad(value.sum(), hidden):
        assert (x != 0).any()


@pytest.mark.parametrize("layers", [(), (6,)])
@pytest.mark.parametrize("separate", [False, True])
def test_actions_are_the_same_bits_whatever_the_critic_sees(
    separate: bool, layers: tuple[int, ...]
) -> None:
    agent = make(separate_memory=separate, actor_layers=layers, critic_layers=layers)
    components, start = inputs(agent)
    other = components | {name: torch.zeros_like(components[name]) for name in ("far", "state/b")}
    (one, value, _), _ = agent.unroll(components, agent.initial_state(B), start)
    (two, another, _), _ = agent.unroll(other, agent.initial_state(B), start)
    for action in range(4):
        told = torch.full((T, B), action)
        assert torch.equal(one.log_prob(told), two.log_prob(told))
    assert (value != another).any()


@pytest.mark.parametrize("separate", [False, True])
def test_unroll_equals_repeated_step_with_what_the_critic_sees(separate: bool) -> None:
    agent = make(separate_memory=separate)
    components, start = inputs(agent)
    agent.take_in(components, torch.ones(T, B, dtype=torch.bool), start)
    (_, value, _), _ = agent.unroll(components, agent.initial_state(B), start)
    state, values = agent.initial_state(B), []
    for t in range(T):
        step = {path: x[t] for path, x in components.items()}
        (_, of_step, _), state = agent.step(step, state, start[t])
        values.append(of_step)
    assert_close(value, torch.stack(values))
    weights = list(agent.parameters())
    ways = (value, torch.stack(values))
    found = [torch.autograd.grad(x.square().sum(), weights, allow_unused=True) for x in ways]
    for one, other in zip(*found, strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            assert_close(one, other)


@pytest.mark.parametrize("separate", [False, True])
def test_what_the_critic_alone_sees_is_normalised_too(separate: bool) -> None:
    agent = make(separate_memory=separate)
    plain = make(separate_memory=separate, normalize_observations=False)
    components, start = inputs(agent)
    far = components | {"state/a": 1000 * components["state/a"] + 5000}
    valid = torch.ones(T, B, dtype=torch.bool)
    agent.take_in(far, valid, start)
    assert agent.privileged is not None
    # A critic with a memory of its own reads it there, and needs no encoder for it beside.
    assert (agent.privileged.encoder is None) == separate
    seen = agent.privileged.normaliser(agent.observation_normaliser(far))
    assert_close(seen["state/a"].mean((0, 1)), torch.zeros(2), atol=1e-4, rtol=0)
    plain.load_state_dict(agent.state_dict())
    assert_close(
        agent.unroll(far, agent.initial_state(B), start)[0].value,
        plain.unroll(seen, plain.initial_state(B), start)[0].value,
    )
    # What comes once they have settled moves the statistics and no value.
    for _ in range(SETTLED):
        agent.take_in(far, valid, start)
    before = agent.unroll(far, agent.initial_state(B))[0].value
    farther = far | {path: 1.5 * far[path] for path in ("far", "state/a")}
    agent.take_in(farther, valid, start)
    again = agent.privileged.normaliser(far)["state/a"]
    assert (again - seen["state/a"]).abs().max() > 0.1
    assert_close(agent.unroll(far, agent.initial_state(B))[0].value, before)


def test_the_critic_reads_its_memory_and_then_an_encoder_of_the_agents_own_settings() -> None:
    space = spaces.Dict(
        {
            "clue": spaces.Discrete(3),
            "state": spaces.Dict(
                {"a": spaces.Discrete(4), "b": spaces.Box(0, 255, (8, 8, 3), np.uint8)}
            ),
        }
    )
    settings: dict[str, Any] = {"activation": "relu", "one_hot": True, "image_features": 7}
    config = AgentConfig(
        "gru", encoder_size=5, encoder_layers=2, critic_keys=("state",), **settings
    )
    privileged = ActorCritic(space, ACTION, config).privileged
    assert privileged is not None
    assert privileged.encoder is not None
    encoder = Encoder(
        privileged.reader.component_spaces,
        5,
        2,
        "relu",
        scaling=privileged.reader.scaling,
        one_hot=True,
        image_features=7,
    )
    encoder.load_state_dict(privileged.encoder.state_dict())
    generator = torch.Generator().manual_seed(0)
    seen = {
        "state/a": torch.randint(4, (T, B), generator=generator),
        "state/b": torch.randint(256, (T, B, 8, 8, 3), generator=generator, dtype=torch.uint8),
    }
    start = torch.rand(T, B, generator=generator) < 0.5
    features = torch.randn(T, B, 6, generator=generator)
    found = privileged.beside(features, seen, start)
    assert torch.equal(found[..., :6], features)
    assert_close(found[..., 6:], encoder(seen, start))
    assert torch.equal(found[..., -1], start.float())


def test_what_the_critic_sees_far_from_zero_is_centred() -> None:
    space = spaces.Dict({"x": spaces.Discrete(2), "time": spaces.Box(0, 1e12, (), np.float64)})
    agent = ActorCritic(space, ACTION, AgentConfig(critic_keys=("time",)))
    seen = {"x": np.array([0, 1]), "time": np.array([1e9, 1e9 + 2])}
    agent.centre_on(seen)
    assert agent.read(seen)["time"].tolist() == [-1.0, 1.0]


@pytest.mark.parametrize("layers", [(), (6,)])
@pytest.mark.parametrize("separate", [False, True])
def test_a_saved_policy_lacks_what_the_critic_sees_and_acts_the_same(
    tmp_path: Path, separate: bool, layers: tuple[int, ...]
) -> None:
    settings: dict[str, Any] = {"actor_layers": layers, "critic_layers": layers}
    agent = make(separate_memory=separate, previous_reward=False, **settings)
    SPACE.seed(0)
    Policy(agent).save(path := tmp_path / "policy.safetensors")
    loaded = load_policy(path)
    assert loaded.observation_space == spaces.Dict({"clue": SPACE["clue"]})
    with safe_open(path, "pt") as file:
        names = list(file.keys())
    of_critic = ("critic.", "critic_layers.", "privileged.", "return_normaliser.", "trunks.1.")
    assert {name for name in agent.state_dict() if not name.startswith(of_critic)} == {*names}
    state, of_policy = agent.initial_state(1), None
    previous = torch.zeros(1, dtype=torch.int64)
    for t in range(T):
        seen = SPACE.sample()
        arrays = agent.read({key: batch_of_one(x) for key, x in seen.items()})
        components = {name: torch.as_tensor(x) for name, x in arrays.items()}
        start = torch.tensor([t == 0])
        components = agent.with_previous(components, previous, None)
        (distribution, _, _), state = agent.step(components, state, start)
        previous = distribution.mode()
        given = seen if t % 2 else {"clue": seen["clue"]}
        action, of_policy = loaded.predict(given, of_policy, deterministic=True)
        assert action == int(previous)
        acted = state.actor if separate else state  # type: ignore[attr-defined]
        for one, other in zip(acted, of_policy.memory, strict=True):
            assert torch.equal(one, other)


def batch_of_one(x: Any) -> Any:
    return (
        {k: batch_of_one(v) for k, v in x.items()} if isinstance(x, dict) else np.asarray(x)[None]
    )


def test_a_policy_learns_with_the_agent_that_it_is_of() -> None:
    agent = make()
    policy = Policy(agent)
    assert policy.agent.head is agent.head
    assert Policy(policy.agent).agent is policy.agent
    assert torch.isnan(
        policy.agent.step(first(inputs(agent)), policy.agent.initial_state(B))[0][1]
    ).all()


def first(given: tuple[Components, Tensor]) -> Components:
    return {path: x[0] for path, x in given[0].items()}


def test_a_reading_that_overflows_is_refused_without_a_critic_too() -> None:
    space = spaces.Dict({"x": spaces.Box(-np.inf, np.inf, (2,)), "y": spaces.Box(-1, 1, (2,))})
    settings: dict[str, Any] = {
        "encoder_layers": 0,
        "normalize_observations": False,
        "critic_keys": ("y",),
    }
    for action_space in (ACTION, spaces.Box(-1, 1, (2,))):
        agent = ActorCritic(space, action_space, AgentConfig("none", **settings))
        agent.head.linear.weight.detach().fill_(1e3)
        policy = Policy(agent)
        policy.predict({"x": [1.0, 2.0]}, deterministic=True)
        with pytest.raises(ObservationError, match="is not finite"):
            policy.predict({"x": [3e38, 3e38]}, deterministic=True)


class ActorsEyes(nn.Module):
    """Fails where it is made of anything but what the actor sees."""

    def __init__(self, space: gym.Space[Any]) -> None:
        super().__init__()
        assert space == SPACE["clue"]
        self.output_size = 3

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.one_hot(x, 3).float()


def test_an_encoder_of_ones_own_is_made_of_what_the_actor_sees() -> None:
    config = AgentConfig("gru", encoder=f"{__name__}:ActorsEyes", separate_memory=True, **KEYS)
    agent = ActorCritic(SPACE, ACTION, config, parts={"encoder": ActorsEyes})
    components, start = inputs(agent)
    assert agent.unroll(components, agent.initial_state(B), start)[0].value.shape == (T, B)


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        ({"critic_keys": ("stat",)}, r"critic_keys has 'stat', .*unseen\. Did you mean state\?"),
        ({"critic_keys": ("state",), "actor_keys": ("clew",)}, "actor_keys has 'clew'"),
        ({"critic_keys": tuple(SPACE.spaces)}, "nothing is left that the actor sees"),
        ({"critic_keys": ("state", "state")}, "without a key twice"),
        ({"actor_keys": ("clue",)}, "actor_keys needs critic_keys"),
        ({"critic_keys": ("clue",), "actor_keys": ("clue", "far")}, "'clue' is in actor_keys and"),
    ],
)
def test_keys_that_cannot_be_are_refused_by_name(keys: dict[str, Any], what: str) -> None:
    with pytest.raises(SettingError, match=what):
        ActorCritic(SPACE, ACTION, AgentConfig(**keys))


def test_spaces_and_names_that_cannot_be_are_refused() -> None:
    keys = AgentConfig(critic_keys=("state",))
    with pytest.raises(SettingError, match=r"critic_keys is \['state'\], but .* is no Dict"):
        ActorCritic(spaces.Discrete(3), ACTION, keys)
    clash = spaces.Dict({"x": spaces.Discrete(2), "previous_action": spaces.Discrete(2)})
    with pytest.raises(UnsupportedSpaceError, match="key 'previous_action'"):
        ActorCritic(clash, ACTION, AgentConfig(critic_keys=("previous_action",)))
