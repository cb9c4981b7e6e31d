"""Several workers on one machine: started, resumed by any number, ended, and what goes wrong."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

import recurrent_rl
from recurrent_rl import load_policy, resume, train
from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.files import FileWriteError
from recurrent_rl.config import TrainConfig
from recurrent_rl.errors import UserError
from recurrent_rl.group import Group
from recurrent_rl.resolve import resolved, with_workers
from recurrent_rl.runs.callbacks import TrainingState
from recurrent_rl.runs.checkpoint_file import read_timesteps
from recurrent_rl.runs.folder import RunFolder, RunState
from recurrent_rl.runs.launch import Begun, follow_the_first
from recurrent_rl.runs.torchrun import Launch, begun_by
from recurrent_rl.signals import StopSignals
from recurrent_rl.vector_env.config import EnvConfig
from tests.recurrent_rl.telling_envs import scheduling_policy

PROGRAM = """
import multiprocessing, os, sys, time
from pathlib import Path

import gymnasium as gym
import numpy as np

import recurrent_rl


class Faulty(gym.Env):
    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)
    steps = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.steps += 1
        Path("worker").write_text(str(os.getpid())) if multiprocessing.parent_process() else None
        what = sys.argv[1] if multiprocessing.parent_process() else "nothing"
        if self.steps == 30:
            if what == "raises":
                raise ValueError("no fuel left")
            if what == "nan":
                return np.full(2, np.nan, np.float32), 0.0, False, False, {}
            if what == "exits":
                os._exit(7)
            if what == "hangs":
                time.sleep(1000)
        if what == "overflows" and self.steps >= 30:
            return np.ones(2, np.float32), 3e38, False, False, {}
        time.sleep(float(sys.argv[2]))
        return np.ones(2, np.float32), 1.0, self.steps % 9 == 0, False, {}


gym.register("Faulty-v0", Faulty)

if __name__ == "__main__":
    config = recurrent_rl.TrainConfig(
        "Faulty-v0", num_envs=4, num_steps=8, num_minibatches=2, total_timesteps=int(sys.argv[3]),
        workers=2, threads=1, device="cpu", eval_episodes=0, worker_timeout=float(sys.argv[4]),
        name="it", checkpoint_interval=float(sys.argv[5]),
    )
    try:
        recurrent_rl.train(config, progress=False)
    except Exception as error:
        print("FAILED", type(error).__name__, error, *getattr(error, "__notes__", ()))
    print("AT THE END")
"""


def config(log_dir: Path, **changes: Any) -> TrainConfig:
    settings: dict[str, Any] = {
        "num_envs": 8,
        "num_steps": 13,
        "num_minibatches": 2,
        "total_timesteps": 8 * 13 * 6,
        "eval_episodes": 0,
        "checkpoint_interval": 0,
        "memory_interval": 2,
        "device": "cpu",
        "log_dir": log_dir,
        "agent": AgentConfig("gru-rotor", hidden_size=8, encoder_size=8),
    }
    return TrainConfig("recurrent_rl/RepeatPrevious-Easy-v0", **settings | changes)


def weights(path: Path) -> dict[str, torch.Tensor]:
    return dict(load_policy(path).agent.state_dict())


def assert_alike(a: Path, b: Path, share: float) -> None:
    one, other = weights(a), weights(b)
    for name, x in one.items():
        atol = share * float(other[name].abs().max()) + 1e-9
        torch.testing.assert_close(x, other[name], rtol=0, atol=atol)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The policy of a run of two workers."""
    folder = tmp_path_factory.mktemp("whole")
    return Path(train(config(folder, workers=2), progress=False).policy_path)


def test_a_callback_that_fails_loses_nothing(tmp_path: Path, whole: Path) -> None:
    def fail(state: TrainingState) -> None:
        assert 0 < state.metrics["time/wait_share"] < 1
        if state.timesteps == 8 * 13 * 3:
            raise ZeroDivisionError("the caller's own")

    started = config(tmp_path, workers=2, checkpoint_interval=3600)
    with pytest.raises(ZeroDivisionError) as caught:
        train(started, progress=False, callbacks=[fail])
    told = " ".join(getattr(caught.value, "__notes__", ()))
    assert sys.version_info < (3, 11) or "to resume loses nothing" in told
    assert not torch.distributed.is_initialized()  # nothing of it is left in this process
    assert not multiprocessing.active_children()
    (folder,) = tmp_path.iterdir()
    ended = resume(folder, progress=False)
    assert ended.resumed_from == 8 * 13 * 3
    assert_alike(ended.policy_path, whole, 0.0)  # bit for bit


