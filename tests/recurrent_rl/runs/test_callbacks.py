"""What callbacks are told, what they may do, and the ready ones that settings ask for."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import signal
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from recurrent_rl.agents.policy import load_policy
from recurrent_rl.cli import main
from recurrent_rl.config import ResolvedConfig, TrainConfig
from recurrent_rl.episodes import Info
from recurrent_rl.errors import UserError
from recurrent_rl.group import Group
from recurrent_rl.resolve import choose_sizes
from recurrent_rl.runs.callbacks import AnyCallback, Callback, TrainingState
from recurrent_rl.runs.checkpoint import save_checkpoint
from recurrent_rl.runs.checkpoint_file import read_checkpoint
from recurrent_rl.runs.folder import RunFolder, RunState
from recurrent_rl.runs.training import TrainResult, resume, train
from recurrent_rl.schedules import at
from recurrent_rl.signals import StopSignals
from recurrent_rl.trainer import Trainer
from recurrent_rl.vector_env.config import EnvConfig
from recurrent_rl.vector_env.environments import Environments
from tests.recurrent_rl.corridor import LIMIT, Telling
from tests.recurrent_rl.runs.small_runs import assert_same, config

BATCH = 8 * 16
EVENTS = ("on_start", "on_rollout", "on_iteration", "on_evaluation", "on_end")


class Notes(Callback):
    """Notes what it is told, at how many steps."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []
        self.state: TrainingState | None = None

    def note(self, event: str, state: TrainingState) -> None:
        self.told.append((event, state.timesteps))
        self.state = state


def _noting(event: str) -> Any:
    return lambda self, state: self.note(event, state)


for _event in EVENTS:
    setattr(Notes, _event, _noting(_event))


def evaluated(tmp_path: Path, **changes: Any) -> TrainConfig:
    """Six iterations, evaluated after every second."""
    return config(tmp_path, **{"eval_interval": 2 * BATCH, "eval_episodes": 4} | changes)


def learnt(result: TrainResult) -> dict[str, torch.Tensor]:
    """The weights of a run's policy file."""
    return load_policy(result.policy_path).agent.state_dict()


def scalars(run_dir: Path, tag: str) -> dict[int, float]:
    events = EventAccumulator(str(run_dir))
    events.Reload()
    return {event.step: event.value for event in events.Scalars(tag)}


def test_a_callback_is_told_of_each_event_in_order(tmp_path: Path) -> None:
    notes = Notes()
    train(evaluated(tmp_path), progress=False, callbacks=[notes])
    expected: list[tuple[str, int]] = [("on_start", 0)]
    for i in range(1, 7):
        expected.append(("on_rollout", (i - 1) * BATCH))
        if i % 2 == 0:
            expected.append(("on_evaluation", i * BATCH))
        expected.append(("on_iteration", i * BATCH))
    assert notes.told == [*expected, ("on_end", 6 * BATCH)]


def test_a_callback_sees_policy_rollout_metrics_folder_and_writer(tmp_path: Path) -> None:
    class Looks(Callback):
        def on_rollout(self, state: TrainingState) -> None:
            assert state.rollout.rewards.shape == (16, 8)

        def on_iteration(self, state: TrainingState) -> None:
            with pytest.raises(UserError, match="there within on_rollout alone"):
                _ = state.rollout
            assert state.metrics["train/approx_kl"] >= 0
            assert state.iteration == state.timesteps // BATCH
            assert isinstance(state.config, ResolvedConfig)
            state.policy.save(state.run_dir / "mine.safetensors")
            state.log({"mine/steps": float(state.timesteps)})
            state.writer.add_scalar("mine/too", 1.0, state.timesteps)

    result = train(config(tmp_path), progress=False, callbacks=[Looks()])
    mine = load_policy(result.run_dir / "mine.safetensors")
    assert_same(mine.agent.state_dict(), load_policy(result.policy_path).agent.state_dict())
    assert scalars(result.run_dir, "mine/steps")[BATCH] == BATCH
    assert len(scalars(result.run_dir, "mine/too")) == 6


def test_a_function_is_called_after_each_iteration(tmp_path: Path) -> None:
    told: list[int] = []
    train(config(tmp_path), progress=False, callbacks=[lambda state: told.append(state.timesteps)])
    assert told == [BATCH * i for i in range(1, 7)]


