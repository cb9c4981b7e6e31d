"""Several workers learn what one would: gradients, weights, statistics and episodes agree."""

from __future__ import annotations

import sys
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.multiprocessing.spawn import start_processes

from recurrent_rl.agents.moments import Moments
from recurrent_rl.group import ALONE
from tests.recurrent_rl import talking
from tests.recurrent_rl.worker_cases import CASES, first_iteration, replayed, work

SIZES = (2, 4)


@pytest.mark.parametrize(
    "talk",
    [
        *(talking.say_all, talking.work_together),
        *(talking.miss_one, talking.lose_one, talking.interrupt_one),
    ],
)
def test_a_message_reaches_all_or_says_why_not(talk: Any, tmp_path: Path) -> None:
    get_context("forkserver").set_forkserver_preload([work.__module__])
    start_processes(
        talk, args=(str(tmp_path),), nprocs=talking.SIZE, start_method="forkserver"
    )  # and raises what is raised in one of them


@pytest.mark.skipif(sys.platform != "linux", reason="policies of threads are Linux's")
def test_only_the_threads_of_messages_wait_for_a_core_to_be_free(tmp_path: Path) -> None:
    test_a_message_reaches_all_or_says_why_not(talking.keep_policies, tmp_path)


def test_alone_a_message_is_what_was_said() -> None:
    assert ALONE.alone
    assert (ALONE.rank, ALONE.size, ALONE.neighbours, ALONE.waited) == (0, 1, 1, 0.0)
    x = torch.ones(2)
    ALONE.add_up([x])
    ALONE.take_over([x])
    assert x.tolist() == [1.0, 1.0]
    moments = [Moments.of(x)]
    assert ALONE.total(moments) is moments
    assert ALONE.largest(x) is x
    assert (ALONE.exchange(3), ALONE.gather(3), ALONE.tell(3, 0)) == ([3], [3], 3)
    assert ALONE.done_by_all(lambda: 3, "") == [3]
    with pytest.raises(KeyboardInterrupt):
        ALONE.done_by_all(talking.interrupted, "")
    assert not ALONE.broken
    assert ALONE.agree(stop=2, save=True) == (2, 1, 0, 0, 0)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, Any]]:
    """What came of each case with so many workers."""
    folder = tmp_path_factory.mktemp("workers")
    # Forked from one that has imported everything, and computed nothing.
    get_context("forkserver").set_forkserver_preload([work.__module__])
    for size in SIZES:
        start_processes(work, args=(size, str(folder)), nprocs=size, start_method="forkserver")
    return {size: torch.load(folder / f"found-{size}.pt", weights_only=False) for size in SIZES}


@pytest.mark.parametrize("case", CASES)
def test_workers_learn_what_one_would(found: dict[int, dict[str, Any]], case: str) -> None:
    alone = first_iteration(CASES[case]())
    exact = replayed(CASES[case]())
    for size in SIZES:
        together = found[size][case]
        actions = torch.cat(together["actions"], dim=1)
        # Continuous ones but for rounding, since the product of fewer rows can take another way.
        torch.testing.assert_close(actions, alone["actions"], rtol=1e-5, atol=1e-5)
        ended, expected = together["ended"].episodes, alone["ended"].episodes
        assert [one.total for one in ended] == pytest.approx([one.total for one in expected], 1e-4)
        assert [one._replace(total=0.0) for one in ended] == [
            one._replace(total=0.0) for one in expected
        ]
        for a, b in zip(together["gradient"], alone["gradient"], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
        for name, a in together["weights"].items():
            b = alone["weights"][name]
            torch.testing.assert_close(a, b, rtol=0, atol=1e-3 * float(b.abs().max() + 1e-6))
        for name, a in together["float64"].items():
            torch.testing.assert_close(a, exact[name], rtol=0, atol=1e-9)
        for tag, value in alone["scalars"].items():
            assert together["scalars"][tag] == pytest.approx(value, rel=1e-3, abs=1e-5), tag
