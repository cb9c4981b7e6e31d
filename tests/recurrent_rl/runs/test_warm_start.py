"""A run that begins with a trained policy."""

from __future__ import annotations

import dataclasses
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.policy import load_policy
from recurrent_rl.cli import main
from recurrent_rl.errors import UserError
from recurrent_rl.runs.callbacks import TrainingState
from recurrent_rl.runs.checkpoint import save_checkpoint
from recurrent_rl.runs.evaluation import evaluate
from recurrent_rl.runs.folder import RunFolder
from recurrent_rl.runs.training import resume, train
from recurrent_rl.trainer import Trainer
from recurrent_rl.vector_env.config import EnvConfig
from tests.agents.test_sb3 import ACTION, converted
from tests.recurrent_rl.runs.checkpoints import load_checkpoint
from tests.recurrent_rl.runs.small_runs import assert_same, config, weights


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run."""
    return train(config(tmp_path_factory.mktemp("before"), seed=5), progress=False).run_dir


@pytest.mark.parametrize("what", ["", "policy.safetensors"])
def test_a_run_begins_with_weights_and_normalisers_of_another(
    trained: Path, tmp_path: Path, what: str
) -> None:
    settings = config(tmp_path, init_from=str(trained / what))
    trainer = Trainer(settings)
    assert_same(weights(trainer), load_policy(trained).agent.state_dict())
    assert not trainer.optimizer.state
    trainer.close()


class Clock(gym.Env[Any, Any]):
    """Shows the time since 1970, from a start that its episodes have in common."""

    action_space = gym.spaces.Discrete(2)
    observation_space = gym.spaces.Box(0, np.inf, (1,), np.float64)

    def __init__(self, start: float = 1.7e9) -> None:
        self.start = start

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.time = 0
        return np.array([self.start]), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.time += 1
        return np.array([self.start + self.time]), float(action), self.time == 4, False, {}


def test_what_a_policy_subtracts_from_observations_stays_where_they_begin_elsewhere(
    tmp_path: Path,
) -> None:
    before = Trainer(config(tmp_path, None), env=partial(Clock, 1.7e9))
    before.iterate()
    before.policy().save(path := tmp_path / "policy.safetensors")
    begun = Trainer(config(tmp_path, None, init_from=str(path)), env=partial(Clock, 1.7e9 + 50))
    assert_same(begun.agent.state_dict(), load_policy(path).agent.state_dict())
    assert begun.collector.rollout.components[""][-1].unique().tolist() == [50.0]


@pytest.mark.parametrize("begins", [False, True])
def test_what_a_run_subtracts_from_observations_stays_where_it_resumes_elsewhere(
    begins: bool, tmp_path: Path
) -> None:
    before = Trainer(config(tmp_path, None), env=Clock)
    before.iterate()
    before.policy().save(path := tmp_path / "policy.safetensors")
    init_from, later = (str(path), 50) if begins else (None, 0)
    settings = config(tmp_path, None, init_from=init_from)
    cut = Trainer(settings, env=partial(Clock, 1.7e9 + later))
    cut.iterate()
    save_checkpoint(cut, checkpoint := tmp_path / "checkpoint.safetensors")
    resumed = Trainer(settings, env=partial(Clock, 1.7e9 + 3600), fresh=False)
    assert not load_checkpoint(resumed, checkpoint)
    assert resumed.collector.rollout.components[""][-1].unique().tolist() == [3600.0]


def test_several_workers_resume_a_run_that_began_with_a_policy(tmp_path: Path) -> None:
    before = Trainer(config(tmp_path, None), env=Clock)
    before.policy().save(path := tmp_path / "policy.safetensors")
    settings = config(
        tmp_path / "runs", f"{__name__}:Clock", init_from=str(path), workers=2, worker_timeout=60
    )
    half = dataclasses.replace(settings, total_timesteps=8 * 16)
    result = resume(train(half, progress=False).run_dir, total_timesteps=8 * 16 * 2, progress=False)
    assert result.timesteps == 8 * 16 * 2


class Wandering(gym.Env[Any, Any]):
    """Shows doubles, as MuJoCo's environments do."""

    action_space = ACTION
    observation_space = gym.spaces.Dict(
        {"place": gym.spaces.Box(-50, 50, (2,), np.float64), "sign": gym.spaces.Discrete(3)}
    )

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return {"place": np.ones(2), "sign": 0}, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.reset()[0], 0.0, True, False, {}


def test_training_begins_with_what_a_converted_policy_does(tmp_path: Path) -> None:
    policy = converted(observation_space=Wandering.observation_space)
    policy.save(path := tmp_path / "converted.safetensors")
    settings = config(tmp_path, None, agent=policy.config, init_from=str(path))
    trainer = Trainer(settings, env=Wandering)
    seen = {"place": np.array([15.0, -2.0]), "sign": 1}
    found, expected = (
        one.predict(seen, deterministic=True)[0] for one in (trainer.policy(), policy)
    )
    assert np.array_equal(found, expected)
    trainer.close()


