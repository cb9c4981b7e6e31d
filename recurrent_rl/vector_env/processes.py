"""Environments in processes of their own, which end when their parent does, and not before.

Ctrl-C and `kill` of a process group reach the workers of `gymnasium.vector.AsyncVectorEnv` too.
They would die, and the parent with them, before it has saved.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from multiprocessing import connection
from multiprocessing.reduction import ForkingPickler
from multiprocessing.util import Finalize
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.async_vector_env import AsyncState, _async_worker

from recurrent_rl.agents.raising import FRAMES, keep_frames
from recurrent_rl.errors import UserError
from recurrent_rl.signals import (
    STOPPING,
    check_may_start_others,
    children_ignoring_signals,
    join_within,
    kill,
    when_parent_ends,
)

CLOSE_SECONDS = 10.0
"""How long an environment may take to close before its process is killed."""


def make_in_processes(
    env_id: str, makers: Sequence[Callable[[], gym.Env[Any, Any]]]
) -> EnvironmentProcesses:
    """Make environments of one id, each in a process of its own, in autoreset mode SAME_STEP.

    Args:
        env_id: of the environments, for messages.
        makers: one for each environment.

    Raises:
        UserError: a process ended meanwhile, what makes an environment cannot be sent to one,
            there is no shared memory, or this process may start no others.
    """
    check_may_start_others('Set vectorization to "sync"')
    others = set(multiprocessing.active_children())
    try:
        with children_ignoring_signals():
            # daemon: multiprocessing lets such a process start none of its own, as a simulator's.
            env = _Processes(
                makers, autoreset_mode=AutoresetMode.SAME_STEP, worker=_work, daemon=False
            )
    except BaseException as error:
        kill(set(multiprocessing.active_children()) - others)
        if isinstance(error, OSError) and str(error.filename).startswith("/dev/shm"):
            raise UserError(
                "Environments in processes of their own hand over what they see in shared memory, "
                f"and there is none ({error}). Have /dev/shm mounted, or leave vectorization at "
                "auto."
            ) from error
        if isinstance(error, (EOFError, ConnectionError)):
            raise UserError(
                f"A process that was to make environment {env_id} ended before it had made it; "
                "what it printed says why."
            ) from error
        if "pickle" in f"{type(error).__name__} {error}".lower():
            raise UserError(
                f"Environment {env_id} cannot be sent to a process of its own ({error}). Make it "
                "by a class or function of a module, or leave vectorization at auto."
            ) from error
        raise
    return EnvironmentProcesses(env)


class _Processes(AsyncVectorEnv):
    """Raises what an environment has raised as it is, where Gymnasium's raises another of it."""

    def _raise_if_errors(self, successes: Iterable[bool]) -> None:
        sent = [self.error_queue.get() for success in successes if not success]
        pipes: list[Any] = self.parent_pipes
        for index, *_ in sent:
            pipes[index].close()
            pipes[index] = None
        for index, _, error, trace in sent:
            self._state = AsyncState.DEFAULT
            raise error from ChildProcessError(f"in the process of environment {index}:\n{trace}")