@pytest.mark.parametrize(
    ("given", "what"),
    [
        (None, "callbacks is None; give a list"),
        ("text", "callbacks is 'text'"),
        ([Notes], "holds the class Notes; give an instance"),
        ([3], "callbacks holds 3; give a list"),
        ([type("Mine", (Callback,), {"_on_step": id})()], "Mine has a method _on_step, which noth"),
    ],
)
def test_what_is_no_list_of_callbacks_is_refused(tmp_path: Path, given: Any, what: str) -> None:
    with pytest.raises(UserError, match=what):
        train(config(tmp_path), progress=False, callbacks=given)
    assert not list(tmp_path.iterdir())


def test_a_callback_stops_the_run_which_can_be_resumed(tmp_path: Path) -> None:
    def enough(state: TrainingState) -> None:
        if state.timesteps == 3 * BATCH:
            state.stop("I have seen enough")
            state.stop("a second reason")

    whole = train(config(tmp_path / "whole"), progress=False)
    stopped = train(
        config(tmp_path, eval_episodes=4, checkpoint_interval=1e9),
        progress=False,
        callbacks=[enough],
    )
    assert (stopped.timesteps, stopped.stop_reason) == (3 * BATCH, "I have seen enough")
    assert stopped.stopped_by is None
    assert stopped.evaluation is not None
    assert RunFolder(stopped.run_dir).state() is RunState.STOPPED
    resumed = resume(stopped.run_dir, progress=False)
    assert (resumed.timesteps, resumed.stop_reason) == (6 * BATCH, None)
    assert_same(learnt(resumed), learnt(whole))
    for reason in (None, "", 3):
        with pytest.raises(UserError, match="takes the reason as text"):
            train(config(tmp_path), progress=False, callbacks=[_stopping(reason)])


