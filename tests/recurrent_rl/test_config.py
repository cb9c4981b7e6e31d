"""Settings that make no sense are refused by name, with the fix."""

import dataclasses
from typing import Any

import pytest

from recurrent_rl.agents.actor_critic import AgentConfig
from recurrent_rl.config import EnvConfig, TrainConfig
from recurrent_rl.errors import UserError


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"num_envs": -1}, "num_envs is -1; it must be at least 0"),
        ({"num_steps": -5}, "num_steps is -5; it must be at least 0"),
        ({"total_timesteps": 0}, "total_timesteps is 0"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0; it must be greater than 0"),
        ({"gamma": 1.5}, "gamma is 1.5; it must be between 0 and 1"),
        ({"seq_len": 0}, "seq_len is 0"),
        ({"seq_len": 5}, "seq_len 5 does not divide num_steps 128; use one of 1, 2, 4, 8"),
        ({"num_envs": 6, "num_minibatches": 4}, "does not divide the 6 chunks .* 1, 2, 3, 6"),
        ({"checkpoint_interval": -1.0}, "checkpoint_interval is -1.0"),
        ({"threads": -1}, "threads is -1"),
    ],
)
def test_a_bad_setting_is_refused_by_name(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        TrainConfig("CartPole-v1", **setting).sized(500)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"env_kwargs": "{length: 3}"}, "not JSON"),
        ({"env_kwargs": "[1]"}, "not a JSON object"),
        ({"flicker": 1.0}, "flicker is 1.0"),
        ({"observation_noise": -0.1}, "observation_noise"),
        ({"hide_indices": (-1,)}, r"hide_indices\[0\] is -1; it must be at least 0"),
    ],
)
def test_a_bad_environment_setting_is_refused_by_name(
    setting: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        EnvConfig(**setting)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"memory": "lsmt"}, "lstm"),
        ({"hidden_size": 0}, "hidden_size is 0"),
        ({"action_persistence": 1.0}, r"action_persistence is 1.0; it must be in \[0, 1\)"),
        ({"action_persistence": 0.5, "previous_action": False}, "needs previous_action"),
        ({"encoder_size": 1}, "encoder_size is 1; it must be at least 2"),
        ({"num_layers": -1}, "num_layers is -1"),
        ({"activation": "gelu?"}, "tanh"),
    ],
)
def test_a_bad_agent_setting_is_refused_by_name(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AgentConfig(**setting)


def test_json_holds_every_setting() -> None:
    config = TrainConfig(
        "module:Env-v3",
        seq_len=64,
        target_kl=0.02,
        agent=AgentConfig("lstm", num_layers=2),
        env=EnvConfig('{"a": [1, 2]}', hide_indices=(1, 3), flicker=0.25),
    )
    assert TrainConfig.from_json(config.to_json()) == config


def test_settings_of_another_version_are_refused_clearly() -> None:
    text = TrainConfig("CartPole-v1").to_json().replace('"num_envs"', '"num_enws"')
    with pytest.raises(UserError, match=r"config\.json cannot be read"):
        TrainConfig.from_json(text)


def test_a_run_takes_at_least_the_steps_it_was_asked_for() -> None:
    config = TrainConfig("CartPole-v1", total_timesteps=10_000, num_envs=8, num_steps=100)
    assert config.num_iterations == 13
    assert dataclasses.replace(config, total_timesteps=800).num_iterations == 1


def test_rate_and_entropy_bonus_fall_to_zero_unless_they_are_to_stay() -> None:
    config = TrainConfig(
        "CartPole-v1",
        num_envs=8,
        num_steps=100,
        total_timesteps=3200,
        learning_rate=0.4,
        ent_coef=0.8,
    )
    now = [config.at(iteration) for iteration in range(4)]
    assert [one.learning_rate for one in now] == pytest.approx([0.4, 0.3, 0.2, 0.1])
    assert [one.ent_coef for one in now] == pytest.approx([0.8, 0.6, 0.4, 0.2])
    stays = dataclasses.replace(config, lr_schedule="constant", ent_schedule="constant")
    assert stays.at(3) == stays


@pytest.mark.parametrize(
    ("steps", "copies"), [(1, 8), (100_000, 8), (300_000, 20), (1_000_000, 64), (10**9, 64)]
)
def test_short_runs_have_fewer_copies_unless_asked_for(steps: int, copies: int) -> None:
    config = TrainConfig("CartPole-v1", total_timesteps=steps).sized(None)
    assert (config.num_steps, config.num_envs) == (128, copies)
    longer = dataclasses.replace(config, total_timesteps=10**9)
    assert longer.sized(500) == longer  # a run that goes on keeps its copies
    asked = TrainConfig("CartPole-v1", total_timesteps=steps, num_envs=3, num_minibatches=1)
    assert asked.sized(None).num_envs == 3


@pytest.mark.parametrize(
    ("episode", "total", "steps", "copies"),
    [
        (1, 10**6, 128, 64),
        (51, 10**6, 153, 52),
        (103, 10**6, 103, 76),
        (200, 10**6, 200, 40),
        (200, 100_000, 128, 8),  # would leave 62 rollouts
        (200, 200_000, 200, 8),
        (500, 300_000, 128, 20),
        (1026, 10**7, 1026, 8),
        (3000, 10**7, 128, 64),
    ],
)
def test_rollouts_hold_whole_episodes_where_these_are_not_too_long(
    episode: int, total: int, steps: int, copies: int
) -> None:
    config = TrainConfig("CartPole-v1", total_timesteps=total)
    sized = config.sized(episode)
    assert (sized.num_steps, sized.num_envs) == (steps, copies)
    assert sized.num_envs % sized.num_minibatches == 0
    assert sized.asked() == config
    assert TrainConfig.from_json(sized.to_json()) == sized
    asked = dataclasses.replace(config, num_steps=32).sized(episode)
    assert asked.asked().num_steps == 32
    assert asked.num_steps == 32
    assert dataclasses.replace(config, seq_len=64).sized(episode).num_steps == 128
