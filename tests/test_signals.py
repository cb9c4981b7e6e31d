"""Whatever signal comes, and when: the exit status is right, the folder whole, the run can resume.

One process imports everything once and forks each command from there: `python -m
tests.test_signals` is that process.
"""

import contextlib
import dataclasses
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import numpy as np
import pytest
import torch

from recurrent_rl.agents.files import load_tensors
from recurrent_rl.agents.policy import load_policy
from recurrent_rl.experiments.results import learning_curve
from recurrent_rl.runs.checkpoint_file import KIND
from recurrent_rl.runs.folder import CHECKPOINT, RunFolder
from recurrent_rl.runs.training import train

ROOT = Path(__file__).resolve().parents[1]
STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
NUM_ENVS, NUM_STEPS, ITERATIONS = 4, 8, 30
SIZES = [f"--num-envs={NUM_ENVS}", f"--num-steps={NUM_STEPS}", "--hidden-size=8"]
SIZES += ["--encoder-size=8", "--memory=gru", "--update-epochs=1", "--eval-episodes=0"]
SIZES += [f"--total-timesteps={NUM_ENVS * NUM_STEPS * ITERATIONS}"]
SYNC = ["train", "recurrent_rl/TMaze-v0", *SIZES]
ASYNC = ["train", "CartPole-v1", *SIZES, "--vectorization=async"]
TINY = {
    "num_envs": 4,
    "num_steps": 8,
    "update_epochs": 1,
    "agent": {"hidden_size": 8, "encoder_size": 8},
}


class Driver:
    """The process that forks commands, each the leader of a process group of its own."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.test_signals"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
        )

    def ask(self, **request: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def start(
        self, arguments: list[str], cwd: Path, call: str = "main", pause: float = 0.01
    ) -> "Command":
        """Start a command; training pauses after each iteration, so that it lasts a while."""
        log = cwd / f"log{len(list(cwd.glob('log*')))}.txt"
        log.touch()
        request = {"arguments": arguments, "cwd": str(cwd), "log": str(log)}
        pid = self.ask(do="start", call=call, pause=pause, **request)
        return Command(self, pid, log)

    def run(self, arguments: list[str], cwd: Path) -> None:
        command = self.start(arguments, cwd, pause=0)
        assert command.wait() == 0, command.text()


@dataclasses.dataclass
class Command:
    driver: Driver
    pid: int
    log: Path

    def text(self) -> str:
        return self.log.read_text()

    def until(self, text: str) -> "Command":
        deadline = time.monotonic() + 60
        while text not in self.text():
            assert time.monotonic() < deadline, self.text()
            time.sleep(0.005)
        return self

    def send(self, number: int, group: bool) -> None:
        try:
            (os.killpg if group else os.kill)(self.pid, number)
        except ProcessLookupError:
            pytest.fail(f"It had ended before: {self.text()}")

    def wait(self) -> int:
        """The exit status, or the number of the signal as a negative number."""
        status = self.driver.ask(do="wait", pid=self.pid)
        assert status != "hangs", self.text()
        assert not self.driver.ask(do="left", pid=self.pid), "processes were left behind"
        return cast(int, status)


@pytest.fixture(scope="module")
def driver() -> Iterator[Driver]:
    driver = Driver()
    yield driver
    assert driver.process.stdin is not None
    assert driver.process.stdout is not None
    driver.process.stdin.close()
    driver.process.stdout.close()
    driver.process.wait(timeout=30)


@pytest.fixture(scope="module")
def whole(driver: Driver, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `SYNC` that nothing interrupts."""
    cwd = tmp_path_factory.mktemp("whole")
    driver.run(SYNC, cwd)
    return run_folder(cwd)


def run_folder(cwd: Path) -> Path:
    (run_dir,) = (cwd / "runs").iterdir()
    return run_dir


def assert_is_whole(run_dir: Path) -> None:
    names = [path.name for path in run_dir.iterdir()]
    assert [name for name in names if name.startswith(".") and name != ".lock"] == []
    RunFolder(run_dir).load_config()
    load_policy(run_dir / "policy.safetensors")
    load_tensors(run_dir / CHECKPOINT, KIND, 99)


def assert_same_policy(one: Path, other: Path) -> None:
    a, b = (load_policy(run_dir / "policy.safetensors") for run_dir in (one, other))
    assert a.summary["timesteps"] == b.summary["timesteps"]
    for name, x in a.agent.state_dict().items():
        assert torch.equal(x, b.agent.state_dict()[name]), name


