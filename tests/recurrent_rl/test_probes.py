"""Probe environments: the whole loop learns what is known exactly, for every kind of space."""

from typing import Any

import pytest
import torch

from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.config import TrainConfig
from recurrent_rl.runs.evaluation import evaluate
from recurrent_rl.trainer import Trainer
from recurrent_rl.vector_env.config import EnvConfig
from recurrent_rl.vector_env.vectorize import make_vector_env

GAMMA = 0.9


def learn(
    name: str,
    iterations: int,
    memory: str = "none",
    num_envs: int = 32,
    kwargs: dict[str, Any] | None = None,
    **more: Any,
) -> Trainer:
    config = TrainConfig(
        f"recurrent_rl/Probe-{name}-v0",
        num_envs=num_envs,
        num_steps=16,
        total_timesteps=num_envs * 16 * iterations,
        learning_rate=3e-3,
        gamma=GAMMA,
        memory_interval=None,
        agent=AgentConfig(memory, hidden_size=32, encoder_size=32, previous_action=False, **more),
        env=EnvConfig(kwargs or {}),
    )
    trainer = Trainer(config)
    while not trainer.done:
        trainer.iterate()
    return trainer


@torch.no_grad()
def value(trainer: Trainer, *observations: float) -> float:
    """V after these observations of an episode."""
    state = trainer.agent.initial_state(1)
    for t, x in enumerate(observations):
        output, state = trainer.agent.step({"": torch.tensor([[x]])}, state, torch.tensor([t == 0]))
    return float(output.value)


def play(trainer: Trainer, with_memory: bool = True) -> float:
    env = make_vector_env(trainer.config.env_id, 50, trainer.config.env)
    return evaluate(trainer.policy(), env, 200, with_memory=with_memory, seed=1).mean


@pytest.mark.parametrize("normalised", [True, False])
def test_a_constant_reward_is_its_value(normalised: bool) -> None:
    trainer = learn("Constant", 25, normalize_returns=normalised)
    assert value(trainer, 0.0) == pytest.approx(1.0, abs=0.05)


def test_a_reward_that_is_seen_is_its_value() -> None:
    trainer = learn("Observation", 40)
    assert value(trainer, 1.0) == pytest.approx(1.0, abs=0.1)
    assert value(trainer, -1.0) == pytest.approx(-1.0, abs=0.1)


@pytest.mark.parametrize("memory", ["none", "lstm"])
def test_a_later_reward_is_discounted(memory: str) -> None:
    trainer = learn("Discount", 40, memory)
    assert value(trainer, 0.0) == pytest.approx(GAMMA, abs=0.05)
    assert value(trainer, 0.0, 1.0) == pytest.approx(1.0, abs=0.05)


def test_a_time_limit_is_not_an_end() -> None:
    # Taken as an end, V would be 1 + .9 + .81 + .729 = 3.4 at first and 1 at last.
    trainer = learn("TimeLimit", 80, "gru", num_envs=16)
    for steps in range(1, 5):
        assert value(trainer, *[0.0] * steps) == pytest.approx(1 / (1 - GAMMA), rel=0.1)


@pytest.mark.parametrize("memory", ["rnn", "lstm", "gru", "lstm-peephole", "gru-original"])
def test_memory_solves_what_nothing_else_can(memory: str) -> None:
    trainer = learn("Memory", 40, memory)
    assert play(trainer) == 1.0
    assert abs(play(trainer, with_memory=False)) < 0.3


def test_without_memory_a_guess_is_the_best() -> None:
    assert abs(play(learn("Memory", 40, "none"))) < 0.3


def test_critic_and_actor_learn_with_a_memory_each() -> None:
    trainer = learn("Memory", 40, "gru", separate_memory=True)
    assert play(trainer) == 1.0
    assert value(trainer, 1.0, 0.0) == pytest.approx(1.0, abs=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("critic_memory", [True, False])
def test_layers_behind_the_memory_are_learnt(critic_memory: bool) -> None:
    trainer = learn(
        "Memory",
        40,
        "lstm",
        separate_memory=True,
        critic_memory=critic_memory,
        actor_layers=(16, 16),
        critic_layers=(16,),
        layers_activation="relu",
    )
    assert play(trainer) == 1.0
    assert value(trainer, 1.0, 0.0) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(
    ("observation", "action"),
    [
        ("vector", "discrete"),
        ("image", "discrete"),
        ("discrete", "multidiscrete"),
        ("multidiscrete", "multibinary"),
        ("multibinary", "discrete"),
        ("dict", "multibinary"),
        ("nested", "discrete"),
    ],
)
def test_every_kind_of_observation_and_action_is_learnt(observation: str, action: str) -> None:
    kwargs = {"observation": observation, "action": action}
    trainer = learn("Signal", 30, num_envs=16, kwargs=kwargs)
    assert play(trainer) == 1.0


def test_continuous_actions_are_learnt() -> None:
    trainer = learn("Signal", 60, kwargs={"observation": "vector", "action": "box"})
    assert play(trainer) > 0.9


def test_a_forbidden_action_is_never_taken_however_well_it_would_pay() -> None:
    # The environment raises where action 0 is taken, in training and in play.
    assert play(learn("Mask", 30)) == 1.0