class Ends(recurrent_rl.Callback):
    """Ends the run by hand, once, at this event of the second iteration or after."""

    def __init__(self, event: str, how: type[BaseException] | None) -> None:
        setattr(self, event, self._end)
        self.how = how
        self.first = 0 if event in ("on_start", "on_end") else 2
        self.over = False

    def _end(self, state: TrainingState) -> None:
        if self.over or state.iteration < self.first:
            return
        self.over = True
        if self.how is None:
            state.stop("enough for today")
        else:
            raise self.how


def test_a_policy_that_cannot_be_written_ends_all_workers_at_once(tmp_path: Path) -> None:
    def fill(state: TrainingState) -> None:
        if state.iteration == 2:
            (policy,) = tmp_path.glob("*/policy.safetensors")
            policy.unlink()
            policy.mkdir()

    started = config(tmp_path, workers=2, worker_timeout=15.0)
    with pytest.raises(FileWriteError, match=r"Saving it failed too, for the same reason\."):
        train(started, progress=False, callbacks=[fill])
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(("first", "workers"), [(True, 1), (True, 2), (False, 2)])
def test_an_environment_that_fails_to_tell_its_state_ends_all_workers_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], first: bool, workers: int
) -> None:
    started = config(tmp_path, workers=workers, worker_timeout=30.0)
    env = EnvConfig({"first": first})
    started = replace(started, env_id="tests.recurrent_rl.telling_envs:FallsSilent", env=env)
    began = time.monotonic()
    with pytest.raises(RuntimeError if first else UserError, match="no state today") as caught:
        train(started, progress=False)
    assert time.monotonic() - began < 25
    told = f"{caught.value} {getattr(caught.value, '__notes__', '')} {capsys.readouterr().err}"
    assert "failed after iteration 3" in told
    kept = "From the checkpoint after 208 steps" if workers == 2 else "From the last checkpoint"
    assert f"{kept}: recurrent-rl train --resume" in told
    assert not multiprocessing.active_children()


EVENTS_AND_WAYS = [
    (event, how)
    for event in ("on_start", "on_iteration", "on_rollout", "on_end")
    for how in (None, KeyboardInterrupt, SystemExit)
]


@pytest.mark.parametrize(
    ("event", "how"),
    [
        pytest.param(
            event,
            how,
            marks=[] if (event, how) == ("on_iteration", SystemExit) else pytest.mark.slow,
        )
        for event, how in EVENTS_AND_WAYS
    ],
)
def test_a_callback_that_ends_the_run_by_hand_ends_all_workers(
    tmp_path: Path, whole: Path, event: str, how: type[BaseException] | None
) -> None:
    started = config(tmp_path, workers=2, checkpoint_interval=0)
    with nullcontext() if how is None else pytest.raises(how):
        train(started, progress=False, callbacks=[Ends(event, how)])
    assert not torch.distributed.is_initialized()
    assert not multiprocessing.active_children()
    (path,) = tmp_path.iterdir()
    folder = RunFolder(path)
    state = RunState.FINISHED if event == "on_end" else RunState.STOPPED
    if event == "on_start" and how is not None:
        state = RunState.NEW  # nothing was learnt, so nothing is saved
    assert folder.state() is state
    result = resume(path, progress=False)
    steps = 8 * 13
    assert (
        result.resumed_from
        == {
            "on_start": 0,
            "on_iteration": 2 * steps,
            "on_rollout": 3 * steps if how is None else 2 * steps,
            "on_end": result.timesteps,
        }[event]
    )
    assert_alike(result.policy_path, whole, 0.0)


def test_an_interrupt_of_a_callback_amid_an_iteration_loses_no_whole_iteration(
    tmp_path: Path,
) -> None:
    started = config(tmp_path, workers=2, checkpoint_interval=3600)
    with pytest.raises(KeyboardInterrupt):
        train(started, progress=False, callbacks=[Ends("on_rollout", KeyboardInterrupt)])
    (folder,) = tmp_path.iterdir()
    assert read_timesteps(RunFolder(folder).checkpoint) == 8 * 13 * 2


def test_a_second_ctrl_c_amid_an_iteration_waits_for_no_other_worker(tmp_path: Path) -> None:
    groups: list[Group] = []

    class Twice(recurrent_rl.Callback):
        def on_rollout(self, state: TrainingState) -> None:
            if state.iteration == 2:
                groups.append(state.trainer.group)
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGINT)

    started = config(tmp_path, workers=2, checkpoint_interval=3600)
    with pytest.raises(KeyboardInterrupt, match="To go on from the last checkpoint"):
        train(started, progress=False, callbacks=[Twice()])
    assert groups[0].broken  # it has told the others nothing
    (folder,) = tmp_path.iterdir()
    assert not RunFolder(folder).checkpoint.exists()


