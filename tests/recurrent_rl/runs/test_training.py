"""Training runs: reproducible, resumable weight for weight, and safe when they end early."""

import contextlib
import ctypes
import dataclasses
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.kernels import library
from recurrent_rl.agents.policy import Policy, load_policy
from recurrent_rl.errors import UserError
from recurrent_rl.experiments.results import learning_curve, load_evaluated_run
from recurrent_rl.runs.callbacks import AnyCallback, TrainingState
from recurrent_rl.runs.folder import CHECKPOINT, CONFIG, EVALUATION, POLICY, RunFolder
from recurrent_rl.runs.training import TrainResult, resume, train
from recurrent_rl.signals import StopSignals
from recurrent_rl.trainer import Trainer
from recurrent_rl.vector_env.config import EnvConfig
from tests.recurrent_rl.runs.checkpoints import load_checkpoint
from tests.recurrent_rl.runs.small_runs import (
    assert_same,
    config,
    evaluations,
    fail_at,
    registered,
    weights,
)


def test_the_default_threads_leave_the_weights_as_they_are_on_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = AgentConfig("lstm", hidden_size=128, encoder_size=16)
    settings = config(tmp_path, num_envs=64, num_steps=128, seq_len=128, agent=agent)
    monkeypatch.setattr("recurrent_rl.process.available_cores", lambda: 4)
    ended = []
    for threads in (None, 1):
        trainer = Trainer(dataclasses.replace(settings, threads=threads))
        trainer.iterate()
        ended.append(weights(trainer))
    assert_same(*ended)


def test_a_precision_that_the_machine_has_not_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "has_bfloat16", lambda: False)
    with pytest.raises(UserError, match=r"needs .* AMX on Linux; .* Use float32"):
        Trainer(config(tmp_path, precision="bfloat16"))


@pytest.mark.skipif(not library.has_bfloat16(), reason="this machine has no AMX")
def test_in_bfloat16_rollout_and_update_compute_the_same(tmp_path: Path) -> None:
    trainer = Trainer(config(tmp_path, precision="bfloat16"))
    errors = [trainer.iterate()["memory/first_ratio_error"] for _ in range(3)]
    assert max(errors) < 1e-5


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tmp_path: Path) -> None:
    trainers = [Trainer(config(tmp_path, seed=seed)) for seed in (0, 0, 1)]
    for trainer in trainers:
        trainer.iterate()
        trainer.iterate()
    assert_same(weights(trainers[0]), weights(trainers[1]))
    assert any(
        not torch.equal(x, weights(trainers[2])[name]) for name, x in weights(trainers[0]).items()
    )


def test_a_run_leaves_its_files_behind_and_the_policy_plays(tmp_path: Path) -> None:
    result = train(config(tmp_path), progress=False)
    names = {path.name for path in result.run_dir.iterdir()}
    assert {CONFIG, POLICY, CHECKPOINT} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert result.run_dir.name.startswith("recurrent_rl-TMaze-v0__lstm__0__")
    assert result.stopped_by is None
    policy = load_policy(result.policy_path)
    assert policy.summary["env_id"] == "recurrent_rl/TMaze-v0"
    assert policy.summary["timesteps"] == result.timesteps == 8 * 16 * 6


STOPS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def sends(number: int, at: int) -> AnyCallback:
    """A callback that sends this process a signal at so many steps."""
    return lambda state: os.kill(os.getpid(), number) if state.timesteps == at else None


@contextlib.contextmanager
def handling(number: int, handler: Any) -> Iterator[None]:
    before = signal.signal(number, handler)
    try:
        yield
        assert signal.getsignal(number) is handler
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("number", STOPS)
def test_a_signal_stops_a_run_with_everything_saved(tmp_path: Path, number: signal.Signals) -> None:
    settings = config(tmp_path, total_timesteps=10_000_000, checkpoint_interval=1000.0)
    soon = threading.Timer(0.3, os.kill, (os.getpid(), number))  # once it is trained at all

    def begin(state: TrainingState) -> None:
        if soon.ident is None:
            soon.start()

    result = train(settings, progress=False, stop=StopSignals(), callbacks=[begin])
    assert result.stopped_by == number
    assert 0 < result.timesteps < 10_000_000
    trainer = Trainer(settings)
    load_checkpoint(trainer, result.run_dir / CHECKPOINT)
    assert trainer.timesteps == result.timesteps
    assert load_policy(result.policy_path).summary["timesteps"] == result.timesteps


