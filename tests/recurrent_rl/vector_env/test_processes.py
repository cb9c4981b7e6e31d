"""Environments in processes: deaf to signals, gone with their parent, their errors passed on."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from multiprocessing import heap
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from recurrent_rl.errors import UserError
from recurrent_rl.signals import STOPPING, StopSignals
from recurrent_rl.vector_env import processes
from recurrent_rl.vector_env.config import EnvConfig
from recurrent_rl.vector_env.processes import EnvironmentProcesses
from recurrent_rl.vector_env.vectorize import make_vector_env


class TwoArguments(Exception):
    def __init__(self, what: str, code: int) -> None:
        super().__init__(what, code)


class Odd(gym.Env[Any, Any]):
    """Does in its third step what its argument says."""

    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, does: str) -> None:
        self.does = does
        self.t = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray[Any, Any], dict[str, Any]]:
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray[Any, Any], float, bool, bool, dict[str, Any]]:
        self.t += 1
        if self.t == 3 and self.does == "raise":
            raise ConnectionError("simulator lost")
        if self.t == 3 and self.does == "raise two arguments":
            raise TwoArguments("simulator lost", 7)
        if self.t == 3 and self.does == "raise what cannot be sent":

            class Local(Exception):
                pass

            raise Local("simulator lost")
        if self.t == 3 and self.does == "exit":
            os._exit(5)
        return np.full(2, float(os.getpid() % 2), np.float32), 1.0, False, False, {}

    def echo(self, number: int, word: str) -> tuple[int, str]:
        if word == "raise":

            class Local(Exception):
                pass

            raise Local(f"{number} is not to be")
        return number, word

    def close(self) -> None:
        if self.does == "never close" and self.t > 0:
            while True:
                time.sleep(1)


def make(does: str) -> EnvironmentProcesses:
    gym.register("Odd-v0", lambda **_: Odd(does), disable_env_checker=True)
    try:
        env = make_vector_env("Odd-v0", 3, EnvConfig(vectorization="async"))
    finally:
        gym.registry.pop("Odd-v0")
    assert isinstance(env, EnvironmentProcesses)
    return env


def play(env: EnvironmentProcesses) -> None:
    env.reset(seed=0)
    for _ in range(5):
        env.step(np.zeros(3, np.int64))


def test_they_ignore_the_signals_that_end_a_run() -> None:
    env = make("nothing")
    for process in env.env.processes:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            assert process.pid is not None
            os.kill(process.pid, number)
    play(env)
    env.close()
    assert [process.exitcode for process in env.env.processes] == [0, 0, 0]


@pytest.mark.filterwarnings("ignore::UserWarning")  # Gymnasium's log of a worker's error
@pytest.mark.skipif(multiprocessing.get_start_method() != "fork", reason="they are not forked")
@pytest.mark.parametrize("number", STOPPING)
def test_they_ignore_signals_from_their_start_on(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One to the whole process group reaches them before they have seen to it themselves."""
    work = processes._work

    def hit_at_once(*arguments: Any) -> None:
        signal.raise_signal(number)
        work(*arguments)

    monkeypatch.setattr(processes, "_work", hit_at_once)
    with StopSignals() as stop:
        make_vector_env("CartPole-v1", 2, EnvConfig(vectorization="async")).close()
    assert not stop


@pytest.mark.parametrize(
    ("does", "kind", "message"),
    [
        ("raise", ConnectionError, r"^simulator lost$"),
        ("raise two arguments", TwoArguments, r"simulator lost', 7"),
        ("raise what cannot be sent", RuntimeError, r"Local: simulator lost"),
        ("exit", UserError, r"process of environment \d ended .*exit status 5: "),
    ],
)
def test_what_goes_wrong_in_one_is_told(does: str, kind: type[Exception], message: str) -> None:
    env = make(does)
    with pytest.raises(kind, match=message) as raised:
        play(env)
    assert type(raised.value) is kind
    env.close()
    assert not any(process.is_alive() for process in env.env.processes)