def test_workers_where_no_temporary_folder_can_be_made_are_refused_with_the_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("tempfile._candidate_tempdir_list", lambda: [str(tmp_path / "none")])
    config = TrainConfig("recurrent_rl/TMaze-v0", workers=2, log_dir=str(tmp_path))
    with pytest.raises(UserError, match="in the environment variable TMPDIR"):
        train(config, progress=False)


def test_a_run_of_two_goes_on_with_one_and_with_two(tmp_path: Path) -> None:
    half = config(tmp_path / "half", workers=2, lr_schedule="constant", ent_schedule="constant")
    short = train(half, progress=False)
    longer: dict[str, Any] = {"total_timesteps": 8 * 13 * 8, "progress": False}
    alone = RunFolder(tmp_path / "alone")
    alone.path.mkdir()
    for file in short.run_dir.iterdir():
        if file.is_file():
            (alone.path / file.name).write_bytes(file.read_bytes())
    resume(short.run_dir, **longer)
    resume(alone.path, workers=1, **longer)
    assert alone.load_config().workers == 1
    assert RunFolder(short.run_dir).load_config().workers == 2
    assert_alike(short.policy_path, alone.policy, 1e-2)


def test_the_environments_processes_start_alike_in_all_workers(tmp_path: Path) -> None:
    told = {"method": multiprocessing.get_start_method(), "policy": scheduling_policy()}
    env = EnvConfig(told, vectorization="async")
    small = config(tmp_path, num_envs=4, total_timesteps=4 * 13, workers=2, env=env)
    small = replace(small, env_id="tests.recurrent_rl.telling_envs:Started")
    assert train(small, progress=False).timesteps == 4 * 13


def test_more_workers_than_the_environments_allow_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"workers is 9; .* at most 8 workers, or raise num_envs to"
    ):
        train(config(tmp_path, workers=9, num_minibatches=1), progress=False)
    assert not tmp_path.joinpath("runs").exists()


def start(
    folder: Path,
    what: str,
    pause: float = 0.0,
    steps: int = 1920,
    timeout: float = 10.0,
    interval: float = 0.0,
) -> subprocess.Popen[str]:
    (folder / "program.py").write_text(PROGRAM)
    return subprocess.Popen(
        [sys.executable, "program.py", what, *map(str, (pause, steps, timeout, interval))],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("raises", "Worker 1, whose environment 0 is the run's environment 2: .*no fuel left"),
        ("nan", "Worker 1, whose .*The observation of environment 0 holds NaN"),
        ("exits", "Worker 1 ended by itself, with exit status 7"),
        ("hangs", "Worker 1 did not answer for 10 s.* worker_timeout"),
    ],
)
def test_what_goes_wrong_in_a_worker_is_told_once_and_nothing_saved_is_lost(
    tmp_path: Path, what: str, told: str
) -> None:
    output, _ = start(tmp_path, what).communicate(timeout=120)
    assert re.search(f"(?s)FAILED.*{told}", output), output
    assert output.count("FAILED") == output.count("AT THE END") == 1
    assert "3 whole iterations (96 steps) are saved" in output
    (folder,) = (tmp_path / "runs").iterdir()
    assert RunFolder(folder).state().value == "stopped"
    assert is_gone(int((tmp_path / "worker").read_text()))


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("raises", "no fuel left"),
        ("overflows", "In iteration 4: The return became nan"),
    ],
)
def test_what_goes_wrong_at_all_workers_alike_costs_no_whole_iteration(
    tmp_path: Path, what: str, told: str
) -> None:
    """Though no checkpoint was due before; only the episodes under way are lost, as with one."""
    output, _ = start(tmp_path, what, interval=3600).communicate(timeout=120)
    assert told in output
    lost = r"the episodes under way and the \d+ steps of the unfinished rollout"
    assert re.search(rf"3 whole iterations \(96 steps\) are saved; to resume loses {lost}", output)
    (folder,) = (tmp_path / "runs").iterdir()
    assert read_timesteps(RunFolder(folder).checkpoint) == 96
    assert load_policy(RunFolder(folder).policy).summary["timesteps"] == 96
    assert is_gone(int((tmp_path / "worker").read_text()))


