"""The workers that train one agent together, and what they tell each other.

Messages are those of `torch.distributed`. Sums are taken over all workers and come out the same at
each, to the last bit: workers that start with the same weights and step by the same sums keep the
same weights.
"""

from __future__ import annotations

import datetime
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import Store  # type: ignore[attr-defined]

from recurrent_rl.agents.moments import Moments
from recurrent_rl.errors import ToldError, UserError, for_others, told_exit

LATE_SECONDS = 3.0
"""How far apart the workers notice that one of them does not answer."""

MOMENT = 0.2
"""Seconds in which a worker that gives up has told the others."""

T = TypeVar("T")
Explain = Callable[[], UserError | None]


class Agreed(NamedTuple):
    """What all workers do next."""

    stop: int
    """The number of the signal that asks for the end; 0 for none."""
    save: int
    """1: write a checkpoint."""
    failed: int
    """1: the first worker failed between two iterations, or all in one. All end."""
    enough: int
    """1: a callback asks for the end."""
    attributes: int
    """1: the first worker tells next what is set in the environments."""

    @property
    def ends(self) -> bool:
        """Whether no other iteration is begun."""
        return bool(self.stop or self.enough)


class Group:
    """This worker among those that train one agent together. Alone, messages cost nothing.

    Args:
        rank: of this worker, from 0; the first keeps the run's folder and shows what happens.
        size: number of workers.
        neighbours: workers on this machine, which share its cores; None: all are on it.
        meeting: where the workers found each other.
        timeout: seconds that a message may take.
        explain: says why no message came through, where it is known; None otherwise.

    Attributes:
        waited: seconds spent on messages so far, most of them in waiting for other workers.
        broken: whether a message has failed, or this worker; no other will come through.
    """

    def __init__(
        self,
        rank: int = 0,
        size: int = 1,
        neighbours: int | None = None,
        meeting: Store | None = None,
        timeout: float = 0.0,
        explain: Explain = lambda: None,
    ) -> None:
        self.rank = rank
        self.size = size
        self.neighbours = neighbours or size
        self.waited = 0.0
        self.broken = False
        self._meeting = meeting
        self._timeout = timeout
        self._explain = explain

    @property
    def alone(self) -> bool:
        """Whether this is the only worker."""
        return self.size == 1

    def add_up(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its sum over all workers, in one message for each type."""
        if self.alone:
            return
        by_type: dict[torch.dtype, list[Tensor]] = {}
        for x in tensors:
            by_type.setdefault(x.dtype, []).append(x)
        for alike in by_type.values():
            flat = torch.cat([x.reshape(-1) for x in alike])
            with self._talking():
                dist.all_reduce(flat)
            for x, total in zip(alike, flat.split([x.numel() for x in alike]), strict=True):
                x.copy_(total.view_as(x))

    def total(self, moments: list[Moments]) -> list[Moments]:
        """Moments of the data of all workers, from those of this one's."""
        if self.alone:
            return moments
        of_all = [Moments(*(x.clone() for x in of_this)) for of_this in moments]
        self.add_up(x for one in of_all for x in one)
        return of_all

    def largest(self, numbers: Tensor) -> Tensor:
        """The largest of each entry over all workers."""
        if self.alone:
            return numbers
        numbers = numbers.clone()
        with self._talking():
            dist.all_reduce(numbers, dist.ReduceOp.MAX)
        return numbers

    def take_over(self, tensors: Iterable[Tensor]) -> None:
        """Take over the first worker's values of these tensors."""
        if self.alone:
            return
        for x in tensors:
            with self._talking():
                dist.broadcast(x, 0)

    def agree(
        self,
        stop: int | None = None,
        save: bool = False,
        failed: bool = False,
        enough: bool = False,
        attributes: bool = False,
    ) -> Agreed:
        """What all do next, from what each asks for."""
        asked = torch.tensor([stop or 0, save, failed, enough, attributes])
        return Agreed(*self.largest(asked).tolist())

    def exchange(self, x: T) -> list[T]:
        """What each worker has, by rank. Ctrl-C is heard meanwhile."""
        if self.alone:
            return [x]
        everyone: list[T] = [x] * self.size
        with self._talking():
            _interruptibly(lambda: dist.all_gather_object(everyone, x))
        return everyone

    def tell(self, x: T, source: int) -> T:
        """What the worker of this rank has, at each."""
        if self.alone:
            return x
        told = [x]
        with self._talking():
            dist.broadcast_object_list(told, source)
        return told[0]

    def gather(self, x: T) -> list[T] | None:
        """What each worker has, by rank, for the first; None for the others."""
        if self.alone:
            return [x]
        everyone: list[T] | None = [x] * self.size if self.rank == 0 else None
        with self._talking():
            dist.gather_object(x, everyone)
        return everyone

    def done_by_all(
        self, work: Callable[[], T], worker: str, at_once: Callable[[], bool] = lambda: False
    ) -> list[T]:
        """What each worker returns of its work, by rank; where one fails, all raise.

        Args:
            work: of this one.
            worker: this one, in a message about its failure.
            at_once: whether a KeyboardInterrupt leaves without waiting for the others.

        Raises:
            Exception: in the first worker; its own error, or what another one met.
            ToldError: in the others.
            SystemExit, KeyboardInterrupt: in all, where the first to fail by rank has raised it.
        """
        done: T | None = None
        failure: BaseException | None = None
        told: UserError | SystemExit | KeyboardInterrupt | None = None
        try:
            done = work()
        except SystemExit as error:
            failure, told = error, told_exit(error)
        except Exception as error:
            failure, told = error, for_others(error, worker)
        except BaseException as error:
            if not isinstance(error, KeyboardInterrupt) or at_once():
                self.fall_out()
                raise
            failure, told = error, KeyboardInterrupt()
        reports: list[Any] = self.exchange((done, told))
        failures = [told for _, told in reports if told is not None]
        if not failures:
            return [done for done, _ in reports]
        if self.rank == 0 and failure is not None:
            raise failure
        if self.rank == 0 or not isinstance(failures[0], UserError):
            raise failures[0]
        raise ToldError(str(failures[0]))

    @contextmanager
    def awaited(self) -> Iterator[None]:
        """What others wait to hear of: where it fails, this worker falls out."""
        try:
            yield
        except BaseException:
            self.fall_out()
            raise

    def fall_out(self) -> None:
        """Send no more: this worker fails where the others do not, and wait for another message."""
        self.broken = not self.alone

    @contextmanager
    def _talking(self) -> Iterator[None]:
        """Count the seconds that it takes; where it fails, say why."""
        began = time.perf_counter()
        try:
            yield
        except BaseException as error:
            self.broken = True
            if not isinstance(error, RuntimeError):
                raise
            late = "imed out" in str(error) or self._another_gave_up()
            why = self._late() if late else self._explain()
            if why is None:
                raise
            raise why from error
        finally:
            self.waited += time.perf_counter() - began

    def _another_gave_up(self) -> bool:
        """Whether another worker has waited for long enough, and closed what it had with this."""
        assert self._meeting is not None
        time.sleep(MOMENT)  # it tells so after it has closed that
        with suppress(RuntimeError):  # the meeting may be lost too
            return any(self._meeting.check([f"waited/{i}"]) for i in range(self.size))
        return False

    def _late(self) -> UserError:
        """Which workers did not come, after those that did have waited for long enough."""
        assert self._meeting is not None
        self._meeting.set(f"waited/{self.rank}", "")
        time.sleep(LATE_SECONDS)  # the others find out by and by
        late = [str(i) for i in range(self.size) if not self._meeting.check([f"waited/{i}"])]
        elsewhere = self.neighbours < self.size
        machine = " If its machine cannot be reached, mend that." if elsewhere else ""
        return UserError(
            f"Worker {', '.join(late) or '?'} did not answer for {self._timeout:g} s: an "
            f"environment of its hangs, or is slow. Mend it, or raise worker_timeout.{machine}"
        )


def _interruptibly(talk: Callable[[], None]) -> None:
    """Do it in a thread of its own: in a call into torch this one would be deaf to signals."""
    failure: list[Exception] = []
    done = threading.Event()  # a thread whose join() is interrupted counts as ended (Python 3.11)

    def run() -> None:
        try:
            talk()
        except Exception as error:
            failure.append(error)
        finally:
            done.set()

    thread = threading.Thread(target=run, name="message to workers", daemon=True)
    thread.start()
    try:
        done.wait()
    except BaseException:
        _INTERRUPTED.append(done)
        raise
    if failure:
        raise failure[0]


def _end_interrupted() -> None:
    """Wait for messages that Ctrl-C has cut short: Python aborts where one is amid C++ at its end.

    They end when the other workers have.
    """
    while _INTERRUPTED:
        _INTERRUPTED.pop().wait(LATE_SECONDS)


def _interrupt_nobody() -> None:
    """Let this thread, and those that it begins, wait for a core until the one on it sleeps.

    For the threads of Gloo. One of them waits for sockets; when it is woken while another holds the
    lock of its socket, it asks for the lock without pause. On the core of the other it keeps the
    other from going on, and a message of 0.3 ms takes 5 (Linux 6.18, one core for each worker;
    `python benchmarks/speed/scale.py --only messages`). A policy that the user has set stays.
    """
    if sys.platform == "linux":
        with suppress(OSError):  # a container that forbids it
            if os.sched_getscheduler(0) == os.SCHED_OTHER:
                os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


_INTERRUPTED: list[threading.Event] = []
"""The ends of messages that nobody waits for any more."""
ALONE = Group()
"""The only worker of a run."""
_JOINED = threading.Lock()
"""Held while this process is in a group: torch.distributed keeps one for a process."""


@contextmanager
def joined(
    meeting: Store,
    rank: int,
    size: int,
    device: torch.device,
    timeout: float,
    neighbours: int | None = None,
    explain: Explain = lambda: None,
) -> Iterator[Group]:
    """Join the workers of a run, until the end of this context.

    Args:
        meeting: where the workers find each other.
        rank: of this one.
        size: number of workers.
        device: that they compute on; CUDA's tensors go by NCCL, all else by Gloo.
        timeout: seconds that a message may take.
        neighbours: as for `Group`.
        explain: as for `Group`.

    Raises:
        UserError: this process has a process group of torch.distributed already.
    """
    if dist.is_initialized() or not _JOINED.acquire(blocking=False):
        raise UserError(
            "This process has a process group of torch.distributed already, perhaps of a run in "
            "another thread, and several workers need one of their own: train with workers=1, or "
            "end the other first (torch.distributed.destroy_process_group())."
        )
    # NCCL takes no two workers on one GPU.
    nccl = device.type == "cuda" and (neighbours or size) <= torch.cuda.device_count()
    with ExitStack() as stack:
        stack.callback(_JOINED.release)

        def begin() -> None:
            _interrupt_nobody()
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if nccl else "gloo",
                store=meeting,
                rank=rank,
                world_size=size,
                timeout=datetime.timedelta(seconds=timeout),
            )

        try:
            _interruptibly(begin)
        except RuntimeError as error:
            if (why := explain()) is None:
                raise
            raise why from error
        stack.callback(dist.destroy_process_group)
        stack.callback(_end_interrupted)
        yield Group(rank, size, neighbours, meeting, timeout, explain)