class EnvironmentProcesses(VectorWrapper[Any, Any, Any, Any, Any]):
    """An `AsyncVectorEnv` that says which of its processes died, and leaves none behind.

    Args:
        env: its worker function is `_work`.
    """

    env: AsyncVectorEnv[Any, Any]

    def __init__(self, env: VectorEnv) -> None:
        super().__init__(env)
        # When the program ends, multiprocessing would wait for them in vain, after the finalizers
        # of priority 0 or more.
        self._maker = os.getpid()
        self._at_exit = Finalize(None, kill, args=(self.env.processes,), exitpriority=0)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset all environments.

        Raises:
            UserError: a process has ended by itself.
        """
        with self._naming_the_dead():
            return self.env.reset(seed=seed, options=options)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step all environments.

        Raises:
            UserError: a process has ended by itself.
        """
        with self._naming_the_dead():
            return self.env.step(actions)

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """What a method of each environment returns, or the value of an attribute.

        Raises:
            UserError: a process has ended by itself.
        """
        with self._naming_the_dead():
            return self.env.call(name, *args, **kwargs)

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """The value of an attribute of each environment.

        Raises:
            UserError: a process has ended by itself.
        """
        return self.call(name)

    def set_attr(self, name: str, values: Any) -> None:
        """Set an attribute of each environment; a list or tuple holds a value for each.

        Raises:
            UserError: a process has ended by itself.
        """
        with self._naming_the_dead():
            self.env.set_attr(name, values)

    @contextlib.contextmanager
    def _naming_the_dead(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, BrokenPipeError, ConnectionResetError) as error:
            # A worker whose environment raised an error has sent it, and its pipe is gone.
            silent = {
                process.sentinel: (i, process)
                for i, process in enumerate(self.env.processes)
                if self.env.parent_pipes[i] is not None
            }
            ended = [silent[x] for x in connection.wait(list(silent), timeout=1.0)]  # type: ignore[index]
            if not ended:
                raise
            i, process = min(ended, key=lambda one: one[0])
            process.join()
            raise UserError(
                f"The process of environment {i} ended by itself, with exit status "
                f"{process.exitcode}: it crashed, called exit, or was killed, for want of memory "
                "perhaps. Mend the environment, or lower num_envs."
            ) from error

    def close(self, **kwargs: Any) -> None:
        """Close all environments, and kill the process of one that does not close in time."""
        env = self.env
        if env.closed:
            return
        env.closed = True
        pipes = [pipe for pipe in env.parent_pipes if pipe is not None]
        try:
            for pipe in pipes:
                with contextlib.suppress(OSError):  # it has ended by itself
                    pipe.send(("close", None))
            join_within(env.processes, CLOSE_SECONDS)
        finally:
            kill(env.processes)
            self._at_exit.cancel()
            for pipe in pipes:
                pipe.close()

    def __del__(self) -> None:
        if os.getpid() == self._maker:  # else a fork's copy, and the processes are not its own
            self.close()


def _work(*arguments: Any) -> None:
    """What a worker does: as Gymnasium's, deaf to signals, and gone when its parent is."""
    own = os.getpid()

    def ignore(number: int, _: object) -> None:
        if os.getpid() != own:  # a process that was forked from this one, by the environment
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    for number in STOPPING:
        # Not SIG_IGN, which programs that the environment starts would inherit.
        signal.signal(number, ignore)
    when_parent_ends(_end)
    index, make, *others = arguments
    _async_worker(index, lambda: _OwnProcess(make()), *others)


def _end() -> None:
    """End this process, and those that its environment has started by multiprocessing."""
    try:
        kill(multiprocessing.active_children())
    finally:
        os._exit(1)


class _OwnProcess(gym.Wrapper[Any, Any, Any, Any]):
    """An environment alone in its process: the global generators are its own.

    Its errors are brought into a form that can be sent to the parent, which would wait for others
    in vain.
    """

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset; the seed is that of Python's and NumPy's global generators too."""
        if seed is not None:
            random.seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002 (the old generator is the one that is global)
        with _errors_that_can_be_sent():
            return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step."""
        with _errors_that_can_be_sent():
            return self.env.step(action)

    def get_wrapper_attr(self, name: str) -> Any:
        """An attribute; if it is a method, one whose errors can be sent too."""
        with _errors_that_can_be_sent():
            found = super().get_wrapper_attr(name)
        return _errors_that_can_be_sent()(found) if callable(found) else found

    def set_wrapper_attr(self, name: str, value: Any, *, force: bool = True) -> bool:
        """Set an attribute."""
        with _errors_that_can_be_sent():
            return super().set_wrapper_attr(name, value, force=force)


@contextlib.contextmanager
def _errors_that_can_be_sent() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        keep_frames(error)
        try:
            ForkingPickler.loads(ForkingPickler.dumps((type(error), error)))  # as a queue does
        except Exception:
            sent = RuntimeError(f"{type(error).__qualname__}: {error}")
            sent.__dict__.update({FRAMES: getattr(error, FRAMES)})
            raise sent from error
        raise
