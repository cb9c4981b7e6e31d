"""Resuming a run: from its last checkpoint, on the same task, with nothing lost."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, VectorEnv

from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.policy import load_policy
from recurrent_rl.errors import UserError
from recurrent_rl.runs.checkpoint import save_checkpoint
from recurrent_rl.runs.folder import CHECKPOINT, CONFIG, EVALUATION, POLICY, RunFolder
from recurrent_rl.runs.training import resume, train
from recurrent_rl.trainer import Trainer
from recurrent_rl.vector_env.config import EnvConfig
from tests.recurrent_rl.runs.checkpoints import load_checkpoint
from tests.recurrent_rl.runs.small_runs import assert_same, config, evaluations, files, weights


@pytest.mark.parametrize(
    "env_id",
    [
        "recurrent_rl/TMaze-v0",
        "recurrent_rl/CartPole-NoVelocity-Noisy-v0",
        "recurrent_rl/Pendulum-NoVelocity-v0",
    ],
)
def test_an_interrupted_and_resumed_run_equals_the_uninterrupted_one(
    tmp_path: Path, env_id: str
) -> None:
    agent = AgentConfig("gru", hidden_size=16, encoder_size=16, previous_action=True)
    settings = config(tmp_path, env_id, agent=agent)
    whole = Trainer(settings)
    metrics = [whole.iterate() for _ in range(6)]

    first = Trainer(settings)
    for _ in range(3):
        first.iterate()
    save_checkpoint(first, tmp_path / CHECKPOINT)
    second = Trainer(settings)
    assert load_checkpoint(second, tmp_path / CHECKPOINT)
    assert second.timesteps == first.timesteps
    resumed = [second.iterate() for _ in range(3)]

    assert_same(weights(whole), weights(second))
    for expected, got in zip(metrics[3:], resumed, strict=True):
        assert got == pytest.approx(expected, nan_ok=True, rel=0, abs=0)
    assert second.ended == whole.ended  # each with the step at which it ended
    assert second.collector.environments.steps == whole.collector.environments.steps


class ResetsInStepsOfTheirOwn(VectorEnv[Any, Any, Any]):
    """Shows the step; episodes of four steps, and a fifth that only resets. It tells its state."""

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012

    def __init__(self, num_envs: int) -> None:
        self.num_envs = num_envs
        self.single_observation_space = gym.spaces.Box(0, 4, (1,), np.float32)
        self.single_action_space = gym.spaces.Discrete(2)
        self.t = np.zeros(num_envs, np.int64)

    def _shown(self) -> Any:
        return self.t[:, None].astype(np.float32)

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        self.t[:] = 0
        return self._shown(), {}

    def step(self, actions: Any) -> Any:
        self.t = np.where(self.t == 4, 0, self.t + 1)
        none = np.zeros(self.num_envs, dtype=bool)
        return self._shown(), (self.t > 0) + actions, self.t == 4, none, {}

    def state_dict(self) -> Any:
        return {"t": self.t.copy()}

    def load_state_dict(self, state: Any) -> None:
        self.t[:] = state["t"]


def test_an_episode_that_ended_at_the_checkpoint_is_over_in_the_resumed_run(tmp_path: Path) -> None:
    # The fourth row ends an episode, the first of the next rollout only resets.
    sizes = {"num_envs": 2, "num_steps": 4, "seq_len": 4, "num_minibatches": 1}
    settings = config(tmp_path, None, **sizes)

    def trainer() -> Trainer:
        return Trainer(settings, env=ResetsInStepsOfTheirOwn)

    whole, first, second = trainer(), trainer(), trainer()
    whole.iterate()
    first.iterate()
    save_checkpoint(first, tmp_path / CHECKPOINT)
    assert load_checkpoint(second, tmp_path / CHECKPOINT)
    expected, found = whole.iterate(), second.iterate()
    for got in (whole.collector.rollout, second.collector.rollout):
        assert got.valid[:, 0].tolist() == [False, True, True, True, True]
        assert got.episode_start[:, 0].tolist() == [False, True, False, False, False]
    assert found == pytest.approx(expected, nan_ok=True, rel=0, abs=0)
    assert second.ended == whole.ended
    assert_same(weights(whole), weights(second))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_run_resumes_to_the_same_weights_under_another_default_type(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    settings = config(tmp_path, total_timesteps=8 * 16 * 2)
    whole = train(settings, progress=False)
    torch.set_default_dtype(dtype)
    try:
        half = dataclasses.replace(settings, total_timesteps=8 * 16)
        begun = train(half, progress=False).run_dir
        resumed = resume(begun, total_timesteps=8 * 16 * 2, progress=False)
    finally:
        torch.set_default_dtype(torch.float32)
    one, other = (load_policy(result.policy_path) for result in (whole, resumed))
    assert_same(one.agent.state_dict(), other.agent.state_dict())


def test_an_environment_without_a_state_of_its_own_resumes_with_new_episodes(
    tmp_path: Path,
) -> None:
    settings = config(tmp_path, "CartPole-v1", env=EnvConfig(vectorization="sync"))
    first = Trainer(settings)
    first.iterate()
    save_checkpoint(first, tmp_path / CHECKPOINT)
    second = Trainer(settings)
    assert not load_checkpoint(second, tmp_path / CHECKPOINT)
    assert_same(weights(first), weights(second))
    assert second.collector.rollout.episode_start[-1].all()
    before = second.collector.next_row()["leaf/"].clone()
    assert not torch.equal(before, Trainer(settings).collector.next_row()["leaf/"])
    second.iterate()


def test_a_finished_run_can_be_trained_further(tmp_path: Path) -> None:
    result = train(config(tmp_path), progress=False)
    steps: Any = np.int64(8 * 16 * 8)
    longer = resume(result.run_dir, total_timesteps=steps, progress=False)
    assert longer.timesteps == 8 * 16 * 8
    assert json.loads((result.run_dir / CONFIG).read_text())["total_timesteps"] == 1024


def test_resuming_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no run"):
        resume(tmp_path)


def test_a_run_that_has_only_its_settings_starts_from_its_first_step(tmp_path: Path) -> None:
    whole = train(config(tmp_path / "whole"), progress=False)
    run_dir = tmp_path / "prepared"
    RunFolder(run_dir).save_config(config(tmp_path / "whole"))
    told: list[int] = []
    started = resume(
        run_dir, progress=False, callbacks=[lambda state: told.append(state.timesteps)]
    )
    assert told == [128, 256, 384, 512, 640, 768]
    first, second = (load_policy(r.policy_path).agent.state_dict() for r in (whole, started))
    assert_same(first, second)


def test_a_run_without_its_checkpoint_begins_anew_and_keeps_the_policy_that_was_there(
    tmp_path: Path,
) -> None:
    run_dir = train(config(tmp_path), progress=False).run_dir
    before = (run_dir / POLICY).read_bytes()
    (run_dir / CHECKPOINT).unlink()
    again = resume(run_dir, progress=False)
    assert again.resumed_from == 0
    assert RunFolder(run_dir).earlier_policy.read_bytes() == before
    assert again.notes[0].startswith("There is no checkpoint.safetensors: training begins at the")
    second = (run_dir / POLICY).read_bytes()
    (run_dir / CHECKPOINT).unlink()
    notes = resume(run_dir, progress=False, total_timesteps=8 * 16).notes
    assert notes[0].endswith("policies: earlier-2.safetensors.")
    assert RunFolder(run_dir).earlier_policy.read_bytes() == before
    assert (run_dir / "policies" / "earlier-2.safetensors").read_bytes() == second


def test_a_run_that_begins_anew_keeps_nothing_that_was_found_of_another_policy(
    tmp_path: Path,
) -> None:
    settings = config(tmp_path, eval_interval=256, eval_episodes=4)
    folder = RunFolder(train(settings, progress=False).run_dir)
    best = folder.best_policy.read_bytes()
    folder.checkpoint.unlink()
    again = config(tmp_path, eval_episodes=4, learning_rate=0.01)
    folder.save_config(again)
    resumed = resume(folder.path, progress=False)
    assert resumed.evaluation is not None
    assert load_policy(folder.policy).summary["timesteps"] == 768
    assert not folder.best_policy.exists()
    assert folder.earlier_best_policy.read_bytes() == best
    folder.checkpoint.unlink()
    folder.save_config(dataclasses.replace(again, eval_episodes=0))
    resume(folder.path, progress=False)
    assert not folder.evaluation.exists()


def test_a_finished_run_is_not_evaluated_again_and_one_without_an_evaluation_is(
    tmp_path: Path,
) -> None:
    result = train(config(tmp_path, eval_episodes=20), progress=False)
    before = files(result.run_dir)
    again = resume(result.run_dir, progress=False)
    assert (again.timesteps, again.resumed_from, again.evaluation) == (768, 768, None)
    assert files(result.run_dir) == before
    (result.run_dir / EVALUATION).unlink()
    lacking = resume(result.run_dir, compare=True, progress=False)
    assert lacking.evaluation is not None
    np.testing.assert_array_equal(lacking.evaluation.returns, result.evaluation.returns)  # type: ignore[union-attr]
    saved = RunFolder(result.run_dir).load_evaluation()
    assert saved is not None
    assert saved.memory_ablation is not None
    longer = resume(result.run_dir, total_timesteps=1024, progress=False)
    assert longer.resumed_from == 768
    assert longer.evaluation is not None
    assert [step for step, _ in evaluations(result.run_dir)][-1] == 1024


def test_a_finished_run_without_its_policy_gets_it_back(tmp_path: Path) -> None:
    result = train(config(tmp_path), progress=False)
    before = load_policy(result.policy_path)
    result.policy_path.unlink()
    resume(result.run_dir, progress=False)
    again = load_policy(result.policy_path)
    assert_same(before.agent.state_dict(), again.agent.state_dict())
    assert before.summary == again.summary


@pytest.mark.parametrize("edited", [False, True])
def test_fewer_steps_than_a_run_has_are_refused_and_every_file_stays(
    tmp_path: Path, edited: bool
) -> None:
    result = train(config(tmp_path, eval_episodes=5), progress=False)
    if edited:
        RunFolder(result.run_dir).save_config(config(tmp_path, total_timesteps=300))
    before = files(result.run_dir)
    with pytest.raises(UserError, match=r"768 steps already, more than total_timesteps 300\."):
        resume(result.run_dir, total_timesteps=None if edited else 300, progress=False)
    assert files(result.run_dir) == before
    resume(result.run_dir, total_timesteps=700, progress=False)  # a part of the last rollout


def test_a_run_that_is_extended_says_how_far_the_schedules_jump(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = config(tmp_path, learning_rate=0.006, ent_coef=0.012)
    result = train(settings, progress=False)
    seen: list[dict[str, float]] = []
    longer = resume(
        result.run_dir,
        total_timesteps=768 * 2,
        callbacks=[lambda state: seen.append(state.metrics)],
    )
    (note,) = longer.notes
    assert "new total of 1,536 steps" in note
    # Of 6 iterations the last is at 1/6 of the start; of 12, the seventh is at 1/2.
    assert "the learning rate goes from 0.001 to 0.003" in note
    assert "the entropy bonus goes from 0.002 to 0.006" in note
    assert seen[0]["train/learning_rate"] == pytest.approx(0.003)
    assert note in capsys.readouterr().out
    constant = config(tmp_path, lr_schedule="constant", ent_schedule="constant")
    result = train(constant, progress=False)
    assert resume(result.run_dir, total_timesteps=1024, progress=False).notes == ()


def test_a_run_whose_total_was_edited_says_so_too_and_an_unchanged_one_says_nothing(
    tmp_path: Path,
) -> None:
    stopped = Trainer(config(tmp_path))
    stopped.iterate()
    for total, notes in ((768, 0), (1536, 1)):
        run_dir = tmp_path / str(total)
        RunFolder(run_dir).save_config(config(tmp_path, total_timesteps=total))
        save_checkpoint(stopped, run_dir / CHECKPOINT)
        assert len(resume(run_dir, progress=False).notes) == notes


def test_edited_sizes_are_refused_and_every_file_stays(tmp_path: Path) -> None:
    result = train(config(tmp_path), progress=False)
    edited = config(tmp_path, num_envs=4, total_timesteps=10_000)
    RunFolder(result.run_dir).save_config(edited)
    before = files(result.run_dir)
    with pytest.raises(UserError, match=r"num_envs 8, where config\.json has 4"):
        resume(result.run_dir, progress=False)
    assert files(result.run_dir) == before


def test_a_run_resumes_on_another_device(tmp_path: Path) -> None:
    result = train(config(tmp_path), progress=False)
    with_cuda = dataclasses.replace(config(tmp_path), device="cuda:77", total_timesteps=1024)
    RunFolder(result.run_dir).save_config(with_cuda)
    with pytest.raises(UserError, match="cuda:77"):
        resume(result.run_dir, progress=False)
    assert resume(result.run_dir, device="cpu", progress=False).timesteps == 1024
    assert resume(result.run_dir, total_timesteps=1152, progress=False).timesteps == 1152


def test_resuming_removes_what_a_killed_save_left(tmp_path: Path) -> None:
    settings = config(tmp_path, total_timesteps=8 * 16)
    run_dir = train(settings, progress=False).run_dir
    leftovers = [
        run_dir / f".{CHECKPOINT}.a1b2_3d4.saving",
        run_dir / "policies" / ".policy_000000000128.safetensors.a1b2_3d4.saving",
    ]
    leftovers[1].parent.mkdir()
    for leftover in leftovers:
        leftover.touch()
    resume(run_dir, progress=False)
    assert not [leftover for leftover in leftovers if leftover.exists()]
    assert (run_dir / CHECKPOINT).exists()


def test_settings_that_were_edited_since_the_checkpoint_are_told(tmp_path: Path) -> None:
    settings = config(tmp_path, total_timesteps=8 * 16 * 2)
    folder = RunFolder(train(settings, progress=False).run_dir)
    assert resume(folder.path, total_timesteps=8 * 16 * 3, progress=False).notes[1:] == ()
    text = json.loads((folder.path / CONFIG).read_text())
    text |= {"gamma": 0.5, "checkpoint_interval": 9.0}
    (folder.path / CONFIG).write_text(json.dumps(text))
    (told,) = [
        note
        for note in resume(folder.path, total_timesteps=8 * 16 * 4, progress=False).notes
        if "edited" in note
    ]
    assert told == (
        "config.json was edited since the last checkpoint, and the run goes on with what it says "
        "now: gamma was 0.99 and is 0.5."
    )
