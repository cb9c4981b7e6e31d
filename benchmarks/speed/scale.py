"""What several workers gain on one machine, against one process with its defaults.

    python benchmarks/speed/scale.py  # about five minutes on two cores; prints Markdown
    python benchmarks/speed/scale.py --workers 2 4 --rounds 9
    python benchmarks/speed/scale.py --only messages  # a sum over workers, by the size of a model
    python benchmarks/speed/scale.py --only projection  # computed for networks, not measured

Contenders iterate in turn, several rounds, in processes that stay; ratios are taken within a round.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import gymnasium as gym
import torch
from rich.console import Console
from rich.progress import track
from torch.distributed import FileStore  # type: ignore[attr-defined]
from torch.multiprocessing.spawn import start_processes

from recurrent_rl.agents import AgentConfig
from recurrent_rl.config import ResolvedConfig, TrainConfig
from recurrent_rl.envs.cartpole import CartPole
from recurrent_rl.group import ALONE, joined
from recurrent_rl.process import available_cores, computing, keeping_freed_memory
from recurrent_rl.rollout import Rollout
from recurrent_rl.runs.launch import Begun, together
from recurrent_rl.trainer import Trainer, resolved

STDERR = Console(stderr=True)
COST = 50e-6
"""Seconds of computing that a step of the dear environment takes."""
CASES = {
    "cheap": ("recurrent_rl/CartPole-NoVelocity-v0", "lstm", 64),
    "dear": ("Dear-v0", "lstm", 64),
    "dear-256": ("Dear-v0", "lstm", 256),
    "rotor": ("recurrent_rl/CartPole-NoVelocity-v0", "gru-rotor", 64),
    "cheap-16": ("recurrent_rl/CartPole-NoVelocity-v0", "lstm", 16),
    "cheap-1024": ("recurrent_rl/CartPole-NoVelocity-v0", "lstm", 1024),
    "rotor-1024": ("recurrent_rl/CartPole-NoVelocity-v0", "gru-rotor", 1024),
}
"""What workers are tried on: environment, memory, environments."""
SIZES = (10_000, 100_000, 500_000, 2_000_000, 10_000_000)
"""Parameters of models whose gradients are added up."""


LATENCY = 30e-6
"""Seconds that a short message takes from one machine to the next, assumed."""


class Dear(CartPole):
    """CartPole without velocities whose every step costs `COST` seconds of one core."""

    def step(self, actions: Any) -> Any:
        end = time.perf_counter() + COST * self.num_envs
        while time.perf_counter() < end:
            pass
        return super().step(actions)


dear: Any = lambda num_envs, **_: Dear(num_envs)  # noqa: E731
gym.register("Dear-v0", vector_entry_point=dear)


def settings(
    env_id: str,
    memory: str,
    num_envs: int,
    workers: int = 1,
    threads: int | None = None,
    device: str = "cpu",
) -> ResolvedConfig:
    return resolved(
        TrainConfig(
            env_id,
            num_envs=num_envs,
            num_steps=128,
            workers=workers,
            threads=threads,
            total_timesteps=10**9,
            memory_interval=None,
            device=device,
            agent=AgentConfig(memory),
        )
    )


@contextmanager
def training(config: ResolvedConfig) -> Iterator[Trainer]:
    """The first worker's trainer; the others iterate when it does, until they are ended."""
    with (
        computing(config.threads, config.precision, config.workers),
        together(config) as group,
    ):
        group.exchange(Begun(config, None, False))
        trainer = Trainer(config, group)
        yield trainer
        trainer.close()
        if group is not ALONE:
            group.agree(stop=15)
            group.gather(None)  # what the others tell for a last checkpoint


class Times(NamedTuple):
    """Milliseconds of an iteration, and of its parts."""

    whole: float
    collecting: float
    messages: float


def times_of(trainer: Trainer, iterations: int) -> Times:
    """Means over iterations; messages are mostly waiting."""
    collecting = 0.0
    collect = trainer.collector.collect

    def timed(iteration: int = 0) -> Rollout:
        nonlocal collecting
        began = time.perf_counter()
        rollout = collect(iteration)
        collecting += time.perf_counter() - began
        return rollout

    began, waited = time.perf_counter(), trainer.group.waited
    with patch.object(trainer.collector, "collect", timed):
        for _ in range(iterations):
            trainer.group.agree()
            trainer.iterate()
            trainer.group.agree()
    seconds = time.perf_counter() - began, collecting, trainer.group.waited - waited
    return Times(*(1e3 * x / iterations for x in seconds))


