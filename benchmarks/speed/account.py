"""Where an iteration's time goes, by phase and worker: what workers share, and what they repeat.

    python benchmarks/speed/account.py  # two minutes on two cores; prints Markdown
    python benchmarks/speed/account.py --cases fast --workers 4 --rounds 9

Milliseconds of the processor an iteration, in each worker's main thread: what else runs on the
machine changes them little. One process has one thread here, so that its main thread does all the
work; with its defaults the memory's kernel uses the other cores too.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from rich.console import Console
from scale import CASES, settings
from torch.distributed import FileStore  # type: ignore[attr-defined]
from torch.multiprocessing.spawn import start_processes
from torch.profiler import ProfilerActivity, profile

from recurrent_rl import ppo
from recurrent_rl.collector import Collector
from recurrent_rl.group import ALONE, Group, joined
from recurrent_rl.optimizer import Adam
from recurrent_rl.process import available_cores, computing, keeping_freed_memory
from recurrent_rl.sequences import Sequences
from recurrent_rl.trainer import Trainer
from recurrent_rl.vector_env.environments import Environments

STDERR = Console(stderr=True)
MESSAGES = "messages"
PHASES: tuple[tuple[Any, str, str], ...] = (
    (Trainer, "iterate", "all else"),
    (Collector, "collect", "collecting: the agent"),
    (Environments, "step", "collecting: types, checks"),
    (ppo, "update", "update: all else"),
    (Sequences, "select", "update: choosing rows"),
    (ppo, "ppo_loss", "update: forward"),
    (torch.Tensor, "backward", "update: backward"),
    (torch.nn.utils, "clip_grad_norm_", "update: clipping"),
    (Adam, "step", "update: Adam"),
    (Group, "add_up", MESSAGES),
    (Group, "exchange", MESSAGES),
    (Group, "largest", MESSAGES),
)
"""Functions, by what they are attributes of, and the phase of their time less that of the others
which they call."""


class Account:
    """Milliseconds of the main thread by phase, and between one message and the next.

    Attributes:
        spent: by phase.
        between: of all that is done from one message to the next, in order.
        waited: of the clock in messages.
    """

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}
        self.between: list[float] = []
        self.waited = 0.0
        self._within: list[float] = []
        """For each call under way, what the phases that it has called took."""
        self._since = time.thread_time()

    def timed(self, call: Callable[..., Any], phase: str) -> Callable[..., Any]:
        """This call, whose time goes to a phase."""

        def timing(*arguments: Any, **keywords: Any) -> Any:
            began, clock = time.thread_time(), time.perf_counter()
            if phase == MESSAGES:
                self.between.append(1e3 * (began - self._since))
            self._within.append(0.0)
            result = call(*arguments, **keywords)
            ended = time.thread_time()
            took, within = 1e3 * (ended - began), self._within.pop()
            self.spent[phase] = self.spent.get(phase, 0.0) + took - within
            if self._within:
                self._within[-1] += took
            if phase == MESSAGES:
                self.waited += 1e3 * (time.perf_counter() - clock)
                self._since = ended
            return result

        return timing


def timed(account: Account, trainer: Trainer) -> ExitStack:
    """A context in which the calls of this trainer go to the account."""
    stack = ExitStack()
    for of, name, phase in PHASES:
        stack.enter_context(patch.object(of, name, account.timed(getattr(of, name), phase)))
    step = account.timed(trainer.env.step, "collecting: environments")
    stack.enter_context(patch.object(trainer.env, "step", step))
    return stack


def work(rank: int, size: int, case: str, rounds: int, folder: str) -> None:
    """One of several workers, or the only one: iterate, and write what it came to."""
    store = FileStore(f"{folder}/meeting", size)
    config = settings(*CASES[case], size, threads=1)
    with ExitStack() as stack:
        stack.enter_context(keeping_freed_memory())
        stack.enter_context(computing(1))
        group = ALONE
        if size > 1:
            group = stack.enter_context(joined(store, rank, size, torch.device("cpu"), 600.0))
        trainer = Trainer(config, group=group)
        stack.callback(trainer.close)
        for _ in range(2):
            trainer.iterate()  # to warm up
        found = []
        for _ in range(rounds):
            group.exchange(None)
            account = Account()
            with timed(account, trainer):
                trainer.iterate()
            found.append((account.spent, account.between, account.waited))
    Path(folder, f"{rank}.json").write_text(json.dumps(found))


def table(case: str, size: int, rounds: int) -> None:
    """The account of one process and of several workers."""
    accounts = []
    for workers in (1, size):
        with tempfile.TemporaryDirectory() as folder:
            arguments = (workers, case, rounds, folder)
            start_processes(work, args=arguments, nprocs=workers, start_method="spawn")
            accounts += [json.loads(Path(folder, f"{i}.json").read_text()) for i in range(workers)]
    columns = [[spent for spent, _, _ in found] for found in accounts]
    names = ["one process", *(f"worker {i}" for i in range(size))]
    print(f"\n| {', '.join(map(str, CASES[case]))} | " + " | ".join(names) + " |")
    print("|---" * (len(names) + 1) + "|")
    for phase in columns[1][0]:
        cells = [statistics.median(spent.get(phase, 0.0) for spent in of) for of in columns]
        print(f"| {phase} | " + " | ".join(f"{x:.1f}" for x in cells) + " |")
    wholes = [statistics.median(sum(spent.values()) for spent in of) for of in columns]
    print("| whole | " + " | ".join(f"{x:.1f}" for x in wholes) + " |")
    # Between two messages the slowest worker is waited for.
    segments = [
        list(zip(*(between for _, between, _ in turn), strict=True))
        for turn in zip(*accounts[1:], strict=True)
    ]
    slowest = statistics.median(sum(map(max, turn)) for turn in segments)
    waited = statistics.median(waited for _, _, waited in accounts[1])
    print(
        f"\n{slowest:.0f} ms if between two messages the slower worker is waited for, and messages "
        f"cost nothing: {wholes[0] / slowest:.2f} times one process of one thread. "
        f"By the clock the first worker spent {waited:.0f} ms on messages.",
        flush=True,
    )


def calls(case: str) -> float:
    """How often a step of collecting calls PyTorch; what those calls call is not counted."""
    with computing(1):
        trainer = Trainer(settings(*CASES[case], 1, threads=1))
        trainer.iterate()
        with profile(activities=[ProfilerActivity.CPU]) as profiled:
            trainer.collector.collect(trainer.iteration)
        trainer.close()
    outermost = [event.name for event in profiled.events() or () if event.cpu_parent is None]
    return len([name for name in outermost if name.startswith("aten::")]) / trainer.config.num_steps


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--cases", choices=CASES, nargs="+", default=["fast", "slow"])
    parser.add_argument("--workers", type=int, default=available_cores())
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    for case in given.cases:
        table(case, given.workers, given.rounds)
        print(f"A step of collecting calls PyTorch {calls(case):.0f} times.", flush=True)


if __name__ == "__main__":
    main()