def interrupt(
    command: Command, number: signal.Signals, group: bool, seed: int, longest: float
) -> int:
    time.sleep(random.Random(seed).uniform(0, longest))
    command.send(number, group)
    return command.wait()


def allowed(text: str, number: int) -> tuple[int, ...]:
    """Exit statuses of a command that has printed this, and was sent this signal at any moment."""
    status = STATUS[signal.Signals(number)]
    # Once all is told Python tidies up, and obeys as it does by itself.
    return (0, status, -number) if "\nWatch:" in text else (status,)


EVERY = [(number, group) for number in STATUS for group in (False, True)]


# Here and below a few of the signals; the sweeps at the end send all of them, at any moment.
@pytest.mark.parametrize(("number", "group"), [EVERY[0], EVERY[3], EVERY[4]])
def test_training_in_one_process_is_saved_and_resumes_as_if_unbroken(
    driver: Driver, tmp_path: Path, whole: Path, number: signal.Signals, group: bool
) -> None:
    command = driver.start(SYNC, tmp_path).until("iteration 1\n")
    assert interrupt(command, number, group, number + group, 0.2) == STATUS[number]
    run_dir = run_folder(tmp_path)
    assert f"Resume:    recurrent-rl train --resume runs/{run_dir.name}" in command.text()
    assert_is_whole(run_dir)
    if group == (number == signal.SIGTERM):  # each signal once: it takes its time
        driver.run(["train", "--resume", str(run_dir)], tmp_path)
        assert_same_policy(run_dir, whole)


@pytest.mark.parametrize(("number", "group"), [EVERY[1], EVERY[3], EVERY[5]])
def test_training_with_environments_in_processes_loses_nothing(
    driver: Driver, tmp_path: Path, number: signal.Signals, group: bool
) -> None:
    command = driver.start(ASYNC, tmp_path).until("iteration 1\n")
    assert interrupt(command, number, group, number + group, 0.2) == STATUS[number]
    assert "Traceback" not in command.text()
    assert_is_whole(run_folder(tmp_path))
    done = load_policy(run_folder(tmp_path) / "policy.safetensors").summary["timesteps"]
    assert f"iteration {done // (NUM_ENVS * NUM_STEPS)}\n" in command.text()
    assert f"iteration {done // (NUM_ENVS * NUM_STEPS) + 1}\n" not in command.text()
    if (number, group) == (signal.SIGTERM, True):
        driver.run(["train", "--resume", str(run_folder(tmp_path))], tmp_path)


@pytest.mark.parametrize(("number", "group"), [EVERY[0], EVERY[3]])
def test_an_evaluation_that_is_stopped_leaves_the_run_as_it_was(
    driver: Driver, tmp_path: Path, whole: Path, number: signal.Signals, group: bool
) -> None:
    before = {path: path.read_bytes() for path in whole.iterdir()}
    command = driver.start(["evaluate", str(whole), "--episodes=9999999"], tmp_path)
    command.until("evaluation began\n")
    assert interrupt(command, number, group, number, 0.2) == STATUS[number]
    assert "Stopped; an evaluation cut short would favour short episodes." in command.text()
    assert {path: path.read_bytes() for path in whole.iterdir()} == before


@pytest.mark.parametrize(("number", "group"), [EVERY[1], EVERY[2]])
def test_the_monitor_ends_with_the_status_of_the_signal(
    driver: Driver, tmp_path: Path, number: signal.Signals, group: bool
) -> None:
    command = driver.start(["monitor", str(tmp_path), "--port=0"], tmp_path)
    command.until("Ctrl-C ends it")
    time.sleep(0.1)
    assert interrupt(command, number, group, number, 0.2) == STATUS[number]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_training_at_once_and_says_how_to_go_on(
    driver: Driver, tmp_path: Path, number: signal.Signals
) -> None:
    command = driver.start([*SYNC, "--checkpoint-interval=0"], tmp_path, pause=60)
    command.until("iteration 1\n").send(number, group=False)
    command.until("once more ends at once").send(number, group=False)
    assert command.wait() == STATUS[number]
    again = f"recurrent-rl train --resume runs/{run_folder(tmp_path).name}"
    assert f"Stopped. To go on from the last checkpoint: {again}\n" in command.text()
    assert "Traceback" not in command.text()