def gains(cases: list[str], workers: list[int], rounds: int, iterations: int) -> None:
    """The table of steps per second against one process."""
    print(
        "| environment | memory | environments | workers | times one process | ms of an iteration: "
        "one process (collecting) | several (collecting, messages) |"
    )
    print("|---|---|---|---|---|---|---|")
    for env_id, memory, num_envs in (CASES[name] for name in cases):
        with training(settings(env_id, memory, num_envs, 1)) as one:
            for size in workers:
                if size > num_envs // one.config.num_minibatches:
                    continue  # a minibatch has fewer columns than there are workers
                with training(settings(env_id, memory, num_envs, size)) as several:
                    times_of(one, 2), times_of(several, 2)
                    pairs = [
                        (times_of(one, iterations), times_of(several, iterations))
                        for _ in track(range(rounds), f"{memory}, {size}", console=STDERR)
                    ]
                ratios = [alone.whole / shared.whole for alone, shared in pairs]
                alone, shared = (median(times) for times in zip(*pairs, strict=True))
                print(
                    f"| {env_id} | {memory} | {num_envs} | {size} | {spread(ratios)} | "
                    f"{alone.whole:.0f} ({alone.collecting:.0f}) | {shared.whole:.0f} "
                    f"({shared.collecting:.0f}, {shared.messages:.0f}) |",
                    flush=True,
                )


def growth(workers: list[int], rounds: int, iterations: int) -> None:
    """The table of how well N workers do N times as much: one core and 32 environments each."""
    print("| environment | memory | workers | time of one / time of all |\n|---|---|---|---|")
    for env_id in ("recurrent_rl/CartPole-NoVelocity-v0", "Dear-v0"):
        with training(settings(env_id, "lstm", 32, 1, threads=1)) as one:
            for size in workers:
                with training(settings(env_id, "lstm", 32 * size, size, threads=1)) as several:
                    times_of(one, 2), times_of(several, 2)
                    ratios = [
                        times_of(one, iterations).whole / times_of(several, iterations).whole
                        for _ in track(range(rounds), f"growth, {size}", console=STDERR)
                    ]
                print(f"| {env_id} | lstm | {size} | {spread(ratios)} |", flush=True)


def median(times: Iterable[Times]) -> Times:
    """Of each part."""
    return Times(*(statistics.median(part) for part in zip(*times, strict=True)))


def spread(ratios: list[float]) -> str:
    """Median, least and greatest."""
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def messages(workers: list[int]) -> None:
    """The table of sums over workers, as a minibatch makes one."""
    print("| workers | parameters | MB | ms |\n|---|---|---|---|")
    for size in workers:
        with tempfile.TemporaryDirectory() as folder:
            start_processes(add_up, args=(size, folder), nprocs=size, start_method="spawn")
            for parameters, took in zip(SIZES, torch.load(Path(folder) / "found.pt"), strict=True):
                print(f"| {size} | {parameters:,} | {parameters * 4 / 1e6:.2f} | {took:.2f} |")


def add_up(rank: int, size: int, folder: str) -> None:
    """Add up gradients of these sizes, all workers at once: nobody waits for another's work."""
    torch.set_num_threads(1)
    store = FileStore(f"{folder}/meeting", size)
    with joined(store, rank, size, torch.device("cpu"), 60.0) as group:
        found = []
        for parameters in SIZES:
            gradient = torch.ones(parameters)
            times = []
            for _ in range(50):
                group.agree()
                began = time.perf_counter()
                group.add_up([gradient])
                times.append(1e3 * (time.perf_counter() - began))
            found.append(statistics.median(times))
    if rank == 0:
        torch.save(found, f"{folder}/found.pt")


def projection() -> None:
    """What a sum over many machines would take, by the arithmetic of a ring.

    Each of N workers sends 2 (N - 1) / N of the bytes, in 2 (N - 1) messages one after the other.
    """
    print(
        "| parameters | network | 8 workers, ms | 64 workers | 512 workers |\n|---|---|---|---|---|"
    )
    for parameters in (150_000, 2_000_000):
        for gigabits in (10, 100):
            cells = []
            for workers in (8, 64, 512):
                share = 2 * (workers - 1) / workers
                sending = share * parameters * 4 * 8 / (gigabits * 1e9)
                cells.append(f"{1e3 * (sending + share * workers * LATENCY):.1f}")
            print(f"| {parameters:,} | {gigabits} Gb/s | " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", choices=("gains", "growth", "messages", "projection"))
    parser.add_argument("--workers", type=int, nargs="+", default=[available_cores()])
    parser.add_argument(
        "--cases", choices=CASES, nargs="+", default=list(CASES)[:5], help="of gains"
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--iterations", type=int, default=4)
    given = parser.parse_args()
    with keeping_freed_memory():
        if given.only in (None, "gains"):
            gains(given.cases, given.workers, given.rounds, given.iterations)
        if given.only in (None, "growth"):
            growth(given.workers, given.rounds, given.iterations)
    if given.only in (None, "messages"):
        messages(given.workers)
    if given.only in (None, "projection"):
        projection()


if __name__ == "__main__":
    main()
