"""A training in a notebook, a thread, or beside another: the process stays as it was."""

import asyncio
import gc
import hashlib
import locale
import logging
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import recurrent_rl
from recurrent_rl import process
from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.files import write_atomically
from recurrent_rl.agents.memory.cells import GRU
from recurrent_rl.config import TrainConfig
from recurrent_rl.errors import UserError
from recurrent_rl.experiments.child import Child
from recurrent_rl.process import computing, global_generators_kept
from recurrent_rl.resolve import resolved
from recurrent_rl.runs.callbacks import AnyCallback, Callback, TrainingState
from recurrent_rl.runs.folder import RunFolder
from recurrent_rl.signals import STOPPING
from recurrent_rl.vector_env.config import EnvConfig
from tests.recurrent_rl.runs.small_runs import assert_same, config

SLOW_GRU = f"{__name__}:SlowGRU"


class SlowGRU(GRU):
    """Other threads have time to draw from the global generator amid the drawing of its weights."""

    def __init__(self, *sizes: int) -> None:
        super().__init__(*sizes)
        time.sleep(0.05)


def of_the_process() -> dict[str, Any]:
    """What every thread sees."""
    mask = os.umask(0)
    os.umask(mask)
    root = logging.getLogger()
    return {
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "umask": mask,
        "path": list(sys.path),
        "hooks": (sys.excepthook, threading.excepthook, sys.unraisablehook, sys.displayhook),
        "streams": (sys.stdout, sys.stderr, sys.stdin),
        "limits": (sys.getrecursionlimit(), sys.getswitchinterval(), gc.isenabled()),
        "locale": locale.setlocale(locale.LC_ALL),
        "warnings": list(warnings.filters),
        "logging": (root.level, list(root.handlers), logging.root.manager.disable),
        "start method": multiprocessing.get_start_method(allow_none=True),
        "registered": sorted(gym.registry),
        "generators": hashlib.sha256(
            repr((random.getstate(), np.random.get_state())).encode()  # noqa: NPY002
        ).hexdigest(),
        "torch's generator": torch.get_rng_state().tolist(),
        "type": torch.get_default_dtype(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "interop threads": torch.get_num_interop_threads(),
        "products": torch.get_float32_matmul_precision(),
        "benchmark": torch.backends.cudnn.benchmark,
    }


def of_a_thread() -> dict[str, Any]:
    """What one thread sees beside, of PyTorch and NumPy."""
    return {
        "threads": torch.get_num_threads(),
        "device": torch.get_default_device(),
        "gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "denormal numbers": bool(torch.tensor(1e-40).mul(1.0) != 0),
        "NumPy's errors": np.geterr(),
    }


def in_new_thread(call: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(call).result()


def handlers() -> list[Any]:
    return [signal.getsignal(number) for number in STOPPING]


def trained(settings: TrainConfig, callbacks: list[AnyCallback] | None = None) -> Any:
    """The weights that a run ends with."""
    result = recurrent_rl.train(settings, progress=False, callbacks=callbacks or [])
    return recurrent_rl.load_policy(result.run_dir).agent.state_dict()


def test_nothing_of_the_process_changes_also_while_a_run_lasts(tmp_path: Path) -> None:
    trained(config(tmp_path, total_timesteps=128))  # PyTorch's own imports add a warning's filter
    before, noted = of_the_process(), handlers()
    seen: list[int] = []

    class Look(Callback):
        def on_rollout(self, state: TrainingState) -> None:
            assert of_the_process() == before
            assert in_new_thread(of_a_thread) == elsewhere
            assert of_a_thread() == own | {"threads": 1}
            seen.append(state.timesteps)

    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        own, elsewhere = of_a_thread(), in_new_thread(of_a_thread)
        assert elsewhere["threads"] == own["threads"] == 3
        settings = config(tmp_path, threads=1, total_timesteps=3 * 128)
        weights = trained(settings, [Look()])
        assert len(seen) == 3
        assert (of_the_process(), of_a_thread()) == (before, own)
        assert (in_new_thread(of_a_thread), handlers()) == (elsewhere, noted)
    finally:
        torch.set_num_threads(threads)
    assert_same(weights, in_new_thread(lambda: trained(settings)))


def test_a_check_of_an_environment_changes_nothing_of_the_process() -> None:
    recurrent_rl.check_env("CartPole-v1")  # Gymnasium's own imports
    before, noted = of_the_process(), (of_a_thread(), handlers())
    recurrent_rl.check_env("CartPole-v1")  # both forms
    assert (of_the_process(), (of_a_thread(), handlers())) == (before, noted)


def test_two_runs_at_a_time_learn_what_each_learns_alone(tmp_path: Path) -> None:
    settings = [
        config(
            tmp_path,
            seed=seed,
            threads=seed,
            total_timesteps=2 * 128,
            agent=AgentConfig(SLOW_GRU, hidden_size=16, encoder_size=16),
        )
        for seed in (1, 2)
    ]
    alone = [trained(one) for one in settings]
    together = threading.Barrier(2)

    class Meet(Callback):
        def on_rollout(self, state: TrainingState) -> None:
            together.wait(timeout=60)
            assert torch.get_num_threads() == state.config.seed

    with ThreadPoolExecutor(2) as threads:
        runs = [threads.submit(trained, one, [Meet()]) for one in settings]
        for weights, run in zip(alone, runs, strict=True):
            assert_same(weights, run.result())


def test_the_first_use_of_a_public_name_draws_no_random_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Importing rich does."""
    state = random.getstate()
    home = SimpleNamespace(train=None)
    monkeypatch.setattr(recurrent_rl, "import_module", lambda _: random.random() and home)
    assert getattr(recurrent_rl, "train") is None  # noqa: B009 (it has another type)
    assert random.getstate() == state


def test_ctrl_c_in_a_running_event_loop_saves_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = handlers()

    def interrupt(state: TrainingState) -> None:
        signal.raise_signal(signal.SIGINT)

    async def cell() -> None:
        recurrent_rl.train(config(tmp_path), callbacks=[interrupt])
        await asyncio.sleep(0)  # where the loop's own handler raises

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(cell())
    (folder,) = RunFolder.find([tmp_path])
    assert folder.checkpoint.exists()
    assert recurrent_rl.load_policy(folder.path).summary["timesteps"] == 128
    assert handlers() == before
    call = f"recurrent_rl.resume({str(folder.path)!r}, callbacks=[...])"
    told = f"everything is saved. Resume: {call}\n"
    assert told in capsys.readouterr().out


def test_a_second_run_may_not_seed_the_global_generators(tmp_path: Path) -> None:
    with global_generators_kept(True), pytest.raises(UserError, match="one after the other"):
        in_new_thread(
            lambda: recurrent_rl.train(config(tmp_path), seed_globals=True, progress=False)
        )
    trained(config(tmp_path, total_timesteps=128))


def test_a_file_is_written_without_a_change_of_the_umask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mask = os.umask(0o027)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(os, "umask", lambda _: pytest.fail("the umask is the process's"))
            write_atomically(tmp_path / "file", b"content")
    finally:
        os.umask(mask)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


@pytest.mark.slow
def test_several_workers_train_from_a_thread_and_a_second_such_run_is_refused(
    tmp_path: Path,
) -> None:
    settings = config(tmp_path, workers=2)
    alone = trained(settings)
    refused: list[UserError] = []

    def second(state: TrainingState) -> None:
        if not refused:
            with pytest.raises(UserError, match="a run in another thread") as error:
                in_new_thread(lambda: trained(settings))
            refused.append(error.value)

    assert_same(alone, in_new_thread(lambda: trained(settings, [second])))
    assert refused


@pytest.mark.parametrize(
    ("threads", "workers", "cores", "each"),
    [(2, 2, 2, 1), (8, 2, 4, 2), (1, 4, 2, 1), (2, 4, 16, 2), (3, 1, 2, 3), (None, 2, 4, 1)],
)
def test_each_of_several_workers_takes_no_more_threads_than_its_share_of_the_cores(
    threads: int | None, workers: int, cores: int, each: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch's threads that wait for one another on a core they share all but stand still."""
    monkeypatch.setattr(process, "available_cores", lambda: cores)
    before = torch.get_num_threads()
    with computing(threads, workers=workers):
        assert torch.get_num_threads() == each
    assert torch.get_num_threads() == before


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process may start no others, as a worker of multiprocessing's Pool."""
    monkeypatch.setitem(multiprocessing.current_process().__dict__["_config"], "daemon", True)


@pytest.mark.parametrize(
    ("asked", "fix"),
    [
        ({"workers": 2}, "Set workers to 1"),
        ({"env": EnvConfig(vectorization="async")}, 'Set vectorization to "sync"'),
    ],
)
def test_processes_in_a_daemon_are_refused_before_the_runs_folder_is_made(
    daemon: None, tmp_path: Path, asked: dict[str, Any], fix: str
) -> None:
    with pytest.raises(UserError, match=f"may start no others.* {fix}, or use a concurrent"):
        recurrent_rl.train(config(tmp_path, **asked), progress=False)
    assert list(tmp_path.iterdir()) == []


def test_a_search_in_several_processes_is_refused_in_a_daemon(daemon: None) -> None:
    with pytest.raises(UserError, match=r"may start no others.* Set processes to 1, or"):
        Child(print)


def test_in_a_daemon_the_number_of_workers_that_is_left_to_us_is_one(daemon: None) -> None:
    chosen = resolved(TrainConfig("CartPole-v1", num_envs=256, workers="auto"))
    assert chosen.workers == 1
    assert "daemon" in chosen.reasons["workers"]