@pytest.mark.parametrize("module", ["rich.text", "tyro", "numpy", "torch._C", "torch.nn"])
def test_ctrl_c_amid_the_imports_of_a_command_ends_it_in_a_sentence(
    tmp_path: Path, module: str
) -> None:
    assert_ends_amid_imports(tmp_path, module, signal.SIGINT)


def test_a_terminal_that_hangs_up_amid_the_imports_ends_a_command_as_ctrl_c_does(
    tmp_path: Path,
) -> None:
    assert_ends_amid_imports(tmp_path, "numpy", signal.SIGHUP)


def assert_ends_amid_imports(tmp_path: Path, module: str, number: signal.Signals) -> None:
    started = UserCommand(tmp_path, ["train", "CartPole-v1"], "-X", "importtime")
    started.until_imported(module)
    started.process.send_signal(number)
    _, words = started.end()
    assert words == "Stopped. To go on, give the same command again."
    assert started.process.returncode == STATUS[number]
    assert list(tmp_path.iterdir()) == [started.temporary]


def test_sigterm_ends_a_check_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import time\n"
        "from gymnasium.envs.classic_control import CartPoleEnv\n"
        "class Slow(CartPoleEnv):\n"
        "    def step(self, action):\n"
        "        print('steps', flush=True)\n"
        "        time.sleep(30)\n"
        "        return super().step(action)\n"
    )
    started = UserCommand(tmp_path, ["check", "slow:Slow"])
    assert started.process.stdout is not None
    assert started.process.stdout.readline() == "steps\n"
    started.process.send_signal(signal.SIGTERM)
    _, words = started.end()
    assert words == "Stopped. To go on, give the same command again."
    assert started.process.returncode == 143


def test_a_process_that_an_environment_forks_is_ended_by_sigterm_as_without_us(
    tmp_path: Path,
) -> None:
    (tmp_path / "forking.py").write_text(
        "import multiprocessing, time\n"
        "from gymnasium.envs.classic_control import CartPoleEnv\n"
        "def wait(begun):\n"
        "    begun.set()\n"
        "    time.sleep(60)\n"
        "class Forking(CartPoleEnv):\n"
        "    def reset(self, **keywords):\n"
        "        fork = multiprocessing.get_context('fork')\n"
        "        begun = fork.Event()\n"
        "        child = fork.Process(target=wait, args=(begun,))\n"
        "        child.start()\n"
        "        begun.wait()\n"
        "        child.terminate()\n"
        "        child.join()\n"
        "        raise RuntimeError(f'ended with {child.exitcode}')\n"
    )
    printed, told = UserCommand(tmp_path, ["check", "forking:Forking"]).end()
    assert "ended with -15" in printed + told
    assert "KeyboardInterrupt" not in told


def benchmark(steps: int, out: Path) -> list[str]:
    return [
        *("benchmark", "memory", "--tasks", "TMaze", "--memories", "gru", "--seeds", "1"),
        *("--jobs", "1", "--settings", json.dumps(TINY), "--episodes", "10"),
        *("--total-timesteps", str(steps), "--out", str(out)),
    ]


def benchmark_began(tmp_path: Path) -> Path:
    run_dir = tmp_path / "out" / "TMaze-length-50__gru__0"
    deadline = time.monotonic() + 60
    while not list(run_dir.glob("events*")):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return run_dir


@pytest.mark.slow
def test_a_benchmark_whose_process_group_is_told_to_end_saves_its_runs_and_resumes(
    driver: Driver, tmp_path: Path
) -> None:
    arguments = benchmark(3200, tmp_path / "out")
    command = driver.start(arguments, tmp_path)
    run_dir = benchmark_began(tmp_path)
    assert interrupt(command, signal.SIGTERM, True, 0, 0.2) == STATUS[signal.SIGTERM]
    assert "Resume: give the same command again" in command.text()
    assert "Traceback" not in command.text() + (run_dir / "log.txt").read_text()
    assert_is_whole(run_dir)
    driver.run(arguments, tmp_path)
    steps, _ = learning_curve(run_dir, "time/fps")
    assert (np.diff(steps) > 0).all()
    assert steps[-1] == 3200
    config = dataclasses.replace(RunFolder(run_dir).load_config(), log_dir=str(tmp_path / "again"))
    assert_same_policy(run_dir, train(config, progress=False).run_dir)