@pytest.mark.parametrize("event", EVENTS)
def test_an_error_in_a_callback_loses_nothing(
    tmp_path: Path, event: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fails(Notes):
        def note(self, told: str, state: TrainingState) -> None:
            super().note(told, state)
            if told == event and state.timesteps >= 2 * BATCH and event != "on_start":
                raise LookupError("no such dashboard")

    fails = Fails()
    whole = train(evaluated(tmp_path / "whole"), progress=False)
    settings = evaluated(tmp_path / "broken")
    if event == "on_start":
        begun = train(settings, progress=False, callbacks=[_stop_at(2 * BATCH)])
        monkeypatch.setattr(Fails, "on_start", lambda *_: _raise(LookupError("no such dashboard")))
        with pytest.raises(LookupError):
            resume(begun.run_dir, progress=False, callbacks=[fails])
    else:
        with pytest.raises(LookupError, match="no such dashboard"):
            train(settings, progress=False, callbacks=[fails])
    (run_dir,) = (tmp_path / "broken").iterdir()
    assert fails.told[-1][0] == "on_end"
    resumed = resume(run_dir, progress=False)
    if event == "on_rollout":  # in the middle of an iteration, whose rollout is lost
        assert resumed.timesteps == whole.timesteps
    else:
        assert_same(learnt(resumed), learnt(whole))


def _raise(error: Exception) -> None:
    raise error


def _stopping(reason: Any) -> Any:
    return lambda state: state.stop(reason)


def _stop_at(steps: int) -> Any:
    return lambda state: state.stop("enough") if state.timesteps == steps else None


def test_evaluating_changes_nothing_in_what_is_learnt(tmp_path: Path) -> None:
    plain = train(config(tmp_path / "plain"), progress=False)
    result = train(evaluated(tmp_path / "evaluated"), progress=False)
    assert_same(learnt(result), learnt(plain))


def test_the_best_policy_is_that_of_the_best_evaluation(tmp_path: Path) -> None:
    found: dict[int, float] = {}

    class Sees(Callback):
        def on_evaluation(self, state: TrainingState) -> None:
            assert state.evaluation is not None
            found[state.timesteps] = state.evaluation.mean

    settings = evaluated(tmp_path, eval_interval=BATCH, eval_episodes=16, learning_rate=0.05)
    result = train(settings, progress=False, callbacks=[Sees()])
    assert list(found) == [BATCH * i for i in range(1, 7)]
    assert len(set(found.values())) > 1
    best = load_policy(RunFolder(result.run_dir).best_policy)
    at_best = best.summary["timesteps"]
    assert at_best == next(step for step, mean in found.items() if mean == max(found.values()))
    assert best.summary["eval/mean_reward"] == max(found.values())
    curve = scalars(result.run_dir, "eval/mean_reward")
    assert curve == {step: pytest.approx(mean) for step, mean in found.items()}
    assert result.evaluation is not None
    assert result.evaluation.mean == found[6 * BATCH]
    saved = RunFolder(result.run_dir).load_evaluation()
    assert saved is not None
    assert (saved.timesteps, saved.deterministic.mean_return) == (6 * BATCH, found[6 * BATCH])


def test_a_resumed_run_knows_its_best_policy(tmp_path: Path) -> None:
    settings = evaluated(tmp_path, eval_interval=BATCH, eval_episodes=16, learning_rate=0.05)
    whole = train(dataclasses.replace(settings, log_dir=str(tmp_path / "whole")), progress=False)
    for steps in (2 * BATCH, 4 * BATCH):
        cut = train(settings, progress=False, callbacks=[_stop_at(steps)])
        resume(cut.run_dir, progress=False)
        ours, theirs = (load_policy(RunFolder(r.run_dir).best_policy) for r in (cut, whole))
        assert ours.summary == theirs.summary
        assert_same(ours.agent.state_dict(), theirs.agent.state_dict())


def test_the_last_policy_of_a_run_that_a_callback_ends_is_compared_with_the_best(
    tmp_path: Path,
) -> None:
    notes = Notes()
    settings = evaluated(tmp_path, eval_interval=2 * BATCH)
    cut = train(settings, progress=False, callbacks=[_stop_at(3 * BATCH), notes])
    told = [(event, steps) for event, steps in notes.told if steps == 3 * BATCH]
    assert told == [(event, 3 * BATCH) for event in ("on_iteration", "on_evaluation", "on_end")]
    assert cut.evaluation is not None
    assert list(scalars(cut.run_dir, "eval/mean_reward")) == [2 * BATCH, 3 * BATCH]
    assert cut.stop_reason == "enough"


def test_an_evaluation_that_a_signal_prevented_is_made_up_for_when_the_run_is_resumed(
    tmp_path: Path,
) -> None:
    class Interrupts(Callback):
        def on_rollout(self, state: TrainingState) -> None:
            if state.timesteps == BATCH:  # before the iteration at whose end one is due
                os.kill(os.getpid(), signal.SIGTERM)

    notes, settings = Notes(), evaluated(tmp_path, eval_episodes=16, learning_rate=0.05)
    with StopSignals() as stop:
        cut = train(settings, progress=False, callbacks=[Interrupts()], stop=stop)
    assert (cut.stopped_by, cut.timesteps) == (signal.SIGTERM, 2 * BATCH)
    assert not RunFolder(cut.run_dir).evaluation.exists()
    resumed = resume(cut.run_dir, progress=False, callbacks=[notes])
    whole = train(dataclasses.replace(settings, log_dir=str(tmp_path / "whole")), progress=False)
    assert notes.told[:2] == [("on_start", 2 * BATCH), ("on_evaluation", 2 * BATCH)]
    mine, other = (scalars(r.run_dir, "eval/mean_reward") for r in (resumed, whole))
    assert mine == other
    ours, theirs = (load_policy(RunFolder(r.run_dir).best_policy) for r in (resumed, whole))
    assert ours.summary == theirs.summary
    assert_same(ours.agent.state_dict(), theirs.agent.state_dict())


def test_an_evaluation_made_up_for_may_end_the_run_as_it_would_have(tmp_path: Path) -> None:
    class Interrupts(Callback):
        def on_rollout(self, state: TrainingState) -> None:
            if state.timesteps == BATCH:
                os.kill(os.getpid(), signal.SIGTERM)

    settings = evaluated(tmp_path, stop_at_return=-1e6)
    with StopSignals() as stop:
        cut = train(settings, progress=False, callbacks=[Interrupts()], stop=stop)
    resumed = resume(cut.run_dir, progress=False)
    assert resumed.timesteps == 2 * BATCH
    assert resumed.stop_reason is not None
    assert "stop_at_return" in resumed.stop_reason


def test_a_run_that_lost_its_patience_goes_on_when_it_is_resumed(tmp_path: Path) -> None:
    settings = evaluated(
        tmp_path, eval_interval=BATCH, patience=2 * BATCH, learning_rate=1e-12, ent_coef=0.0
    )
    assert train(settings, progress=False).timesteps == 3 * BATCH
    (run_dir,) = tmp_path.iterdir()
    again = resume(run_dir, progress=False)
    assert again.timesteps == 5 * BATCH
    assert again.stop_reason is not None
    assert f"after {BATCH} steps, and patience is {2 * BATCH} steps" in again.stop_reason


@pytest.mark.parametrize("iteration", [8, 9], ids=["at an evaluation", "between two"])
def test_a_resumed_run_that_is_killed_has_the_patience_that_it_had(
    tmp_path: Path, iteration: int
) -> None:
    class Kills(Callback):
        """Copies the run as it is after an iteration, whose checkpoint is not yet written."""

        def on_iteration(self, state: TrainingState) -> None:
            if state.iteration == iteration:
                shutil.copytree(state.run_dir, tmp_path / "killed")

    settings = evaluated(
        tmp_path,
        total_timesteps=20 * BATCH,
        patience=4 * BATCH,
        checkpoint_interval=0.0,
        learning_rate=1e-12,
        ent_coef=0.0,
    )
    impatient = train(settings, progress=False)
    assert (settings.eval_interval, impatient.timesteps) == (2 * BATCH, 6 * BATCH)
    whole = resume(impatient.run_dir, progress=False, callbacks=[Kills()])
    killed = resume(tmp_path / "killed", progress=False)
    assert killed.resumed_from == (iteration - 1) * BATCH
    assert whole.timesteps == killed.timesteps == 10 * BATCH


def test_a_signal_does_not_make_a_run_more_patient(tmp_path: Path) -> None:
    settings = evaluated(
        tmp_path, eval_interval=BATCH, patience=3 * BATCH, learning_rate=1e-12, ent_coef=0.0
    )
    cut = train(settings, progress=False, callbacks=[_stop_at(2 * BATCH)])
    assert resume(cut.run_dir, progress=False).timesteps == 4 * BATCH


def test_a_run_stops_at_a_return(tmp_path: Path) -> None:
    settings = evaluated(tmp_path, stop_at_return=-1e6)
    result = train(settings, progress=False)
    assert result.timesteps == 2 * BATCH
    assert result.stop_reason is not None
    assert result.stop_reason.endswith("and stop_at_return -1e+06")


def test_a_run_without_progress_stops(tmp_path: Path) -> None:
    # Nothing is learnt at such a rate, so that no evaluation is better than the first.
    settings = evaluated(
        tmp_path, eval_interval=BATCH, patience=3 * BATCH, learning_rate=1e-12, ent_coef=0.0
    )
    result = train(settings, progress=False)
    assert result.timesteps == 4 * BATCH
    assert result.stop_reason is not None
    assert f"after {BATCH} steps, and patience is {3 * BATCH} steps" in result.stop_reason


def test_policies_are_kept_by_their_steps(tmp_path: Path) -> None:
    result = train(config(tmp_path, save_interval=2 * BATCH - 1), progress=False)
    kept = sorted((result.run_dir / "policies").iterdir())
    steps = [load_policy(path).summary["timesteps"] for path in kept]
    assert steps == [2 * BATCH, 4 * BATCH, 6 * BATCH]
    assert kept[0].name == "policy_000000000256.safetensors"
    assert_same(load_policy(kept[-1]).agent.state_dict(), learnt(result))


def test_a_signal_cuts_an_evaluation_short_and_drops_it(tmp_path: Path) -> None:
    class Interrupts(Callback):
        def on_iteration(self, state: TrainingState) -> None:
            if state.timesteps == BATCH:
                os.kill(os.getpid(), signal.SIGTERM)

        def on_evaluation(self, state: TrainingState) -> None:
            raise AssertionError("there was none")

    stop = StopSignals()
    with stop:
        result = train(evaluated(tmp_path), progress=False, callbacks=[Interrupts()], stop=stop)
    assert result.stopped_by == signal.SIGTERM
    assert not RunFolder(result.run_dir).evaluation.exists()


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"patience": 5}, "patience needs evaluations during training: set eval_interval"),
        ({"stop_at_return": 1.0}, "stop_at_return needs evaluations"),
        ({"eval_interval": 5, "eval_episodes": 0}, "set eval_episodes above 0"),
        ({"eval_interval": 0}, "eval_interval is 0"),
    ],
)
def test_settings_that_need_others_say_which(
    tmp_path: Path, changes: dict[str, Any], what: str
) -> None:
    with pytest.raises(UserError, match=what):
        train(config(tmp_path, **changes), progress=False)


