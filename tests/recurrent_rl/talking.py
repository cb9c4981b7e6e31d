"""What one of three workers says and hears in the tests of messages; an assertion ends it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.distributed import FileStore  # type: ignore[attr-defined]

from recurrent_rl.agents.moments import Moments
from recurrent_rl.errors import RaisedError, ToldError, UserError
from recurrent_rl.group import Agreed, Group, joined

SIZE = 3
CPU = torch.device("cpu")


def meeting(folder: str, name: str, size: int = SIZE) -> FileStore:
    return FileStore(str(Path(folder) / name), size)


def say_all(rank: int, folder: str) -> None:
    """Every kind of message, once."""
    with joined(meeting(folder, "all"), rank, SIZE, CPU, 60.0, neighbours=2) as group:
        assert (group.rank, group.size, group.neighbours) == (rank, SIZE, 2)
        assert not group.alone
        sums(group)
        others_values(group)
        assert not group.broken
        waiting(group)
        again = joined(meeting(folder, "again"), rank, SIZE, CPU, 60.0)
        with pytest.raises(UserError, match="has a process group of torch"):
            again.__enter__()
        group.exchange(None)
    assert not dist.is_initialized()
    with joined(meeting(folder, "later"), rank, SIZE, CPU, 60.0) as group:
        assert group.neighbours == SIZE
        assert group.exchange(rank) == [0, 1, 2]


def sums(group: Group) -> None:
    one = float(group.rank + 1)
    tensors = [
        torch.full((2, 3), one),
        torch.tensor(10 * one, dtype=torch.float64),
        torch.tensor([group.rank, 1]),
        torch.full((4,), 100 * one),
    ]
    group.add_up(tensors)
    assert [x.flatten()[0].item() for x in tensors] == [6.0, 60.0, 3, 600.0]
    assert [tuple(x.shape) for x in tensors] == [(2, 3), (), (2,), (4,)]
    assert tensors[2].tolist() == [3, SIZE]
    own = Moments.of(torch.tensor([one, 2 * one]))
    (of_all,) = group.total([own])
    assert [float(x) for x in of_all] == [6.0, 18.0, 5.0 * 14.0]
    assert float(own.total) == 3 * one  # as it was


def others_values(group: Group) -> None:
    numbers = torch.tensor([group.rank, -group.rank, 7])
    assert group.largest(numbers).tolist() == [2, 0, 7]
    assert numbers.tolist() == [group.rank, -group.rank, 7]
    taken = [torch.full((2,), float(group.rank + 5)), torch.tensor(group.rank)]
    group.take_over(taken)
    assert [x.tolist() for x in taken] == [[5.0, 5.0], 0]
    assert group.exchange(f"of {group.rank}") == ["of 0", "of 1", "of 2"]
    assert group.tell(f"of {group.rank}", 1) == "of 1"
    gathered = group.gather(group.rank)
    assert gathered == ([0, 1, 2] if group.rank == 0 else None)
    assert group.agree() == Agreed(0, 0, 0, 0, 0)
    assert not group.agree(save=True).ends
    assert not group.agree(failed=group.rank == 0).ends
    asked = [{"stop": 15}, {"save": True}, {"enough": True}][group.rank]
    assert group.agree(**asked) == Agreed(15, 1, 0, 1, 0)  # type: ignore[arg-type]
    assert group.agree(enough=group.rank == 1).ends
    assert group.agree(stop=2 if group.rank == 1 else None).ends


def waiting(group: Group) -> None:
    """The seconds of a message are counted, also of one that waits for another worker."""
    before = group.waited
    if group.rank == 1:
        time.sleep(1.5)
    group.add_up([torch.ones(1)])
    assert group.waited - before > (0.0 if group.rank == 1 else 0.3)


def keep_policies(rank: int, folder: str) -> None:
    """The threads of messages are of the policy BATCH; where the user has set one, they keep it."""
    if rank == 1:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    before = policies()
    own = before[str(os.getpid())]
    with joined(meeting(folder, "policies"), rank, SIZE, CPU, 60.0) as group:
        group.exchange(None)
        group.add_up([torch.ones(1)])
        of_messages = os.SCHED_BATCH if own == os.SCHED_OTHER else own
        become(lambda now: now.items() > before.items() and new(now, before) == {of_messages})
        tell = "import os; print(os.sched_getscheduler(0))"
        assert int(subprocess.check_output([sys.executable, "-c", tell])) == own
        group.exchange(None)
    become(lambda now: now == before)


def policies() -> dict[str, int]:
    """By which each thread of this process is given a core."""
    found = {}
    for thread in os.listdir("/proc/self/task"):
        with suppress(ProcessLookupError):  # it has ended since
            found[thread] = os.sched_getscheduler(int(thread))
    return found


def new(now: dict[str, int], before: dict[str, int]) -> set[int]:
    return {now[thread] for thread in now.keys() - before.keys()}


def become(wanted: Callable[[dict[str, int]], bool]) -> None:
    """The policies become so soon: a thread that has said its message takes a moment to end."""
    deadline = time.monotonic() + 20
    while not wanted(now := policies()):
        assert time.monotonic() < deadline, now
        time.sleep(0.01)


def work_together(rank: int, folder: str) -> None:
    """What one of them fails in all raise: the first its own error, or what another one met."""
    with joined(meeting(folder, "work"), rank, SIZE, CPU, 60.0) as group:
        assert group.done_by_all(lambda: 10 * rank, "") == [0, 10, 20]
        own = [KeyError("first"), UserError("spilt"), RaisedError("Your code raised it.")]

        def work(*failing: int) -> None:
            if rank in failing:
                raise own[rank]

        for failing, kind, told in (
            ((0, 1), KeyError, "worker 0: .*KeyError: 'first'"),
            ((1, 2), UserError, "worker 1: spilt"),
            ((2,), RaisedError, "worker 2: Your code raised it"),
        ):
            with pytest.raises((KeyError, UserError)) as raised:
                group.done_by_all(partial(work, *failing), f"worker {rank}")
            assert raised.type is (kind if rank == 0 else ToldError)
            if rank == 0 and 0 in failing:
                assert raised.value is own[0]
            else:
                assert re.match(told, str(raised.value), re.DOTALL)
        with pytest.raises(SystemExit) as ended:
            group.done_by_all(partial(sys.exit, 3) if rank == 1 else int, "")
        assert ended.value.code == 3
        for one in range(2):
            with pytest.raises(KeyboardInterrupt):
                group.done_by_all(interrupted if rank == one else int, "")
        assert not group.broken  # all are at one place still
        assert group.exchange(rank) == [0, 1, 2]
    with joined(meeting(folder, "interrupted"), rank, SIZE, CPU, 60.0) as group:
        if rank == 1:
            with pytest.raises(KeyboardInterrupt):
                group.done_by_all(interrupted, "", at_once=lambda: True)
            assert group.broken
            return
        with pytest.raises(RuntimeError):  # it has left
            group.done_by_all(int, "")
        assert group.broken


def interrupted() -> None:
    raise KeyboardInterrupt


def miss_one(rank: int, folder: str) -> None:
    """The last worker does not come to the second message."""
    neighbours = 2 if rank == 0 else None  # as the first has it, the last is on another machine
    with joined(meeting(folder, "late"), rank, SIZE, CPU, 2.0, neighbours) as group:
        group.exchange(None)
        if rank == 2:
            time.sleep(8)
            return
        # The second gives up first, and closes what it has with the first by that.
        time.sleep(1 if rank == 0 else 0)
        told = r"Worker 2 did not answer for 2 s.* worker_timeout"
        with pytest.raises(UserError, match=told) as raised:
            group.add_up([torch.ones(1)])
        assert ("machine cannot be reached" in str(raised.value)) == (rank == 0)
        assert group.broken


def interrupt_one(rank: int, folder: str) -> None:
    """Ctrl-C cuts a message short: its thread has ended when the group is left, as others have."""
    with joined(meeting(folder, "interrupted"), rank, SIZE, CPU, 60.0) as group:
        group.exchange(None)
        if rank:
            time.sleep(2.5)
            os._exit(0)  # as when it is killed
        threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            group.exchange(None)
        assert are_talking()
    time.sleep(0.5)
    assert not are_talking()


def are_talking() -> bool:
    """Whether a message is under way."""
    return any(thread.name == "message to workers" for thread in threading.enumerate())


def lose_one(rank: int, folder: str) -> None:
    """The last worker leaves: the first is told why, the second has nobody to say it."""
    why = UserError("it has gone")
    place = meeting(folder, "lost")
    told = why if rank == 0 else None
    with joined(place, rank, SIZE, CPU, 60.0, explain=lambda: told) as group:
        group.exchange(None)
        if rank == 2:
            return
        with pytest.raises(UserError if rank == 0 else RuntimeError) as raised:
            group.exchange(None)
        assert (raised.value is why) == (rank == 0)
        assert group.broken
