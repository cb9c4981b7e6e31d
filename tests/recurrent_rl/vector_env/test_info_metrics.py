"""Numbers in infos: of each episode their mean and their last, in whatever form they come."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv, VectorWrapper
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.policy import Policy
from recurrent_rl.cli.evaluation_table import print_evaluation
from recurrent_rl.collector import Collector
from recurrent_rl.config import TrainConfig
from recurrent_rl.episodes import Info
from recurrent_rl.errors import UserError
from recurrent_rl.runs.evaluation import evaluate
from recurrent_rl.runs.evaluation_result import Evaluation, EvaluationSummary
from recurrent_rl.runs.folder import RunFolder
from recurrent_rl.runs.training import resume, train
from recurrent_rl.trainer import Trainer
from recurrent_rl.vector_env.config import EnvConfig
from recurrent_rl.vector_env.environments import Environments
from recurrent_rl.vector_env.vectorize import make_vector_env
from tests.recurrent_rl.telling_envs import HERE, Plain, Succeeding, Telling

KEYS = ("t", "odd", "end")
SMALL = AgentConfig("gru", hidden_size=8, encoder_size=8)
WAYS: dict[str, tuple[str, EnvConfig]] = {
    "in turn": ("Telling-v0", EnvConfig(info_metrics=KEYS)),
    "in processes": ("Telling-v0", EnvConfig(info_metrics=KEYS, vectorization="async")),
    "NEXT_STEP": ("TellingNEXT_STEP-v0", EnvConfig(info_metrics=KEYS)),
    "SAME_STEP": ("TellingSAME_STEP-v0", EnvConfig(info_metrics=KEYS)),
}


def agent_for(env: VectorEnv) -> ActorCritic:
    torch.manual_seed(0)
    return ActorCritic(env.single_observation_space, env.single_action_space, SMALL)


def expected(length: int) -> dict[str, Info]:
    odd = range(1, length + 1, 2)
    return {
        "t": Info((1 + length) / 2, length),
        "odd": Info(float(np.mean(odd)), length if length % 2 else None),
        "end": Info(10 * length, 10 * length),
    }


@pytest.mark.parametrize("form", [float, int, np.float32, lambda x: np.array([x])])
@pytest.mark.parametrize("way", WAYS)
def test_an_episode_has_the_mean_over_its_steps_and_the_last_value(
    way: str, form: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if form is not float and way == "in processes":
        pytest.skip("one form is enough where processes are started")
    monkeypatch.setattr(Telling, "form", staticmethod(form))
    env_id, config = WAYS[way]
    with closing(make_vector_env(f"{HERE}:{env_id}", 3, config)) as env:
        collector = Collector(env, agent_for(env), 40, 40, seed=0)
        collector.collect(0)
        ended = collector.episodes.latest()
    assert {one.length for one in ended.episodes} == {2, 3, 4, 5}
    for one in ended.episodes:
        assert one.infos == expected(one.length)
    means = ended.means()
    finals = [one.infos["odd"].final for one in ended.episodes]
    assert means["rollout/info_t_final"] == means["rollout/ep_len_mean"]
    assert means["rollout/info_odd_final"] == np.mean([x for x in finals if x is not None])


@pytest.mark.parametrize("way", WAYS)
def test_an_evaluation_has_them_and_its_json_and_its_table_too(way: str) -> None:
    env_id, config = WAYS[way]
    with closing(make_vector_env(f"{HERE}:{env_id}", 3, config)) as env:
        played = evaluate(Policy(agent_for(env)), env, 20, seed=0)
    for i, length in enumerate(played.lengths.tolist()):
        for key, info in expected(length).items():
            columns = played.infos[key]
            assert columns.mean[i] == info.mean
            assert np.isnan(columns.final[i]) if info.final is None else columns.final[i] == info[1]
    scalars = played.scalars()
    assert scalars["eval/info_t_final"] == played.mean_length
    assert scalars["eval/info_end_mean"] == 10 * played.mean_length
    figures = EvaluationSummary.of(played)
    text = json.dumps(figures.to_json(), allow_nan=False)
    assert json.loads(text)["infos"]["t"]["final"] == played.mean_length
    assert EvaluationSummary.from_json(json.loads(text)) == figures
    console = Console(record=True, width=120)
    print_evaluation(console, {"deterministic": played}, 20, env_id, config, "run")
    assert f"t, final │ {played.mean_length:21.4g}".replace(" ", "") in (
        console.export_text().replace(" ", "")
    )


def test_an_evaluation_without_them_has_no_second_table_and_an_old_file_is_read() -> None:
    played = Evaluation(np.ones(2), np.ones(2, dtype=np.int64), np.zeros(0))
    console = Console(record=True, width=120)
    print_evaluation(console, {"deterministic": played}, 2, "X-v0", EnvConfig(), "run")
    assert "infos" not in console.export_text()
    fields = EvaluationSummary.of(played).to_json()
    del fields["infos"]
    assert EvaluationSummary.from_json(fields).infos == {}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("fast", "t is 'fast'; expected a number"),
        (np.ones(2), r"t is array\(\[1., 1.\]\); expected a number"),
        (float("nan"), "t nan in environment 0; expected a finite float32 number"),
        (1e39, r"t 1e\+39 in environment 0; expected a finite float32 number"),
    ],
)
@pytest.mark.parametrize("way", ["in turn", "NEXT_STEP"])
def test_what_is_no_number_is_refused_by_environment_and_step(
    way: str, value: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Telling, "form", staticmethod(lambda t: value))
    env_id, config = WAYS[way]
    env = make_vector_env(f"{HERE}:{env_id}", 2, config)
    if way == "NEXT_STEP":
        message = "t .* in environment 0; expected a finite float32 number"
    fix = r"\. Report one number under this key, or leave it out of info_metrics\.$"
    with pytest.raises(UserError, match=rf"step 1: .*{message}{fix}"):
        evaluate(Policy(agent_for(env)), env, 2, seed=0)


def test_a_column_of_another_length_is_refused() -> None:
    class Short(VectorWrapper[Any, Any, Any, Any, Any]):
        def step(self, actions: Any) -> Any:
            return *self.env.step(actions)[:4], {"t": given.pop()}

    inner: Any = make_vector_env(f"{HERE}:Telling-v0", 3, EnvConfig(info_metrics=("t",)))
    given: list[Any] = [np.ones(2), [1.0], 1.0]
    while given:
        environments = Environments(Short(inner), agent_for(inner))
        environments.reset(0)
        with pytest.raises(UserError, match="expected one value of each of 3 environments"):
            environments.step(np.zeros(3, np.int64))


@pytest.mark.parametrize("keys", [("",), ("_t",), ("t", "t"), ("final_obs",), ("a\nb",), "t", 3])
def test_keys_that_cannot_be_are_refused_by_name(keys: Any) -> None:
    with pytest.raises(UserError, match="info_metrics"):
        EnvConfig(info_metrics=keys)


def config(log_dir: Path, env_id: str, *keys: str, **changes: Any) -> TrainConfig:
    return dataclasses.replace(
        TrainConfig(
            f"{HERE}:{env_id}",
            log_dir=str(log_dir),
            num_envs=4,
            num_steps=16,
            num_minibatches=2,
            total_timesteps=4 * 16 * 4,
            update_epochs=1,
            memory_interval=None,
            eval_episodes=10,
            device="cpu",
            agent=SMALL,
            env=EnvConfig(info_metrics=keys),
        ),
        **changes,
    )


def test_tensorboard_has_the_tags_and_a_policy_file_knows_the_keys(tmp_path: Path) -> None:
    result = train(config(tmp_path, "Telling-v0", "t", "odd"), progress=False)
    events = EventAccumulator(str(result.run_dir))
    events.Reload()
    for group, points in (("rollout", 4), ("eval", 1)):
        for key in ("t", "odd"):
            for what in ("mean", "final"):
                assert len(events.Scalars(f"{group}/info_{key}_{what}")) == points
    saved = RunFolder(result.run_dir).load_evaluation()
    assert saved is not None
    assert saved.deterministic.infos["t"].final == saved.deterministic.mean_length
    assert result.notes == ()


def test_a_key_that_no_environment_reports_is_told_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = train(config(tmp_path, "Telling-v0", "t", "tt", eval_episodes=0))
    told = "No environment has reported 'tt' in its infos so far"
    assert capsys.readouterr().err.count(told) == 1
    assert [note for note in result.notes if note.startswith(told)] == list(result.notes)
    assert len(result.notes) == 1


@pytest.mark.parametrize("mode", [None, AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
@pytest.mark.parametrize(
    ("key", "metrics", "count"),
    [("success", (), 1), ("success", ("success",), 0), ("is_success", (), 0)],
)
def test_a_success_under_another_name_is_told_once(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    mode: AutoresetMode | None,
    key: str,
    metrics: tuple[str, ...],
    count: int,
) -> None:
    mine = type("Mine", (Succeeding,), {"key": key})
    env: Any = mine
    if mode is not None:
        env = SyncVectorEnv([mine] * 4, autoreset_mode=mode)
    settings = dataclasses.replace(config(tmp_path, "", *metrics, eval_episodes=0), env_id=None)
    result = train(settings, env)
    told = "infos have 'success', which is not read"
    flag = 'EnvConfig(info_metrics=("success",)) (--info-metrics success)'
    assert [told in note and flag in note for note in result.notes] == [True] * count
    assert capsys.readouterr().err.count(told) == count


def rollouts(run: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[Any, list[Any]]:
    """What a run comes to, and the scalars of its rollouts."""
    found: list[Any] = []

    def note(state: Any) -> None:
        found.append({tag: x for tag, x in state.metrics.items() if tag.startswith("rollout")})

    return run(*arguments, progress=False, callbacks=[note], **options), found


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_run_that_is_resumed_logs_the_same_bit_for_bit(tmp_path: Path, workers: int) -> None:
    whole = config(tmp_path / "whole", "TellingBatch-v0", "t", "odd", num_steps=13, workers=workers)
    half = dataclasses.replace(whole, log_dir=str(tmp_path / "half"), total_timesteps=4 * 13 * 2)
    half = dataclasses.replace(half, eval_episodes=0)
    whole = dataclasses.replace(whole, total_timesteps=4 * 13 * 4)
    schedules: dict[str, Any] = {"lr_schedule": "constant", "ent_schedule": "constant"}
    _, at_once = rollouts(train, dataclasses.replace(whole, **schedules))
    stopped, first = rollouts(train, dataclasses.replace(half, **schedules))
    _, then = rollouts(resume, stopped.run_dir, total_timesteps=4 * 13 * 4)
    assert len(first) == len(then) == 2
    assert first + then == at_once
    assert {"rollout/info_t_mean", "rollout/info_odd_final"} <= at_once[-1].keys()


def test_a_key_may_be_added_to_a_run_that_is_resumed(tmp_path: Path) -> None:
    stopped = train(config(tmp_path, "TellingBatch-v0", eval_episodes=0), progress=False)
    folder = RunFolder(stopped.run_dir)
    fields = json.loads(folder.config.read_text())
    fields["env"]["info_metrics"] = ["t"]
    folder.config.write_text(json.dumps(fields))
    _, then = rollouts(resume, folder.path, total_timesteps=4 * 16 * 6)
    assert "rollout/info_t_mean" in then[-1]


def test_a_run_from_before_there_were_keys_is_read(tmp_path: Path) -> None:
    fields = json.loads(TrainConfig("CartPole-v1", num_envs=4, num_steps=16).to_json())
    del fields["env"]["info_metrics"]
    assert TrainConfig.from_json(json.dumps(fields)).env == EnvConfig()


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_an_episode_that_is_recorded_inside_has_the_return_told_there(
    mode: AutoresetMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(self: Telling, action: Any) -> Any:
        seen, reward, *rest = original(self, action)
        return seen, 3 * reward, *rest

    original = Telling.step
    monkeypatch.setattr(Telling, "step", step)
    single = make_vector_env(f"{HERE}:Recording-v0", 3)
    halved = gym.wrappers.vector.TransformReward(
        RecordEpisodeStatistics(SyncVectorEnv([Plain] * 3, autoreset_mode=mode)),
        lambda rewards: rewards / 2,
    )
    for env in (single, halved):
        collector = Collector(env, agent_for(env), 40, 40, seed=0)
        rollout = collector.collect(0)
        assert rollout.rewards.max() == 1.5  # what is learnt from
        for one in collector.episodes.ended:
            assert one.total == 3 * one.length
            assert one.length in (2, 3, 4, 5)
        played = evaluate(Policy(agent_for(env)), env, 10, seed=0)
        assert (played.returns == 3 * played.lengths).all()


@pytest.mark.parametrize("told", [3, "x", {}, {"r": "one", "l": 2}, {"r": np.ones(2), "l": 2}])
def test_an_info_that_is_called_episode_and_is_another_thing_does_no_harm(
    told: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(self: Telling, action: Any) -> Any:
        result = original(self, action)
        result[4]["episode"] = told
        return result

    original = Telling.step
    monkeypatch.setattr(Telling, "step", step)
    trainer = Trainer(config(Path(), "Telling-v0"))
    trainer.iterate()
    assert all(one.total == one.length for one in trainer.ended.episodes)
    assert trainer.ended.episodes
    vector = SyncVectorEnv([Plain] * 2, autoreset_mode=AutoresetMode.SAME_STEP)
    played = evaluate(Policy(agent_for(vector)), vector, 6, seed=0)
    assert (played.returns == played.lengths).all()