def test_ctrl_c_ends_the_program_that_trains_and_the_run_resumes_as_if_unbroken(
    tmp_path: Path,
) -> None:
    settings = config(tmp_path, total_timesteps=8 * 16 * 40)
    whole = train(settings, progress=False)
    broken_settings = dataclasses.replace(settings, log_dir=str(tmp_path / "broken"))
    with handling(signal.SIGINT, signal.default_int_handler), pytest.raises(KeyboardInterrupt):
        train(broken_settings, progress=False, callbacks=[sends(signal.SIGINT, 8 * 16 * 17)])
    (run_dir,) = (tmp_path / "broken").iterdir()
    saved = load_policy(run_dir / POLICY).summary["timesteps"]
    assert saved == 8 * 16 * 17
    with handling(signal.SIGINT, signal.default_int_handler), pytest.raises(KeyboardInterrupt):
        resume(run_dir, progress=False, callbacks=[sends(signal.SIGINT, 8 * 16 * 20)])
    resumed = resume(run_dir, progress=False)
    assert resumed.timesteps == whole.timesteps
    first, second = (load_policy(r.policy_path) for r in (whole, resumed))
    assert_same(first.agent.state_dict(), second.agent.state_dict())
    assert first.summary == second.summary


@pytest.mark.parametrize("progress", [False, True])
@pytest.mark.parametrize("is_named", [False, True])
def test_ctrl_c_says_how_to_resume_whether_progress_is_shown_or_not(
    progress: bool,
    is_named: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)  # as an environment may do; the path must lead there from anywhere
    env = None if is_named else lambda: gym.make("recurrent_rl/TMaze-v0")
    settings = config(tmp_path, "recurrent_rl/TMaze-v0" if is_named else None)
    with (
        handling(signal.SIGINT, signal.default_int_handler),
        pytest.raises(KeyboardInterrupt) as raised,
    ):
        train(settings, env, progress=progress, callbacks=[sends(signal.SIGINT, 256)])
    (run_dir,) = tmp_path.iterdir()
    given = "" if is_named else "env=..., "
    call = f"recurrent_rl.resume('{run_dir}', {given}callbacks=[...])"
    assert str(raised.value) == f"Stopped early; everything is saved. Resume: {call}"
    assert (str(raised.value) in capsys.readouterr().out) == progress


def test_a_second_ctrl_c_ends_at_once_and_says_how_to_resume(tmp_path: Path) -> None:
    def twice(state: TrainingState) -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)

    with (
        handling(signal.SIGINT, signal.default_int_handler),
        pytest.raises(KeyboardInterrupt, match=r"from the last checkpoint: recurrent_rl\.resume\("),
    ):
        train(config(tmp_path), progress=False, callbacks=[twice])


@pytest.mark.parametrize("number", STOPS)
def test_the_programs_own_handler_hears_of_a_signal_once_all_is_saved(
    tmp_path: Path, number: signal.Signals
) -> None:
    heard: list[int] = []

    def handler(number: int, _: Any) -> None:
        (run_dir,) = tmp_path.iterdir()
        heard.append(load_policy(run_dir / POLICY).summary["timesteps"])

    with handling(number, handler):
        result = train(config(tmp_path), progress=False, callbacks=[sends(number, 8 * 16 * 3)])
    assert heard == [result.timesteps] == [8 * 16 * 3]
    assert result.stopped_by == number


def test_a_signal_is_not_forgotten_over_an_error(tmp_path: Path) -> None:
    def interrupt_and_fail(state: TrainingState) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        raise ConnectionError("the simulator was told too")

    with (
        handling(signal.SIGINT, signal.default_int_handler),
        pytest.raises(KeyboardInterrupt) as raised,
    ):
        train(config(tmp_path), progress=False, callbacks=[interrupt_and_fail])
    assert isinstance(raised.value.__context__, ConnectionError)