def test_a_script_without_a_guard_is_told_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "bare.py").write_text(
        "import recurrent_rl\n"
        'config = recurrent_rl.TrainConfig("CartPole-v1", workers=2, num_envs=8, num_steps=8)\n'
        "recurrent_rl.train(config, progress=False)\n"
    )
    done = subprocess.run(
        [sys.executable, "bare.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "needs the line `if __name__ ==" in done.stderr.splitlines()[-1]
    assert done.stderr.count("Traceback") == 1
    assert not list(tmp_path.glob("runs/*"))


def test_an_environment_that_only_the_first_worker_has_registered_is_told_of() -> None:
    begun = Begun(resolved(TrainConfig("CartPole-v1")), None, False)
    begun = begun._replace(config=replace(begun.config, env_id="Mine-v0"))
    group = cast(Group, SimpleNamespace(rank=1, exchange=lambda _: [begun, None]))
    with pytest.raises(UserError, match=r"'Mine-v0' is registered in the first .* my_package:Mine"):
        follow_the_first(group, StopSignals())


def test_a_run_is_found_again_by_a_launch_of_another_number_of_workers(tmp_path: Path) -> None:
    """Whose number was left to us, and was that of the launch before."""
    chosen = resolved(config(tmp_path, workers="auto"))
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.save_config(chosen)
    folder.launch.write_text("it")
    for name in ("other", "strange"):
        (tmp_path / name).mkdir()
    (tmp_path / "latest").symlink_to("gone")
    (tmp_path / "other" / ".launch").symlink_to("gone")
    (tmp_path / "strange" / ".launch").write_bytes(b"\xff")
    launch = Launch(0, 1, 0, 1, "it", 1)
    for workers in (chosen.workers, chosen.workers + 1):
        found = begun_by(launch, with_workers(chosen, workers))
        assert found is not None
        assert found.path == folder.path
    assert begun_by(launch, with_workers(replace(chosen, gamma=0.5), 1)) is None


@pytest.mark.slow
def test_cells_of_a_notebook_train_with_two_workers(tmp_path: Path) -> None:
    """In a kernel of Jupyter's."""
    pytest.importorskip("ipykernel")
    client = pytest.importorskip("jupyter_client")
    manager, kernel = client.manager.start_new_kernel(cwd=str(tmp_path))
    shown: list[str] = []
    try:
        for cell in (
            "import recurrent_rl",
            'config = recurrent_rl.TrainConfig("CartPole-v1", workers=2, num_envs=8, num_steps=8, '
            'num_minibatches=2, total_timesteps=640, eval_episodes=0, device="cpu")',
            "result = recurrent_rl.train(config)",
            "print('steps', recurrent_rl.resume(result.run_dir, total_timesteps=1280).timesteps)",
        ):
            reply = kernel.execute_interactive(
                cell, output_hook=lambda output: shown.append(str(output["content"])), timeout=120
            )
            assert reply["content"]["status"] == "ok", shown
    finally:
        kernel.stop_channels()
        manager.shutdown_kernel(now=True)
    assert any("steps 1280" in one for one in shown)
    assert any("640 of 640" in one for one in shown)  # the progress line


@pytest.mark.parametrize("target", ["first", "other"])
def test_a_signal_to_any_worker_ends_and_saves_all(tmp_path: Path, target: str) -> None:
    program = start(tmp_path, "nothing", pause=0.01, steps=32 * 2000)
    other = wait_for(tmp_path / "worker")
    os.kill(program.pid if target == "first" else other, signal.SIGTERM)
    output, _ = program.communicate(timeout=60)
    assert program.returncode == -signal.SIGTERM, output
    (folder,) = (tmp_path / "runs").iterdir()
    assert RunFolder(folder).state().value == "stopped"
    assert is_gone(other)


def test_ctrl_c_is_heard_while_a_worker_hangs(tmp_path: Path) -> None:
    program = start(tmp_path, "hangs", timeout=600)
    other = wait_for(tmp_path / "worker")
    (folder,) = wait_for_run(tmp_path)
    time.sleep(2)  # it hangs by now
    program.send_signal(signal.SIGINT)
    time.sleep(0.5)
    program.send_signal(signal.SIGINT)
    output, _ = program.communicate(timeout=20)
    assert "Stopping at the next safe point" in output
    assert program.returncode == -signal.SIGINT, output
    assert RunFolder(folder).state().value == "stopped"
    assert is_gone(other)


def wait_for_run(folder: Path) -> list[Path]:
    """Wait for a checkpoint."""
    deadline = time.monotonic() + 60
    while not list(folder.glob("runs/*/checkpoint.safetensors")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return list(folder.glob("runs/*"))


def test_workers_end_with_the_first_however_that_ends(tmp_path: Path) -> None:
    program = start(tmp_path, "nothing", pause=0.01, steps=32 * 2000)
    other = wait_for(tmp_path / "worker")
    program.kill()
    program.communicate()
    deadline = time.monotonic() + 10
    while not is_gone(other):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def wait_for(file: Path) -> int:
    """The number of the worker's process, once it steps."""
    deadline = time.monotonic() + 60
    while not (file.exists() and file.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return int(file.read_text())


def is_gone(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{process}/stat").read_text().split()[2] == "Z"