def test_a_run_that_began_so_resumes_without_that_policy(trained: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copied.safetensors"
    shutil.copy(trained / "policy.safetensors", copied)
    settings = config(tmp_path / "runs", init_from=str(copied), checkpoint_interval=1e9)
    whole = train(settings, progress=False)

    def stop(state: TrainingState) -> None:
        if state.iteration == 2:
            state.stop("enough")

    cut = train(settings, progress=False, callbacks=[stop])
    copied.unlink()
    resume(cut.run_dir, progress=False)
    ours, theirs = (load_policy(run.run_dir).agent.state_dict() for run in (cut, whole))
    assert_same(ours, theirs)


@pytest.mark.slow
def test_two_workers_begin_with_the_same(trained: Path, tmp_path: Path) -> None:
    settings = config(tmp_path, init_from=str(trained))
    one, two = (
        train(dataclasses.replace(settings, workers=n), progress=False).run_dir for n in (1, 2)
    )
    for name, x in load_policy(one).agent.state_dict().items():
        torch.testing.assert_close(
            load_policy(two).agent.state_dict()[name], x, rtol=1e-3, atol=1e-4
        )


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"agent": AgentConfig("gru", hidden_size=16, encoder_size=16)}, "with memory 'lstm': set"),
        (
            {"agent": AgentConfig("lstm", hidden_size=32, encoder_size=8, activation="relu")},
            r"with encoder_size 16, activation 'tanh': set the same .*\(all by --config with the "
            r"config\.json of its run, or agent=load_policy\(PATH\)\.config\)",
        ),
        (
            {"agent": AgentConfig("lstm", hidden_size=8, encoder_size=16)},
            "with hidden_size 16, and its memory, lstm, cannot have 8 units instead: it may only",
        ),
        ({"env_id": "recurrent_rl/Recall-v0"}, "trained with the observation space"),
        ({"env_id": "recurrent_rl/CartPole-NoVelocity-v0"}, "trained with the observation space"),
    ],
)
def test_a_policy_of_another_kind_is_refused(
    trained: Path, tmp_path: Path, changes: dict[str, Any], what: str
) -> None:
    with pytest.raises(UserError, match=what):
        train(config(tmp_path, init_from=str(trained), **changes), progress=False)
    assert not list(tmp_path.iterdir())


def test_a_run_takes_all_settings_of_the_agent_from_that_it_begins_with(
    trained: Path, tmp_path: Path
) -> None:
    settings = dataclasses.replace(
        config(tmp_path, init_from=str(trained)), agent=load_policy(trained).config
    )
    Trainer(settings).close()
    flags = ["--init-from", str(trained), "--log-dir", str(tmp_path), "--seed", "7", "-q"]
    with pytest.raises(SystemExit) as end:
        main(["train", "--config", str(trained / "config.json"), *flags])
    assert end.value.code == 0
    (run,) = tmp_path.iterdir()
    made = RunFolder(run).load_config()
    assert (made.agent, made.seed) == (settings.agent, 7)


def test_a_missing_policy_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.safetensors"):
        train(config(tmp_path, init_from=str(tmp_path / "nowhere.safetensors")), progress=False)


def test_hidden_entries_must_be_the_same(tmp_path: Path) -> None:
    env_id = "CartPole-v1"
    before = train(config(tmp_path, env_id), progress=False).run_dir
    hides = config(tmp_path, env_id, init_from=str(before), env=EnvConfig(hide_indices=(1, 3)))
    with pytest.raises(UserError, match="trained with the hide_indices"):
        train(hides, progress=False)


@pytest.mark.parametrize(
    "agent",
    [
        AgentConfig("lstm", separate_memory=True, critic_memory=False),
        AgentConfig("lstm", separate_memory=True),
        AgentConfig("none", actor_layers=(12,), critic_layers=(12,)),
    ],
    ids=["critic without memory", "two memories", "no memory"],
)
def test_what_does_not_read_a_memory_stays_where_one_grows(
    agent: AgentConfig, tmp_path: Path
) -> None:
    small = dataclasses.replace(agent, hidden_size=8, encoder_size=16)
    before = Trainer(config(tmp_path, agent=small))
    before.policy().save(path := tmp_path / "policy.safetensors")
    larger = dataclasses.replace(small, hidden_size=24)
    grown = Trainer(config(tmp_path, init_from=str(path), agent=larger))
    components = {name: x[:-1] for name, x in before.collector.rollout.components.items()}
    found = [
        one.agent.unroll(components, one.agent.initial_state(8))[0].value for one in (before, grown)
    ]
    torch.testing.assert_close(*found)


def test_a_run_begins_with_a_smaller_memory(trained: Path, tmp_path: Path) -> None:
    larger = AgentConfig("lstm", hidden_size=24, encoder_size=16)
    settings = config(tmp_path, seed=3, init_from=str(trained), agent=larger)
    grown = Trainer(settings)
    policy, theirs = grown.policy(), load_policy(trained)
    grown.close()
    small = evaluate(theirs, "recurrent_rl/TMaze-v0", 20, seed=1)
    again = evaluate(policy, "recurrent_rl/TMaze-v0", 20, seed=1)
    assert again.returns.tolist() == small.returns.tolist()
    run = train(settings, progress=False).run_dir
    assert load_policy(run).config.hidden_size == 24
