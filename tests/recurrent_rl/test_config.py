"""Settings that make no sense are refused by name, with the fix."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.config import ResolvedConfig, TrainConfig
from recurrent_rl.errors import UserError
from recurrent_rl.fields import json_object
from recurrent_rl.resolve import choose_sizes
from recurrent_rl.vector_env.config import EnvConfig

DEEP: dict[str, Any] = {}
for _ in range(9999):
    DEEP = {"a": DEEP}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"num_envs": -1}, "num_envs is -1; it must be at least 1"),
        ({"num_steps": -5}, "num_steps is -5; it must be at least 1"),
        ({"total_timesteps": 0}, "total_timesteps is 0"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0; it must be greater than 0"),
        ({"gamma": 1.5}, "gamma is 1.5; it must be between 0 and 1"),
        ({"seq_len": 0}, "seq_len is 0"),
        (
            {"seq_len": 5, "num_steps": 128},
            "seq_len 5 does not divide num_steps 128; use one",
        ),
        ({"num_envs": 6, "num_minibatches": 4}, "does not divide the 6 chunks .* 1, 2, 3, 6"),
        ({"checkpoint_interval": -1.0}, "checkpoint_interval is -1.0"),
        ({"threads": -1}, "threads is -1"),
        ({"threads": 100_000}, "threads is 100000; it must be at most 1,024"),
        ({"num_envs": 10**9}, "num_envs is 1000000000; it must be at most 1,000,000"),
        ({"num_minibatches": 10**9}, "num_minibatches is 1000000000; it must be at most"),
        ({"lr_schedule": "Linear"}, "must be one of constant, linear. Did you mean linear?"),
        ({"device": "tpu"}, "device is 'tpu'; it must be auto, or a device such as cpu"),
        ({"device": "cuda:300"}, "device is 'cuda:300'"),  # torch reads it as cuda:44
        ({"device": 0}, "device is 0; it must be text"),
        ({"log_dir": ""}, "log_dir is ''; it must be the path of a folder"),
        ({"log_dir": "a\0b"}, "log_dir is 'a.x00b'; it must be the path of a folder"),
        ({"name": "../../x"}, "name is '../../x'; it must be a name for folders"),
        ({"name": "a\nb"}, "name is 'a.nb'; it must be a name for folders"),
        ({"agent": {"memory": "lsmt"}}, r"agent\.memory is 'lsmt'; .* Did you mean lstm\?"),
        ({"env": {"flicker": 1}}, r"env\.flicker is 1\.0"),
        ({"clip_coef": abs}, r"clip_coef is a function.* schedules=.\"clip_coef\": .first, "),
        ({"n_steps": 3}, "n_steps is no setting of TrainConfig. Here it is num_steps."),
        ({"batch_size": 64}, "Here it is num_minibatches .a number of minibatches, not of steps"),
        ({"memory": "lstm"}, r"memory is no setting of TrainConfig. Write agent=AgentConfig.mem"),
        ({"policy_kwargs": {}}, r"Here it is agent=AgentConfig.memory=.*and what else"),
        ({"agent": {"net_arch": [64]}}, r"agent.net_arch is no setting .* Here it is actor_layers"),
        ({"seq_len": 7, "num_steps": 10**6}, "use one of 2, 4, 5, 8, 10, 16, 20, 25"),
    ],
)
def test_a_bad_setting_is_refused_by_name(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        choose_sizes(TrainConfig("CartPole-v1", **setting), 500)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"env_kwargs": '{"length": 3}'}, "not a JSON object. Give a dict"),
        ({"env_kwargs": 3}, "env_kwargs is 3, not a JSON object"),
        ({"env_kwargs": {"a": {1: 2}}}, r"env_kwargs\.a has the key 1; in JSON keys are text"),
        ({"env_kwargs": {"a": [object]}}, r"env_kwargs\.a\[0\] is <class 'object'>, which JSON"),
        ({"env_kwargs": {"a": float("nan")}}, "which JSON cannot hold"),
        ({"env_kwargs": {"a": [float("inf")]}}, "which JSON cannot hold"),
        ({"env_kwargs": {"a": 10**5000}}, "which JSON cannot hold"),
        ({"env_kwargs": DEEP}, "nested too deeply"),
        ({"hide_indices": (1, 2, 1)}, r"hide_indices is \(1, 2, 1\); it must be without an entry"),
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
    ("text", "message"),
    [
        ("{length: 3}", "env_kwargs is not JSON"),
        ("[1]", "not a JSON object"),
        ('{"a": 1, "a": 2}', "In env_kwargs: a is given twice"),
        ('{"a": ' + "9" * 5000 + "}", "which JSON cannot hold"),
        ('{"a": ' * 99_999, "nested too deeply"),
    ],
)
def test_text_that_is_no_json_object_is_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        json_object("env_kwargs", text)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"hidden_size": 0}, "hidden_size is 0"),
        ({"action_persistence": 1.0}, r"action_persistence is 1.0; it must be in \[0, 1\)"),
        ({"action_persistence": 0.5, "previous_action": False}, "needs previous_action"),
        ({"encoder_size": 1}, "encoder_size is 1; it must be at least 2"),
        ({"num_layers": -1}, "num_layers is -1"),
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
        env=EnvConfig({"a": [1, 2]}, hide_indices=(1, 3), flicker=0.25),
    )
    assert TrainConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('"num_envs"', '"num_enws"', "num_enws is no .* mean num_envs"),
        ('"memory"', '"memories"', "memories is no .* mean memory"),
        ('"memory": "', '"memory": "x', r"agent\.memory is 'xgru-rotor'"),
        ('"gamma": 0.99', '"gamma": "0.99"', "gamma is '0.99'; it must be a finite number"),
        ('"gamma": 0.99', '"gamma": NaN', "gamma is nan; it must be a finite number"),
        ('"gamma": 0.99', '"gamma": 0.5, "gamma": 0.99', "gamma is given twice"),
        ('"seed": 0', '"seed": false', "seed is False; it must be a whole number"),
        ('"seed": 0', '"seed": null', "seed is None; it must be a whole number"),
        ('"env_id"', '"resolved": 3, "env_id"', "resolved.it is 3; it must hold num_envs"),
        ('"env_id"', '"resolved": {"num_envs": 8}, "env_id"', "it must hold num_envs, num_steps"),
        ('"hide_indices": []', '"hide_indices": [0.5]', r"env\.hide_indices\[0\] is 0.5"),
        ('"env": {', '"env": 5, "x": {', "x is no setting|env.EnvConfig is made of 5"),
        ("{", "[", "delimiter"),
    ],
)
def test_settings_of_another_version_or_badly_edited_are_refused_by_name(
    before: str, after: str, message: str
) -> None:
    text = TrainConfig("CartPole-v1").to_json()
    assert before in text
    with pytest.raises(UserError, match=rf"config\.json cannot be read: .*{message}"):
        TrainConfig.from_json(text.replace(before, after, 1))


def test_a_setting_that_a_file_lacks_is_at_its_default() -> None:
    config = TrainConfig("CartPole-v1", num_envs=16, agent=AgentConfig("lstm", num_layers=2))
    fields = json.loads(config.to_json())
    del fields["num_envs"], fields["env"]["wrappers"], fields["agent"]["num_layers"]
    expected = TrainConfig("CartPole-v1", agent=AgentConfig("lstm"))
    assert TrainConfig.from_json(json.dumps(fields)) == expected
    del fields["agent"], fields["env"]
    assert TrainConfig.from_json(json.dumps(fields)) == TrainConfig("CartPole-v1")


@pytest.mark.parametrize("text", ["", "[]", "null", "5", '"x"', b"\xff\xfe\xff", "[" * 99_999])
def test_a_file_that_holds_no_settings_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"config\.json cannot be read"):
        TrainConfig.from_json(text)


def test_an_empty_array_for_a_number_is_refused_by_name() -> None:
    with pytest.raises(UserError, match="num_envs is array"):
        TrainConfig("CartPole-v1", num_envs=np.array([]))  # type: ignore[arg-type]


@pytest.mark.parametrize(("steps", "rollouts"), [(1023, "1 rollout"), (9 * 1024, "9 rollouts")])
def test_a_run_of_few_rollouts_is_told(steps: int, rollouts: str) -> None:
    few = TrainConfig("CartPole-v1", num_envs=8, num_steps=128, total_timesteps=steps)
    (told,) = choose_sizes(few, None).choices()
    assert told.startswith(f"total_timesteps {steps:,} makes {rollouts} of 1,024 steps")
    enough = dataclasses.replace(few, total_timesteps=9 * 1024 + 1)
    assert choose_sizes(enough, None).choices() == []


def test_what_was_chosen_is_kept_with_its_reason_and_told_from_what_was_requested() -> None:
    requested = TrainConfig("CartPole-v1", num_envs=8, total_timesteps=10**6)
    config = choose_sizes(requested, 50)
    assert (config.num_envs, config.num_steps) == (8, 150)
    assert config.reasons == {"num_steps": "3 whole episodes of 50 steps", "num_minibatches": ""}
    assert config.choices() == ["num_steps 150: 3 whole episodes of 50 steps"]
    assert config.as_requested() == requested
    assert choose_sizes(config, 9) == config  # what is resolved stays
    written = json.loads(config.to_json())
    assert written["num_steps"] is None
    assert written["resolved"]["num_steps"] == 150
    assert TrainConfig.from_json(config.to_json()) == config


def test_a_length_of_sequences_that_was_chosen_is_told_from_one_that_was_requested() -> None:
    requested = TrainConfig("CartPole-v1", total_timesteps=10**6)
    config = choose_sizes(requested, 50, count=1)  # one environment, whose rollouts are long
    assert (config.seq_len, config.num_steps % 150, config.num_steps > 150) == (150, 0, True)
    assert config.as_requested() == requested
    assert TrainConfig.from_json(config.to_json()) == config
    older = json.loads(config.to_json())
    older["seq_len"] = older["resolved"].pop("seq_len")
    assert TrainConfig.from_json(json.dumps(older)).seq_len == 150


@pytest.mark.parametrize(
    ("seq_len", "num_steps"), [(8, 128), (48, 144), (100, 100), (128, 128), (256, 256)]
)
def test_any_length_of_sequences_has_rollouts_that_it_divides(seq_len: int, num_steps: int) -> None:
    config = choose_sizes(TrainConfig("CartPole-v1", seq_len=seq_len), 500)
    assert config.num_steps == num_steps


def test_fields_hold_plain_types_whatever_they_were_given(tmp_path: Path) -> None:
    fields: dict[str, Any] = {
        "env_id": np.str_("CartPole-v1"),
        "log_dir": tmp_path,
        "seed": np.int64(3),
        "total_timesteps": 1e6,
        "gamma": np.float32(0.5),
        "learning_rate": 1,
        "refresh_state": np.True_,
        "device": torch.device("cuda", 1),
        "agent": {"memory": "gru", "hidden_size": np.int32(8)},
        "env": {"env_kwargs": {"size": np.int64(4), "at": np.arange(2)}, "hide_indices": [1, 3]},
    }
    given = TrainConfig(**fields)
    plain = TrainConfig(
        "CartPole-v1",
        log_dir=str(tmp_path),
        seed=3,
        total_timesteps=1_000_000,
        gamma=0.5,
        learning_rate=1.0,
        refresh_state=True,
        device="cuda:1",
        agent=AgentConfig("gru", hidden_size=8),
        env=EnvConfig({"size": 4, "at": [0, 1]}, hide_indices=(1, 3)),
    )
    assert given == plain
    assert given.to_json() == plain.to_json()
    assert TrainConfig.from_json(given.to_json()) == plain
    assert given.env.env_kwargs == {"size": 4, "at": [0, 1]}


@pytest.mark.parametrize(
    "env_id",
    ["CartPole-v1", "a.b-c:ns/Env-v3", "recurrent_rl.envs:recurrent_rl/TMaze-v0", "X", "<x>"],
)
def test_environments_ids_are_taken_as_gymnasium_writes_them(env_id: str) -> None:
    assert TrainConfig(env_id).env_id == env_id


@pytest.mark.parametrize(
    "env_id", ["", " ", "..:X-v0", "a/b/c", "../X-v0", "X v0", "X\0", "<>", "<x", 3]
)
def test_what_is_no_environments_id_is_refused_with_an_example(env_id: Any) -> None:
    with pytest.raises(UserError, match=r"env_id is .*; it must be (text|a Gymnasium id such as)"):
        TrainConfig(env_id)


@pytest.mark.parametrize(
    ("sizes", "minibatches"),
    [
        ({}, 4),
        ({"num_envs": 6}, 3),
        ({"num_envs": 7}, 1),
        ({"num_envs": 7, "seq_len": 64}, 2),
        ({"num_envs": 6, "num_minibatches": 6}, 6),
    ],
)
def test_any_number_of_environments_has_minibatches_alike(
    sizes: dict[str, int], minibatches: int
) -> None:
    requested = TrainConfig("CartPole-v1", **sizes)  # type: ignore[arg-type]
    config = choose_sizes(requested, None)
    assert config.num_minibatches == minibatches
    read = ResolvedConfig.from_json(config.to_json())
    assert read == config
    assert choose_sizes(read, None) == config
    assert json.loads(config.to_json())["num_minibatches"] == sizes.get("num_minibatches")


def test_a_run_takes_at_least_the_requested_steps() -> None:
    config = ResolvedConfig(
        "CartPole-v1", total_timesteps=10_000, num_envs=8, num_steps=100, num_minibatches=4
    )
    assert config.num_iterations == 13
    assert dataclasses.replace(config, total_timesteps=800).num_iterations == 1


def test_rate_and_entropy_bonus_fall_to_zero_unless_they_are_to_stay() -> None:
    config = ResolvedConfig(
        "CartPole-v1",
        num_envs=8,
        num_steps=100,
        num_minibatches=4,
        total_timesteps=3200,
        learning_rate=0.4,
        ent_coef=0.8,
    )
    now = [config.scheduled(iteration) for iteration in range(4)]
    assert [one.learning_rate for one in now] == pytest.approx([0.4, 0.3, 0.2, 0.1])
    assert [one.ent_coef for one in now] == pytest.approx([0.8, 0.6, 0.4, 0.2])
    stays = dataclasses.replace(config, lr_schedule="constant", ent_schedule="constant")
    assert stays.scheduled(3) == stays


@pytest.mark.parametrize(
    ("steps", "environments"), [(1, 8), (100_000, 8), (300_000, 20), (1_000_000, 64), (10**9, 64)]
)
def test_short_runs_have_fewer_environments_unless_given(steps: int, environments: int) -> None:
    config = choose_sizes(TrainConfig("CartPole-v1", total_timesteps=steps), None)
    assert (config.num_steps, config.num_envs) == (128, environments)
    longer = dataclasses.replace(config, total_timesteps=10**9)
    assert choose_sizes(longer, 500) == longer  # a resumed run keeps its environments
    requested = TrainConfig("CartPole-v1", total_timesteps=steps, num_envs=3, num_minibatches=1)
    assert choose_sizes(requested, None).num_envs == 3


@pytest.mark.parametrize(
    ("episode", "total", "steps", "environments", "minibatches"),
    [
        (1, 10**6, 128, 64, 4),
        (51, 10**6, 153, 52, 4),
        (103, 10**6, 103, 76, 4),
        (103, 150_000, 103, 32, 8),
        (200, 10**6, 200, 40, 4),
        (200, 100_000, 128, 8, 4),  # 8 episodes would leave 62 rollouts
        (200, 200_000, 200, 32, 16),
        (500, 300_000, 128, 20, 4),
        (600, 10**6, 600, 32, 8),
        (1026, 10**7, 1026, 32, 16),
        (2048, 10**7, 2048, 16, 16),  # no more than 40,960 steps
        (3000, 10**7, 128, 64, 4),
    ],
)
def test_rollouts_hold_32_whole_episodes_where_these_are_not_too_long(
    episode: int, total: int, steps: int, environments: int, minibatches: int
) -> None:
    config = TrainConfig("CartPole-v1", total_timesteps=total)
    sized = choose_sizes(config, episode)
    assert (sized.num_steps, sized.num_envs, sized.num_minibatches) == (
        steps,
        environments,
        minibatches,
    )
    assert sized.num_envs % sized.num_minibatches == 0
    assert sized.as_requested() == config
    assert TrainConfig.from_json(sized.to_json()) == sized
    requested = choose_sizes(dataclasses.replace(config, num_steps=32), episode)
    assert requested.as_requested().num_steps == 32
    assert requested.num_steps == 32
    assert choose_sizes(dataclasses.replace(config, seq_len=64), episode).num_steps == 128
    asked = choose_sizes(dataclasses.replace(config, num_minibatches=2), episode)
    assert (asked.num_steps, asked.num_minibatches) == (steps, 2)
    assert asked.num_envs in range(environments, environments + 5, 2)


@pytest.mark.parametrize(("episode", "total"), [(51, 100_000), (40, 60_000), (51, 10**6)])
def test_the_steps_of_a_rollout_and_its_minibatches_are_told_as_they_are(
    episode: int, total: int
) -> None:
    sized = choose_sizes(TrainConfig("CartPole-v1", total_timesteps=total), episode)
    why = sized.reasons["num_envs"]
    assert why.startswith(f"rollouts of {sized.batch_size:,} steps (")
    assert why.endswith(f"a multiple of num_minibatches, {sized.num_minibatches})")