def test_a_setting_passes_through_its_schedule() -> None:
    settings = TrainConfig(
        "recurrent_rl/TMaze-v0",
        num_envs=8,
        num_steps=16,
        total_timesteps=BATCH * 8,
        lr_schedule="constant",
        schedules={"clip_coef": [0.4, 0.2], "ent_coef": [0, 1, 0], "target_kl": [0.1, 0.1]},
    )
    run = choose_sizes(settings, None)
    assert [run.scheduled(i).clip_coef for i in (0, 4, 8)] == pytest.approx([0.4, 0.3, 0.2])
    assert [run.scheduled(i).ent_coef for i in range(0, 9, 2)] == [0, 0.5, 1, 0.5, 0]
    assert run.scheduled(3).learning_rate == run.learning_rate
    assert run.scheduled(3).target_kl == pytest.approx(0.1)
    assert TrainConfig.from_json(run.to_json()) == run
    assert [at([1.0, 3.0, 2.0], x) for x in (0, 0.25, 0.5, 0.75, 1)] == [1, 2, 3, 2.5, 2]


@pytest.mark.parametrize(
    ("schedules", "what"),
    [
        (
            {"clip_coeff": [1, 2]},
            r"schedules is 'clip_coeff'; it must be one of .* Did you mean clip_coef\?",
        ),
        ({"clip_coef": [1]}, "give at least two numbers"),
        ({"clip_coef": 0.2}, "give at least two numbers"),
        ({"clip_coef": [0.2, "a"]}, "give at least two numbers"),
        ({"clip_coef": [0.2, True]}, "give at least two numbers"),
        ({"gamma": [0.9, 1.5]}, "In schedules: gamma is 1.5"),
        ({"learning_rate": [1e-3, 0, 1e-3]}, "In schedules: learning_rate is 0.0; it must be gr"),
        ({"learning_rate": [1e-3, -1e-3]}, "In schedules: learning_rate is -0.001"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(schedules: dict[str, Any], what: str) -> None:
    with pytest.raises(UserError, match=what):
        TrainConfig("recurrent_rl/TMaze-v0", schedules=schedules)


def test_a_schedule_may_end_at_zero_as_the_linear_one_does(tmp_path: Path) -> None:
    to_zero = {"learning_rate": [1e-3, 0], "clip_coef": [0.2, 0]}
    given = config(tmp_path, schedules=to_zero, total_timesteps=256)
    run = choose_sizes(given, None)
    linear = choose_sizes(dataclasses.replace(given, schedules={}, lr_schedule="linear"), None)
    rates = [run.scheduled(i).learning_rate for i in range(run.num_iterations)]
    assert rates == [linear.scheduled(i).learning_rate for i in range(run.num_iterations)]
    assert train(given, progress=False).timesteps == 256


def test_a_run_of_before_there_were_these_settings_is_read(tmp_path: Path) -> None:
    settings = choose_sizes(config(tmp_path), None)
    text = settings.to_json()
    for name in ("eval_interval", "stop_at_return", "patience", "save_interval"):
        text = text.replace(f'  "{name}": null,\n', "")
    text = text.replace('  "schedules": {},\n', "")
    assert "schedules" not in text
    assert TrainConfig.from_json(text) == settings


def test_what_is_logged_is_numbers_and_an_error_says_to_give_the_callbacks_again(
    tmp_path: Path,
) -> None:
    told = r"'mine' is 'text'. Texts and .* 1 whole iteration \(128 steps\) is saved; .*"
    with pytest.raises(UserError, match=rf"{told}resume\('.*', callbacks=\[...\]\)"):
        train(
            config(tmp_path),
            progress=False,
            callbacks=[lambda state: state.log({"mine": "text"})],  # type: ignore[dict-item]
        )


def test_the_loop_takes_an_environment_as_train_does(tmp_path: Path) -> None:
    settings = dataclasses.replace(config(tmp_path), env_id=None)
    trainer = Trainer(settings, env=lambda: gym.make("CartPole-v1"))
    next(iter(trainer))
    trainer.close()
    assert (trainer.config.env_id, trainer.timesteps) == ("<lambda>", BATCH)


def test_the_loop_is_an_iterator(tmp_path: Path) -> None:
    trainer = Trainer(config(tmp_path))
    steps = [(trainer.timesteps, metrics["train/epochs"]) for metrics in trainer]
    trainer.close()
    assert [step for step, _ in steps] == [BATCH * i for i in range(1, 7)]
    assert list(trainer) == []
    whole = train(config(tmp_path), progress=False)
    for name, x in load_policy(whole.policy_path).agent.state_dict().items():
        assert torch.equal(x, trainer.agent.state_dict()[name])


def test_several_workers_are_evaluated_and_stopped_by_the_first(tmp_path: Path) -> None:
    alone = train(evaluated(tmp_path / "a", stop_at_return=-1e6), progress=False)
    result = train(evaluated(tmp_path / "b", stop_at_return=-1e6, workers=2), progress=False)
    assert result.timesteps == alone.timesteps == 2 * BATCH
    assert RunFolder(result.run_dir).best_policy.exists()
    for name, x in learnt(result).items():
        torch.testing.assert_close(x, learnt(alone)[name], rtol=1e-3, atol=1e-4)


class Lengthens(Callback):
    """A curriculum: the corridors of iteration i have a length of 10 + i."""

    name = "length"

    def on_start(self, state: TrainingState) -> None:
        state.set_env_attr(self.name, 10 + state.iteration)

    def on_iteration(self, state: TrainingState) -> None:
        self.on_start(state)

    def on_end(self, state: TrainingState) -> None:
        self.ended = state.trainer.ended.episodes


def telling(tmp_path: Path, *, wrapped: bool = False, **changes: Any) -> TrainConfig:
    """Four iterations of an episode of each environment, whose lengths are logged."""
    env = EnvConfig(
        info_metrics=("length", "steps"),
        vectorization=changes.pop("vectorization", "auto"),
        flicker=0.1 if wrapped else 0.0,
    )
    sizes = {"num_steps": 2 * LIMIT, "num_envs": 4, "total_timesteps": 4 * 4 * 2 * LIMIT}
    where = changes.pop("env_id", "tests.recurrent_rl.corridor:Telling")
    return config(tmp_path, where, env=env, seq_len=None, **sizes | changes)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("length", {}),
        ("steps", {"wrapped": True}),
        ("steps", {"vectorization": "async"}),
        ("length", {"workers": 2}),
    ],
)
def test_a_callback_sets_an_attribute_of_all_environments(
    tmp_path: Path, name: str, changes: dict[str, Any]
) -> None:
    lengthens = Lengthens()
    lengthens.name = name
    settings = telling(tmp_path, **changes, eval_interval=4 * 4 * 2 * LIMIT, eval_episodes=4)
    result = train(settings, progress=False, callbacks=[lengthens])
    told = [(one.environment, one.step // (2 * LIMIT), one.infos[name]) for one in lengthens.ended]
    every = [(e, i + 1, Info(10 + i, 10 + i)) for i in range(4) for e in range(4)]
    assert told == every
    assert result.evaluation is not None  # whose environments keep their own
    own = {"length": 3, "steps": 0}[name]
    assert result.evaluation.scalars()[f"eval/info_{name}_mean"] == own


class LengthensOnce(Callback):
    """Sets what the others do not set again, as late as can be; ends the run at its middle."""

    def on_iteration(self, state: TrainingState) -> None:
        if state.iteration == 1:
            state.set_env_attr("kept", np.arange(3))  # is no JSON
            state.set_env_attr("length", 17)
        if state.iteration == 2:
            state.set_env_attr("length", np.int64(18))
            state.stop("enough")

    def on_end(self, state: TrainingState) -> None:
        self.ended = state.trainer.ended.episodes


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_what_was_set_in_the_environments_is_set_again_where_a_run_is_resumed(
    tmp_path: Path, workers: int
) -> None:
    env, callback = EnvConfig(info_metrics=("length", "begun")), LengthensOnce()
    settings = dataclasses.replace(telling(tmp_path, workers=workers), env=env)
    result = train(settings, progress=False, callbacks=[callback])
    lengths = [tuple(x.final for x in one.infos.values()) for one in callback.ended]
    assert lengths == [(3, 3)] * 4 + [(17, 3)] * 4
    resumed = resume(result.run_dir, progress=False, callbacks=[callback])
    lengths = [tuple(x.final for x in one.infos.values()) for one in callback.ended]
    assert lengths[8:] == [(18, 18)] * 8
    told = "'kept' was set by a callback and cannot be kept in a checkpoint: set it in on_start."
    assert told in resumed.notes


class Stage(str, Enum):
    FIRST = "first"


def test_only_what_json_gives_back_as_it_was_is_kept_of_what_was_set(tmp_path: Path) -> None:
    kept = {"a": [1, {"b": None}], "c": True, "d": np.float32(0.5), "e": "text", "f": [np.pi]}
    lost = {"t": (1, 2), "u": [(1,)], "v": Stage.FIRST, "w": {"x": Stage.FIRST}, "y": {1: 2}}
    trainer = Trainer(config(tmp_path))
    trainer.env_attributes = kept | lost
    save_checkpoint(trainer, tmp_path / "it")
    checkpoint = read_checkpoint(tmp_path / "it")
    assert checkpoint.env_attributes == kept
    assert checkpoint.env_attributes_lost == list(lost)


def test_an_attribute_that_is_gone_when_a_run_is_resumed_is_told_as_set_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = train(telling(tmp_path), progress=False, callbacks=[LengthensOnce()])
    monkeypatch.setattr(Environments, "set_attribute", gone)
    told = "no such thing. A callback had set it before the run was resumed, as "
    with pytest.raises(UserError, match=re.escape(told)):
        resume(result.run_dir, progress=False)


def gone(*_: Any) -> None:
    raise UserError("no such thing.")


def test_a_given_vector_environment_is_set_and_its_own_at_the_end(tmp_path: Path) -> None:
    class Outer(gym.vector.VectorWrapper[Any, Any, Any, Any, Any]):
        pass

    same_step = gym.vector.AutoresetMode.SAME_STEP
    given = gym.vector.SyncVectorEnv([Telling] * 4, autoreset_mode=same_step)
    train(
        dataclasses.replace(telling(tmp_path), env_id=None),
        Outer(given),
        progress=False,
        callbacks=[Lengthens()],
    )
    assert given.get_attr("length") == (13,) * 4


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_an_attribute_that_no_environment_has_is_refused(tmp_path: Path, workers: int) -> None:
    lengthens = Lengthens()
    lengthens.name = "lenght"
    with pytest.raises(UserError, match=r"does not have the attribute 'lenght' that a callback"):
        train(telling(tmp_path, workers=workers), progress=False, callbacks=[lengthens])


def test_an_attribute_that_cannot_be_set_is_refused(tmp_path: Path) -> None:
    def sets(name: Any, value: Any) -> AnyCallback:
        return lambda state: state.set_env_attr(name, value)

    with pytest.raises(UserError, match=r"TMaze-v0 .*one batch, without .* Vary env_kwargs"):
        train(config(tmp_path), progress=False, callbacks=[sets("length", 3)])
    with pytest.raises(UserError, match=r"CartPole-v1 .*one batch, .* Set vectorization to sync"):
        train(config(tmp_path, "CartPole-v1"), progress=False, callbacks=[sets("gravity", 3.0)])
    with pytest.raises(
        UserError, match=r"refuses what .* attribute 'fixed' to: .*Set another value"
    ):
        train(telling(tmp_path), progress=False, callbacks=[sets("fixed", 3)])
    with pytest.raises(UserError, match=r"set_env_attr\(\) takes the attribute's name as text"):
        train(config(tmp_path), progress=False, callbacks=[sets(3, 3)])
    state: Any = object.__new__(TrainingState)
    state.trainer = SimpleNamespace(group=Group(rank=0, size=2), env_attributes={})
    with pytest.raises(UserError, match="'length' cannot be sent to the other workers"):
        state.set_env_attr("length", lambda: 3)
    assert not state.trainer.env_attributes


def test_the_command_evaluates_stops_and_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "recurrent_rl/TMaze-v0", "--total-timesteps", "1e6", "--log-dir"]
    flags = ["--eval-interval", "2000", "--stop-at-return", "-1e6", "--eval-episodes", "5"]
    schedule = ["--schedules", '{"clip_coef": [0.3, 0.1]}', "--save-interval", "2000"]
    with pytest.raises(SystemExit) as end:
        main([*command, str(tmp_path), *flags, *schedule])
    assert end.value.code == 0
    printed = capsys.readouterr().out.replace("\n", " ")
    assert "Stopped early: an evaluation's mean return is" in printed
    (run_dir,) = tmp_path.iterdir()
    assert f"Best:      {RunFolder(run_dir).best_policy}" in printed
    assert RunFolder(run_dir).best_policy.exists()