def test_a_run_of_a_benchmark_whose_process_was_killed_saves_and_ends(
    driver: Driver, tmp_path: Path
) -> None:
    command = driver.start(benchmark(9_999_999, tmp_path / "out"), tmp_path)
    run_dir = benchmark_began(tmp_path)
    time.sleep(0.5)
    command.send(signal.SIGKILL, group=False)
    assert command.driver.ask(do="wait", pid=command.pid) == -signal.SIGKILL
    deadline = time.monotonic() + 30
    while command.driver.ask(do="left", pid=command.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not command.driver.ask(do="left", pid=command.pid)
    assert_is_whole(run_dir)
    assert load_policy(run_dir / "policy.safetensors").summary["timesteps"] > 0
    assert "Traceback" not in (run_dir / "log.txt").read_text()


def test_environments_in_processes_end_when_the_run_is_killed(
    driver: Driver, tmp_path: Path
) -> None:
    command = driver.start(ASYNC, tmp_path).until("iteration 1\n")
    command.send(signal.SIGKILL, group=False)
    assert command.driver.ask(do="wait", pid=command.pid) == -signal.SIGKILL
    deadline = time.monotonic() + 10
    while command.driver.ask(do="left", pid=command.pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_program_that_trains_is_ended_by_the_signal_once_all_is_saved(
    driver: Driver, tmp_path: Path, number: signal.Signals
) -> None:
    command = driver.start(SYNC[1:], tmp_path, call="train").until("iteration 1\n")
    assert interrupt(command, number, False, number, 0.1) == -number
    assert "train returned" not in command.text()
    assert_is_whole(run_folder(tmp_path))


def test_a_program_that_trains_in_a_loop_is_stopped_by_ctrl_c_once_all_is_saved(
    driver: Driver, tmp_path: Path
) -> None:
    command = driver.start(ASYNC[1:], tmp_path, call="train").until("iteration 1\n")
    assert interrupt(command, signal.SIGINT, True, 0, 0.1) == -signal.SIGINT
    said = "KeyboardInterrupt: Stopped early; everything is saved. Resume: recurrent_rl.resume("
    assert said in command.text().splitlines()[-1]
    assert "train returned" not in command.text()
    assert_is_whole(run_folder(tmp_path))


def test_under_nohup_a_terminal_that_hangs_up_stops_nothing(driver: Driver, tmp_path: Path) -> None:
    command = driver.start(SYNC, tmp_path, call="nohup").until("iteration 1\n")
    assert interrupt(command, signal.SIGHUP, True, 0, 0.1) == 0, command.text()


def test_a_run_whose_terminal_is_closed_is_saved_and_ends_with_129(tmp_path: Path) -> None:
    master, terminal = os.openpty()
    code = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    code += "from recurrent_rl.cli import main; main()"
    endless = [*SYNC, "--total-timesteps=99999999", f"--log-dir={tmp_path}"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *endless],
        stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True, cwd=ROOT,
    )  # fmt: skip
    os.close(terminal)
    shown = b""
    while b"steps/s" not in shown:  # the progress bar, with figures
        shown += os.read(master, 4096)
    os.close(master)
    assert process.wait(timeout=60) == 129
    (run_dir,) = tmp_path.iterdir()
    assert_is_whole(run_dir)


@pytest.mark.slow
@pytest.mark.parametrize("group", [False, True], ids=["process", "group"])
@pytest.mark.parametrize("number", [*STATUS, signal.SIGKILL])
@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_training_survives_signals_at_any_moment(
    driver: Driver, tmp_path: Path, whole: Path, vectorization: str, number: int, group: bool
) -> None:
    arguments = SYNC if vectorization == "sync" else ASYNC
    arguments = [*arguments, "--checkpoint-interval=0.05"]
    early = broken = 0
    for seed in range(25):
        cwd = tmp_path / str(seed)
        cwd.mkdir()
        # Half of them from the start on, half once there is something to lose.
        command = driver.start(arguments, cwd).until("iteration 1\n" if seed % 2 else "forked\n")
        time.sleep(random.Random(seed).uniform(0, 0.4 if seed % 2 else 1.2))
        if not driver.ask(do="alive", pid=command.pid):
            assert command.wait() == 0
            continue
        command.send(number, group)
        if number == signal.SIGKILL:
            assert driver.ask(do="wait", pid=command.pid) in (0, -9)
            while driver.ask(do="left", pid=command.pid):
                time.sleep(0.01)
        else:
            status = command.wait()
            assert status in allowed(command.text(), number), (seed, command.text())
            assert "Traceback" not in command.text(), (seed, command.text())
        if not (cwd / "runs").exists() or not list((cwd / "runs").glob("*/config.json")):
            early += 1
            continue
        broken += 1
        run_dir = run_folder(cwd)
        if number != signal.SIGKILL and (run_dir / CHECKPOINT).exists():
            assert_is_whole(run_dir)
        driver.run(["train", "--resume", str(run_dir)], cwd)
        if vectorization == "sync":
            assert_same_policy(run_dir, whole)
    print(f"{vectorization} {number} group={group}: {early} before the run, {broken} in it")
    assert broken > 5


@pytest.mark.slow
@pytest.mark.parametrize(("number", "group"), EVERY)
def test_evaluation_and_monitor_end_on_signals_at_any_moment(
    driver: Driver, tmp_path: Path, whole: Path, number: signal.Signals, group: bool
) -> None:
    for seed in range(10):
        for arguments in (
            ["evaluate", str(whole), "--episodes=9999999"],
            ["monitor", str(tmp_path), "--port=0"],
        ):
            command = driver.start(arguments, tmp_path).until("forked\n")
            status = interrupt(command, number, group, seed, 1.0)
            assert status == STATUS[number], command.text()


class UserCommand:
    """A command with the start that a user's has, the leader of a process group of its own.

    Args:
        cwd: where it runs, with a folder for temporary files beside what it writes.
        arguments: of `recurrent-rl`.
        options: of Python.
    """

    def __init__(self, cwd: Path, arguments: list[str], *options: str) -> None:
        self.temporary = cwd / "temporary"
        self.temporary.mkdir(exist_ok=True)
        self.process = subprocess.Popen(
            [sys.executable, *options, "-m", "recurrent_rl", *arguments],
            cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
            env={
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "PYTHONPATH": str(ROOT),
                "TMPDIR": str(self.temporary),
            },
        )  # fmt: skip

    def until_imported(self, module: str) -> None:
        """Read what it says of its imports, which `-X importtime` has it say, up to this one."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if line.split("|")[-1].strip() == module:
                return
        pytest.fail(f"It never imported {module}.")

    def read_for(self, seconds: float) -> None:
        """Read on: it waits for the imports' lines to be read, where the pipe is full."""
        assert self.process.stderr is not None
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and select.select([self.process.stderr], [], [], 0.1)[0]:
            os.read(self.process.stderr.fileno(), 1 << 16)

    def end(self) -> tuple[str, str]:
        """Wait for its end: what it printed and what it said, with nothing of it left."""
        printed, told = self.process.communicate(timeout=300)
        assert not is_left(self.process.pid), "processes were left behind"
        left = [path.name for path in self.temporary.iterdir()]
        assert [name for name in left if not name.startswith("torchinductor_")] == []  # a cache
        words = [line for line in told.splitlines() if line and not line.startswith("import time")]
        return printed, "\n".join(words)


@pytest.mark.slow
@pytest.mark.parametrize("group", [False, True], ids=["process", "group"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "name", ["check", "envs", "evaluate", "evaluate async", "export", "info", "share", "tune"]
)
def test_every_command_ends_in_a_sentence_at_any_moment(
    driver: Driver, tmp_path: Path, whole: Path, name: str, number: signal.Signals, group: bool
) -> None:
    """From its first import on; nothing half written, nor a process, is left."""
    if name == "evaluate async":
        driver.run(ASYNC, tmp_path)
        whole = run_folder(tmp_path)
    tiny = [*SIZES[:-2], f"--total-timesteps={NUM_ENVS * NUM_STEPS}", "--trials=9999"]
    out = tmp_path / "out"
    arguments = {
        "check": ["CartPole-v1"],
        "evaluate": [str(whole), "--episodes=9999999"],
        "export": [str(whole), "--to", "c", "numpy", "--out", str(out)],
        "share": [str(whole), "me/it", "--folder", str(out)],
        "tune": [*SYNC[1:2], *tiny, "--processes=2", "--storage", str(tmp_path / "it.journal")],
    }
    command = [name.split()[0], *arguments.get(name.split()[0], [])]
    undisturbed = None
    if command[0] not in ("evaluate", "tune"):  # which go on for ever
        undisturbed, _ = UserCommand(tmp_path, command).end()
    for seed in range(4):
        shutil.rmtree(out, ignore_errors=True)
        started = UserCommand(tmp_path, command, "-X", "importtime")
        started.until_imported("recurrent_rl.cli.compare")
        started.read_for(random.Random(seed).uniform(0, 8.0))
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(started.process.pid, number)
        printed, told = started.end()
        status = started.process.returncode
        if printed == undisturbed:  # all is done, and Python tidies up
            assert status in (0, STATUS[number], -number), (seed, told)
        else:
            assert status == STATUS[number], (seed, printed, told)
        assert "Traceback" not in told + printed, (seed, told)
        assert "Exception ignored" not in told, (seed, told)
        assert not list(out.glob("**/.*")), seed


@pytest.mark.slow
@pytest.mark.parametrize(("number", "group"), [*EVERY, (signal.SIGKILL, False)])
def test_a_benchmark_survives_signals_at_any_moment(
    driver: Driver, tmp_path: Path, number: signal.Signals, group: bool
) -> None:
    for seed in range(4):
        cwd = tmp_path / str(seed)
        cwd.mkdir()
        arguments = benchmark(6400, cwd / "out")
        command = driver.start(arguments, cwd).until("forked\n")
        time.sleep(random.Random(seed).uniform(0.5, 10.0))
        if not driver.ask(do="alive", pid=command.pid):
            assert command.wait() == 0
            continue
        command.send(number, group)
        if number == signal.SIGKILL:
            driver.ask(do="wait", pid=command.pid)
            while driver.ask(do="left", pid=command.pid):
                time.sleep(0.05)
        else:
            status = command.wait()
            assert status in allowed(command.text(), number), command.text()
            assert "Traceback" not in command.text(), command.text()
        driver.run(arguments, cwd)


# ------------------------------------------------------------------- the process that forks


def serve() -> None:
    import gc
    import importlib

    for name in (
        "cli",
        "experiments.benchmark",
        "experiments.comparison",
        "runs.training",
        "vector_env.processes",
    ):
        importlib.import_module(f"recurrent_rl.{name}")
    importlib.import_module("tensorboard.program")
    gc.freeze()  # what is imported stays shared with the forks
    started = set()
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "start":
            pid = os.fork()
            if pid == 0:
                become(request)
                return
            started.add(pid)
            answer: Any = pid
        elif request["do"] == "wait":
            answer = wait(request["pid"])
        elif request["do"] == "alive":
            answer = os.waitid(os.P_PID, request["pid"], os.WEXITED | os.WNOHANG | os.WNOWAIT)
            answer = answer is None
        else:
            answer = is_left(request["pid"])
        print(json.dumps(answer), flush=True)
    for group in started:  # those of tests that failed
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


def wait(pid: int) -> int | str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.killpg(pid, signal.SIGABRT)
    os.waitpid(pid, 0)
    return "hangs"


def is_left(group: int) -> bool:
    """Whether a process of the group is there yet."""
    for _ in range(1000):  # those that end by themselves are given ten seconds
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.01)
    return True


def become(request: dict[str, Any]) -> None:
    """Be the command."""
    import faulthandler

    from recurrent_rl import cli
    from recurrent_rl.__main__ import main
    from recurrent_rl.cli.terminal import parse
    from recurrent_rl.config import TrainConfig
    from recurrent_rl.runs import evaluation
    from recurrent_rl.trainer import Trainer

    os.setsid()
    os.chdir(request["cwd"])
    log = os.open(request["log"], os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, file in ((0, nothing), (1, log), (2, log)):
        os.dup2(file, descriptor)
    for number in STATUS:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    faulthandler.enable()
    iterate, play = Trainer.iterate, evaluation.evaluate

    def telling_iterate(trainer: Trainer) -> dict[str, float]:
        scalars = iterate(trainer)
        os.write(2, f"iteration {trainer.iteration}\n".encode())
        time.sleep(request["pause"])
        return scalars

    def telling_play(*arguments: Any, **keywords: Any) -> Any:
        os.write(2, b"evaluation began\n")
        return play(*arguments, **keywords)

    def telling_main() -> None:
        os.write(2, b"forked\n")
        command()

    command = cli.main
    patch.object(cli, "main", telling_main).start()
    patch.object(Trainer, "iterate", telling_iterate).start()
    patch.object(evaluation, "evaluate", telling_play).start()
    if request["call"] == "train":
        train(parse(TrainConfig, "train", request["arguments"]), progress=False)
        print("train returned")
        return
    if request["call"] == "nohup":
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    sys.argv = ["recurrent-rl", *request["arguments"]]
    main()


if __name__ == "__main__":
    serve()