def test_the_command_ends_with_the_status_of_the_signal_and_says_how_to_resume(
    tmp_path: Path,
) -> None:
    """The installed command, by Ctrl-C; tests/test_signals.py tries all signals, forked."""
    command = [sys.executable, "-m", "recurrent_rl", "train", "recurrent_rl/TMaze-v0"]
    process = subprocess.Popen(
        [*command, "--log-dir", str(tmp_path), "--total-timesteps", "90000000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("*/events*")) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    (run_dir,) = tmp_path.iterdir()
    assert f"recurrent-rl train --resume {run_dir}" in out.replace("\n", "")
    assert (run_dir / CHECKPOINT).exists()


class GlobalRandom(gym.Env[Any, Any]):
    """Draws from the global generators, as many hand-written environments do."""

    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray[Any, Any], dict[str, Any]]:
        return self.observe(), {}

    def observe(self) -> np.ndarray[Any, Any]:
        return np.array([np.random.uniform(-1, 1), random.uniform(-1, 1)], np.float32)  # noqa: NPY002

    def step(self, action: int) -> tuple[np.ndarray[Any, Any], float, bool, bool, dict[str, Any]]:
        return self.observe(), float(action), random.random() < 0.1, False, {}


def test_a_process_forked_in_a_run_can_be_ended(tmp_path: Path) -> None:
    code = (
        "import multiprocessing, time; from recurrent_rl.signals import StopSignals\n"
        "def work(pipe): pipe.send(0); time.sleep(60)\n"
        "with StopSignals():\n"
        "    told, telling = multiprocessing.Pipe(duplex=False)\n"
        "    context = multiprocessing.get_context('fork')\n"
        "    p = context.Process(target=work, args=(telling,))\n"
        "    p.start(); told.recv(); p.terminate(); p.join(20); print(p.exitcode); p.kill()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "-15\n", done.stderr


def process_settings() -> tuple[Any, ...]:
    state = np.random.get_state(legacy=False)  # noqa: NPY002
    assert isinstance(state, dict)
    return (
        torch.get_num_threads(),
        library._chosen.threads,
        library._chosen.bfloat16,
        random.getstate(),
        state["state"]["key"].tolist(),
        state["state"]["pos"],
        torch.get_rng_state().tolist(),
    )


@pytest.mark.parametrize("seed_globals", [False, True])
def test_a_run_leaves_the_process_as_it_was(tmp_path: Path, seed_globals: bool) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    library.set_num_threads(3)
    try:
        before = process_settings()
        settings = config(tmp_path, threads=1)
        result = train(settings, progress=False, seed_globals=seed_globals)
        assert process_settings() == before
        resume(
            result.run_dir,
            total_timesteps=8 * 16 * 8,
            progress=False,
            seed_globals=seed_globals,
        )
        assert process_settings() == before
        with pytest.raises(LookupError):
            train(settings, progress=False, callbacks=[fail_at(128)], seed_globals=seed_globals)
        with pytest.raises(UserError):
            train(dataclasses.replace(settings, env_id="Nowhere-v0"), seed_globals=seed_globals)
        Trainer(settings).iterate()
        assert process_settings() == before
    finally:
        torch.set_num_threads(threads)
        library.set_num_threads(None)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="not glibc")
def test_a_run_leaves_the_allocator_as_it_was(tmp_path: Path) -> None:
    code = """
import ctypes, sys
from recurrent_rl.config import TrainConfig
from recurrent_rl.process import keeping_freed_memory
from recurrent_rl.runs.training import train

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks rest".split()] + [
        (f"more{i}", ctypes.c_size_t) for i in range(5)
    ]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype, libc.malloc.restype = Info, ctypes.c_void_p

def is_mapped():
    before = libc.mallinfo2().hblks
    libc.malloc(ctypes.c_size_t(64 * 2**20))
    return libc.mallinfo2().hblks > before

with keeping_freed_memory():
    assert not is_mapped()
assert is_mapped()
config = TrainConfig("recurrent_rl/TMaze-v0", total_timesteps=64, num_envs=4, num_steps=8,
                     eval_episodes=0, log_dir=sys.argv[1])
train(config, progress=False)
assert is_mapped()
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_environments_that_draw_from_the_global_generators_repeat_where_requested(
    tmp_path: Path,
) -> None:
    def ended(run: Callable[..., TrainResult], *arguments: Any, **keywords: Any) -> Any:
        result = run(*arguments, **keywords, progress=False, seed_globals=True)
        return load_policy(result.policy_path).agent.state_dict()

    with registered(GlobalRandom) as env_id:
        settings = config(tmp_path / "a", env_id)
        assert_same(ended(train, settings), ended(train, settings))
        other = ended(train, dataclasses.replace(settings, seed=1))
        assert not torch.equal(*(x["critic.bias"] for x in (ended(train, settings), other)))
        half = train(config(tmp_path / "b", env_id), progress=False, seed_globals=True).run_dir
        shutil.copytree(half, tmp_path / "c")
        longer = {"total_timesteps": 8 * 16 * 8}
        assert_same(ended(resume, half, **longer), ended(resume, tmp_path / "c", **longer))
        spread = dataclasses.replace(settings, env=EnvConfig(vectorization="async"))
        assert_same(
            *(
                load_policy(train(spread, progress=False).policy_path).agent.state_dict()
                for _ in range(2)
            )
        )


@pytest.mark.parametrize("given", ["CartPole-v1", {"env_id": "CartPole-v1"}, None])
def test_what_is_no_configuration_is_not_trained(given: Any) -> None:
    with pytest.raises(UserError, match=r"config is .*; it must be a TrainConfig: train\(Train"):
        train(given)


def test_training_ends_with_an_evaluation_that_is_saved_and_logged(tmp_path: Path) -> None:
    result = train(config(tmp_path, eval_episodes=20), progress=False)
    assert result.evaluation is not None
    assert len(result.evaluation.returns) == 20
    saved = RunFolder(result.run_dir).load_evaluation()
    assert saved is not None
    assert (saved.timesteps, saved.episodes) == (768, 20)
    assert saved.deterministic.mean_return == result.evaluation.mean
    assert saved.stochastic is None
    ((step, value),) = evaluations(result.run_dir)
    assert step == 768
    assert value == pytest.approx(result.evaluation.mean)
    assert train(config(tmp_path, eval_episodes=0), progress=False).evaluation is None


def test_a_signal_while_the_run_is_evaluated_ends_it_and_resuming_evaluates_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play = Policy.choose

    def choose_and_press_ctrl_c(policy: Policy, *arguments: Any, **named: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        monkeypatch.setattr(Policy, "choose", play)
        return play(policy, *arguments, **named)

    monkeypatch.setattr(Policy, "choose", choose_and_press_ctrl_c)
    result = train(config(tmp_path, eval_episodes=500), progress=False, stop=StopSignals())
    assert (result.timesteps, result.stopped_by) == (768, signal.SIGINT)
    assert result.evaluation is None
    assert not (result.run_dir / EVALUATION).exists()
    resumed = resume(result.run_dir, progress=False)
    assert resumed.stopped_by is None
    assert resumed.evaluation is not None
    assert len(resumed.evaluation.returns) == 500


class Forever(gym.Env[Any, Any]):
    """Never ends; action 0 pays."""

    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray[Any, Any], dict[str, Any]]:
        return np.zeros(2, np.float32), {}

    def step(self, action: int) -> tuple[np.ndarray[Any, Any], float, bool, bool, dict[str, Any]]:
        return np.zeros(2, np.float32), 1.0 - action, False, False, {}


def test_a_task_that_never_ends_is_trained_and_its_evaluation_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recurrent_rl.runs.evaluation.STEP_LIMIT", 50)
    gym.register("Forever-v0", lambda **_: Forever(), disable_env_checker=True)
    try:
        result = train(config(tmp_path, "Forever-v0", eval_episodes=3), progress=False)
    finally:
        gym.registry.pop("Forever-v0")
    assert result.evaluation is not None
    assert (len(result.evaluation.returns), result.evaluation.unfinished) == (0, 3)
    assert evaluations(result.run_dir) == []
    assert learning_curve(result.run_dir, "eval/unfinished_episodes")[1].tolist() == [3]
    with pytest.raises(UserError, match=r"no episode .* within 50 steps.*--max-steps N"):
        load_evaluated_run(result.run_dir)


def test_an_evaluation_that_fails_says_that_the_run_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the environment's own error comes out as it is, in a note on it."""

    def fail(*_: Any, **__: Any) -> None:
        raise errors.pop()

    errors: list[Exception] = [KeyError("lost"), UserError("Mend the environment.")]
    monkeypatch.setattr("recurrent_rl.runs.training.evaluate_ways", fail)
    with pytest.raises(UserError, match=r"is trained and saved in .*: Mend the environment\."):
        train(config(tmp_path, eval_episodes=5), progress=False)
    with pytest.raises(KeyError) as raised:
        train(config(tmp_path, eval_episodes=5), progress=False)
    told = "".join(getattr(raised.value, "__notes__", ())) or capsys.readouterr().err
    assert f"The run is trained and saved in {tmp_path}" in told
    assert "Once it is mended: recurrent-rl evaluate " in told
