"""Runs whose critic sees more than the actor."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.policy import load_policy
from recurrent_rl.cli import main
from recurrent_rl.collector import Collector
from recurrent_rl.config import TrainConfig
from recurrent_rl.envs.cartpole import CartPole
from recurrent_rl.errors import UserError
from recurrent_rl.runs.callbacks import TrainingState
from recurrent_rl.runs.checkpoint_file import read_checkpoint
from recurrent_rl.runs.evaluation import evaluate
from recurrent_rl.runs.folder import RunFolder
from recurrent_rl.runs.imitation import imitate
from recurrent_rl.runs.recorded import RecordedEpisode
from recurrent_rl.runs.training import resume, train
from recurrent_rl.trainer import Trainer
from recurrent_rl.vector_env.config import EnvConfig
from tests.recurrent_rl.runs.small_runs import assert_same, config, weights

ENV_ID = "recurrent_rl/CartPole-NoVelocity-v0"
AGENT = AgentConfig("gru", hidden_size=8, encoder_size=8, critic_keys=("state",))
SHOWN = EnvConfig({"true_state": True, "max_episode_steps": 20})


def small(tmp_path: Path, **changes: Any) -> TrainConfig:
    settings: dict[str, Any] = {"agent": AGENT, "env": SHOWN, **changes}
    return config(tmp_path, ENV_ID, **settings)


@pytest.mark.parametrize("separate", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_run_resumes_bit_for_bit_and_its_policies_lack_the_critics_keys(
    tmp_path: Path, separate: bool
) -> None:
    settings = small(
        tmp_path,
        agent=dataclasses.replace(AGENT, separate_memory=separate),
        refresh_state=True,
        checkpoint_interval=1e9,
        eval_interval=256,
        save_interval=256,
        eval_episodes=3,
    )
    whole = RunFolder(train(settings, progress=False).run_dir)

    def stop(state: TrainingState) -> None:
        if state.iteration == 2:
            assert "state" not in str(state.policy.observation_space)
            state.stop("enough")

    cut = train(settings, progress=False, callbacks=[stop]).run_dir
    resume(cut, progress=False)
    ours, theirs = (RunFolder(path).checkpoint for path in (cut, whole.path))
    assert_same(*(read_checkpoint(path).group("agent") for path in (ours, theirs)))
    for file in (whole.policy, whole.best_policy, whole.numbered_policy(256)):
        policy = load_policy(file)
        assert list(policy.observation_space.spaces) == ["positions"]  # type: ignore[attr-defined]
    found = evaluate(policy, ENV_ID, 5, env_config=SHOWN, seed=3)
    with pytest.raises(SystemExit, match="0"):
        main(["evaluate", str(whole.path), "--episodes", "5", "--quiet"])

    class Bare(gym.ObservationWrapper[Any, Any, Any]):
        def __init__(self) -> None:
            super().__init__(gym.make(ENV_ID, max_episode_steps=20))
            self.observation_space = spaces.Dict({"positions": self.env.observation_space})

        def observation(self, observation: Any) -> Any:
            return {"positions": observation}

    assert evaluate(policy, Bare, 5, seed=3).mean == found.mean


def test_an_environment_that_lacks_a_key_of_the_actors_is_refused(tmp_path: Path) -> None:
    policy = Trainer(small(tmp_path)).policy()
    only = EnvConfig({"true_state": True}, observe=("state",))
    with pytest.raises(UserError, match="trained for the observation space"):
        evaluate(policy, ENV_ID, 1, env_config=only)


def test_an_iteration_takes_in_the_statistics_of_what_the_critic_sees(tmp_path: Path) -> None:
    trainer = Trainer(small(tmp_path))
    trainer.iterate()
    assert trainer.agent.privileged is not None
    (moments,) = trainer.agent.privileged.normaliser.moments
    seen = trainer.collector.rollout.components["state"][:-1].double()
    torch.testing.assert_close(moments.mean, seen.mean((0, 1)))
    trainer.close()


def test_a_truncated_episode_is_valued_by_what_the_critic_saw_last() -> None:
    torch.manual_seed(0)
    settings = dataclasses.replace(AGENT, encoder_layers=0, normalize_observations=False)
    env, endless = CartPole(4, true_state=True, max_episode_steps=5), CartPole(4, true_state=True)
    agent = ActorCritic(env.single_observation_space, env.single_action_space, settings)
    agent.critic.weight.detach()[:, -5:-1] = torch.tensor([1.0, 10.0, 100.0, 1000.0])
    rollout = Collector(env, agent, num_steps=8, chunk_length=8, seed=1).collect()
    assert rollout.truncated[4].all()
    endless.reset(seed=3)
    endless.physics = rollout.components["state"][0].numpy().astype(np.float64)
    for t in range(5):
        endless.step(rollout.actions[t].numpy())
    expected = endless.physics @ [1.0, 10.0, 100.0, 1000.0]
    torch.testing.assert_close(
        rollout.next_values[4], torch.as_tensor(expected).float(), rtol=1e-3, atol=1e-3
    )


def test_a_run_begins_with_what_acts_of_another_and_a_critic_of_its_own(tmp_path: Path) -> None:
    before = train(small(tmp_path), progress=False).run_dir
    acting = load_policy(before).agent.state_dict()
    fresh = weights(Trainer(small(tmp_path, seed=7)))
    blind = EnvConfig(SHOWN.env_kwargs, wrappers=("tests.recurrent_rl.runs.test_asymmetric:blind",))
    for changes in ({}, {"agent": dataclasses.replace(AGENT, critic_keys=()), "env": blind}):
        begun = weights(Trainer(small(tmp_path, seed=7, init_from=str(before), **changes)))
        assert_same({name: begun[name] for name in acting}, acting)
        for name in begun.keys() - acting.keys():
            assert changes or torch.equal(begun[name], fresh[name]), name
    symmetric = train(small(tmp_path, **changes), progress=False).run_dir
    begun = weights(Trainer(small(tmp_path, seed=7, init_from=str(symmetric))))
    theirs = load_policy(symmetric).agent.state_dict()
    assert_same({name: begun[name] for name in acting}, {name: theirs[name] for name in acting})
    assert torch.equal(begun["critic.weight"], fresh["critic.weight"])


def blind(env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
    return gym.wrappers.FilterObservation(env, ["positions"])


def test_recorded_episodes_need_not_tell_what_the_critic_sees(tmp_path: Path) -> None:
    trainer = Trainer(small(tmp_path))
    before = weights(trainer)
    seen = [{"positions": np.full(2, 0.1 * i, np.float32)} for i in range(6)]
    found = imitate(
        trainer.policy(), [RecordedEpisode(seen, [1] * 6, [1.0] * 6)], epochs=30, progress=False
    )
    assert found.log_likelihood[-1] > found.log_likelihood[0]
    after = weights(trainer)
    assert not torch.equal(before["head.linear.weight"], after["head.linear.weight"])
    assert torch.equal(before["critic.weight"], after["critic.weight"])


@pytest.mark.slow
def test_two_workers_learn_what_one_would(tmp_path: Path) -> None:
    one, two = (train(small(tmp_path, workers=n), progress=False).run_dir for n in (1, 2))
    for name, x in load_policy(one).agent.state_dict().items():
        torch.testing.assert_close(
            load_policy(two).agent.state_dict()[name], x, rtol=1e-3, atol=1e-4
        )