def test_attributes_are_read_set_and_called() -> None:
    env = make("nothing")
    assert env.get_attr("does") == ("nothing",) * 3
    env.set_attr("does", ["nothing", "raise", "nothing"])
    assert env.get_attr("does") == ("nothing", "raise", "nothing")
    assert env.call("has_wrapper_attr", "does") == (True,) * 3
    assert env.call("echo", 3, word="a") == ((3, "a"),) * 3
    env.set_attr("does", "exit")
    assert env.get_attr("does") == ("exit",) * 3
    env.close()


def test_an_error_of_a_method_that_is_called_is_told_though_it_cannot_be_sent() -> None:
    env = make("nothing")
    with pytest.raises(RuntimeError, match=r"Local: 3 is not to be"):
        env.call("echo", 3, word="raise")
    env.close()


@pytest.mark.parametrize(
    "ask",
    [
        lambda env: env.get_attr("does"),
        lambda env: env.set_attr("does", "raise"),
        lambda env: env.call("has_wrapper_attr", "does"),
    ],
)
def test_a_process_that_has_ended_is_told_of_whatever_is_asked(ask: Any) -> None:
    env = make("nothing")
    env.env.processes[1].kill()
    with pytest.raises(UserError, match=r"process of environment 1 ended .*exit status -9: "):
        ask(env)
    env.close()


def test_where_there_is_no_shared_memory_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(path: str) -> Any:
        raise FileNotFoundError(2, "No such file or directory", path)

    monkeypatch.setattr(heap.BufferWrapper, "_heap", heap.Heap())  # which has nothing left over
    monkeypatch.setattr(os, "statvfs", missing)
    with pytest.raises(UserError, match=r"shared memory.*Have /dev/shm mounted, or leave vect"):
        make_vector_env("CartPole-v1", 2, EnvConfig(vectorization="async"))


def test_one_that_does_not_close_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "CLOSE_SECONDS", 0.5)
    env = make("never close")
    play(env)
    env.close()
    assert [process.exitcode for process in env.env.processes] == [-9, -9, -9]


class Starting(Odd):
    """Has a process of its own, and shows its number."""

    observation_space = gym.spaces.Box(0, 2**22, (1,), np.float32)  # Linux has no higher

    def __init__(self) -> None:
        super().__init__("start")

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.process = multiprocessing.Process(target=time.sleep, args=(600,), daemon=True)
        self.process.start()
        return np.array([self.process.pid], np.float32), {}


def test_an_environment_may_have_a_process_of_its_own_which_ends_with_it() -> None:
    env = make_vector_env(Starting, 2, EnvConfig(vectorization="async"))
    observation, _ = env.reset(seed=0)
    started = observation.reshape(-1).astype(int).tolist()
    assert all(is_there(number) for number in started)
    env.close()
    assert not any(is_there(number) for number in started)


def is_there(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return True


PROGRAM = """
import multiprocessing, sys, time, gymnasium as gym, numpy as np
from recurrent_rl.vector_env.config import EnvConfig
from recurrent_rl.vector_env.vectorize import make_vector_env

class Stuck(gym.Env):
    observation_space, action_space = gym.spaces.Box(-1, 1, (2,)), gym.spaces.Discrete(2)
    def reset(self, *, seed=None, options=None):
        if "wait" in sys.argv:
            multiprocessing.Process(target=time.sleep, args=(600,), daemon=True).start()
        return np.zeros(2, np.float32), {}
    def step(self, action):
        time.sleep(600)

def main():
    gym.register("Stuck-v0", Stuck, disable_env_checker=True)
    env = make_vector_env("Stuck-v0", 2, EnvConfig(vectorization="async"))
    env.reset()
    env.env.step_async(np.zeros(2, np.int64))
    print("stuck", flush=True)
    if "wait" in sys.argv:
        time.sleep(600)
    return env

kept = main()
"""


@pytest.mark.parametrize("ending", ["exit", "wait"])
def test_they_end_with_their_program_however_that_ends(ending: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, ending], stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"stuck\n"
        if ending == "wait":
            process.kill()
        assert process.wait(timeout=60) == (-9 if ending == "wait" else 0)
    deadline = time.monotonic() + 20
    while True:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        assert time.monotonic() < deadline, "workers were left behind"
        time.sleep(0.05)
