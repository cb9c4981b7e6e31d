"""What several workers gain on one machine, against one process with its defaults.

    python benchmarks/speed/scale.py  # about five minutes on two cores; prints Markdown
    python benchmarks/speed/scale.py --workers 2 4 --rounds 9
    python benchmarks/speed/scale.py --only messages  # a sum over workers, by the size of a model
    python benchmarks/speed/scale.py --only projection  # computed for networks, not measured
    python benchmarks/speed/scale.py --only mujoco  # beside --vectorization async
    python benchmarks/speed/scale.py --only sharing  # beside a busy process
    python benchmarks/speed/scale.py --only processor  # without waiting; stands a shared machine
    sudo python benchmarks/speed/scale.py --only hosts  # two hosts: network namespaces, a core each

Contenders iterate in turn, several rounds, in processes that stay; ratios are taken within a round.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import gymnasium as gym
import torch
from loop import EVERY_PASS, busy_process
from rich.console import Console
from rich.progress import track
from torch.distributed import FileStore  # type: ignore[attr-defined]
from torch.multiprocessing.spawn import start_processes

from recurrent_rl.agents import AgentConfig
from recurrent_rl.config import ResolvedConfig, TrainConfig
from recurrent_rl.envs.cartpole import CartPole
from recurrent_rl.group import ALONE, joined
from recurrent_rl.process import available_cores, computing, keeping_freed_memory
from recurrent_rl.resolve import resolved
from recurrent_rl.rollout import Rollout
from recurrent_rl.runs.copies import Copies
from recurrent_rl.runs.folder import RunFolder
from recurrent_rl.runs.launch import Begun, follow_the_first, together
from recurrent_rl.signals import StopSignals
from recurrent_rl.trainer import Trainer
from recurrent_rl.vector_env.config import EnvConfig

STDERR = Console(stderr=True)
COST = 50e-6
"""Seconds of computing that a step of the slow environment takes."""
CASES = {
    "fast": ("recurrent_rl/CartPole-NoVelocity-v0", "lstm", 64),
    "slow": ("SlowCartPole-v0", "lstm", 64),
    "slow-256": ("SlowCartPole-v0", "lstm", 256),
    "rotor": ("recurrent_rl/CartPole-NoVelocity-v0", "gru-rotor", 64),
    "fast-16": ("recurrent_rl/CartPole-NoVelocity-v0", "lstm", 16),
    "fast-1024": ("recurrent_rl/CartPole-NoVelocity-v0", "lstm", 1024),
    "rotor-1024": ("recurrent_rl/CartPole-NoVelocity-v0", "gru-rotor", 1024),
}
"""What workers are tried on: environment, memory, environments."""
MORE = ("mujoco", "sharing", "processor", "hosts")
"""Tables that are made only when named: they need a package, more minutes, or root."""
SIZES = (10_000, 100_000, 500_000, 2_000_000, 10_000_000)
"""Parameters of models whose gradients are added up."""


LATENCY = 30e-6
"""Seconds that a short message takes from one machine to the next, assumed."""


class SlowCartPole(CartPole):
    """CartPole without velocities whose every step costs `COST` seconds of one core."""

    def step(self, actions: Any) -> Any:
        end = time.thread_time() + COST * self.num_envs  # also where the core is shared
        while time.thread_time() < end:
            pass
        return super().step(actions)


slow: Any = lambda num_envs, **_: SlowCartPole(num_envs)  # noqa: E731
gym.register("SlowCartPole-v0", vector_entry_point=slow)


def settings(
    env_id: str,
    memory: str,
    num_envs: int,
    workers: int = 1,
    threads: int | None = None,
    device: str = "cpu",
    env: EnvConfig | None = None,
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
            env=env or EnvConfig(),
            **EVERY_PASS,
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
        trainer = Trainer(config, group=group)
        with tempfile.TemporaryDirectory() as folder:
            Copies(group, RunFolder(Path(folder)), Path(folder))
            yield trainer
        trainer.close()
        if group is not ALONE:
            group.agree(stop=15)
            group.gather(None)  # what the others tell for a last checkpoint
            group.exchange(None)


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
    for env_id in ("recurrent_rl/CartPole-NoVelocity-v0", "SlowCartPole-v0"):
        with training(settings(env_id, "lstm", 32, 1, threads=1)) as one:
            for size in workers:
                with training(settings(env_id, "lstm", 32 * size, size, threads=1)) as several:
                    times_of(one, 2), times_of(several, 2)
                    ratios = [
                        times_of(one, iterations).whole / times_of(several, iterations).whole
                        for _ in track(range(rounds), f"growth, {size}", console=STDERR)
                    ]
                print(f"| {env_id} | lstm | {size} | {spread(ratios)} |", flush=True)


def mujoco(rounds: int, iterations: int, cores: int) -> None:
    """The table of a MuJoCo body on all cores: environments in processes, or workers."""
    ways = {
        "one process": (1, EnvConfig()),
        "one process, `--vectorization async`": (1, EnvConfig(vectorization="async")),
        f"{cores} workers": (cores, EnvConfig()),
    }
    print("| environments | contender | thousand steps/s | times one process |\n|---|---|---|---|")
    for num_envs in (16, 64):
        with ExitStack() as stack:
            # Workers first: processes are started while no environment has any.
            trainers = {
                name: stack.enter_context(
                    training(settings("Hopper-v5", "lstm", num_envs, size, env=env))
                )
                for name, (size, env) in reversed(ways.items())
            }
            found: dict[str, list[float]] = {name: [] for name in ways}
            for trainer in trainers.values():
                times_of(trainer, 2)
            for _ in track(range(rounds), f"Hopper-v5, {num_envs}", console=STDERR):
                for name in ways:
                    found[name].append(times_of(trainers[name], iterations).whole)
        for name, times in found.items():
            ratios = [a / b for a, b in zip(found["one process"], times, strict=True)]
            speed = num_envs * 128 / statistics.median(times)
            print(f"| {num_envs} | {name} | {speed:.1f} | {spread(ratios)} |", flush=True)


def sharing(rounds: int, iterations: int, cores: int) -> None:
    """The table of training alone and beside a process that keeps one core busy."""
    ways = [(1, None), (1, 1), (1, cores), (cores, None), (cores, cores)]
    print("| workers | threads of each | thousand steps/s alone | beside a busy process | ratio |")
    print("|---|---|---|---|---|")
    for workers, threads in ways:
        found: dict[bool, list[float]] = {False: [], True: []}
        config = settings("recurrent_rl/CartPole-NoVelocity-v0", "gru", 64, workers, threads)
        with training(config) as trainer:
            times_of(trainer, 2)
            for _ in track(range(rounds), f"sharing, {workers}", console=STDERR):
                for busy in (False, True):
                    with busy_process() if busy else nullcontext():
                        found[busy].append(times_of(trainer, iterations).whole)
        alone, beside = (config.batch_size / statistics.median(found[busy]) for busy in found)
        ratios = [a / b for a, b in zip(found[False], found[True], strict=True)]
        name = "default" if threads is None else threads
        print(f"| {workers} | {name} | {alone:.1f} | {beside:.1f} | {spread(ratios)} |", flush=True)


def processor(rounds: int, iterations: int, cores: int) -> None:
    """The table of the processor's time: what an iteration would take if nobody ever waited.

    Of several workers it is the first one's.
    """
    print("| workers | threads of the kernel | main thread, ms an iteration | all threads |")
    print("|---|---|---|---|")
    for workers, threads in ((1, 1), (1, None), (cores, None)):
        config = settings(*CASES["fast"], workers, threads)
        found = []
        with training(config) as trainer:
            times_of(trainer, 2)
            for _ in track(range(rounds), f"processor, {workers}", console=STDERR):
                began = time.thread_time(), time.process_time()
                times_of(trainer, iterations)
                ended = time.thread_time(), time.process_time()
                found.append(
                    [1e3 * (b - a) / iterations for a, b in zip(began, ended, strict=True)]
                )
        main, every = (statistics.median(column) for column in zip(*found, strict=True))
        of_kernel = threads or max(1, cores // workers)
        print(f"| {workers} | {of_kernel} | {main:.0f} | {every:.0f} |", flush=True)


def hosts(rounds: int, iterations: int) -> None:
    """The table of two hosts with twice the environments against one: a core each.

    Hosts are network namespaces of this machine beside one bridge; their messages go through it.
    Two hosts of their own would not share this machine's memory. So one is timed twice: while the
    other's core rests, and while the other trains something of its own.
    """
    print("| environment | memory | environments of a host | one / two | one beside one / two |")
    print("|---|---|---|---|---|")
    with bridged() as addresses:
        for env_id in ("recurrent_rl/CartPole-NoVelocity-v0", "SlowCartPole-v0"):
            with ExitStack() as stack:

                def on(host: int, size: int, env_id: str = env_id) -> subprocess.Popen[str]:
                    return stack.enter_context(
                        started_on(addresses, host, size, env_id, iterations)
                    )

                one, neighbour, first, _ = on(0, 1), on(1, 1), on(0, 2), on(1, 2)
                resting, busy = [], []
                for turn in track(range(rounds + 1), "hosts", console=STDERR):
                    both, alone = milliseconds(first), milliseconds(one)
                    ask(neighbour)
                    beside = milliseconds(one)
                    answer(neighbour)
                    if turn:  # the first warms up
                        resting.append(alone / both)
                        busy.append(beside / both)
            print(f"| {env_id} | lstm | 32 | {spread(resting)} | {spread(busy)} |", flush=True)


@contextmanager
def bridged() -> Iterator[list[str]]:
    """Two network namespaces, `rrls0` and `rrls1`: their addresses. Needs root."""

    def ip(line: str) -> None:
        subprocess.run(["ip", *line.split()], check=True)

    with ExitStack() as stack:
        ip("link add rrlsbr type bridge")
        stack.callback(ip, "link del rrlsbr")
        ip("link set rrlsbr up")
        for host in (0, 1):
            ip(f"netns add rrls{host}")
            stack.callback(ip, f"netns del rrls{host}")
            ip(f"link add rrlsv{host} type veth peer name eth0 netns rrls{host}")
            ip(f"link set rrlsv{host} master rrlsbr up")
            inside = f"netns exec rrls{host} ip"
            ip(f"{inside} addr add 10.78.0.{host + 1}/24 dev eth0")
            ip(f"{inside} link set eth0 up")
            ip(f"{inside} link set lo up")
        yield ["10.78.0.1", "10.78.0.2"]


@contextmanager
def started_on(
    addresses: list[str], host: int, size: int, env_id: str, iterations: int
) -> Iterator[subprocess.Popen[str]]:
    """A worker on this host and one core, as torchrun would start it; ended at the end."""
    core = sorted(os.sched_getaffinity(0))[host]
    told = {
        "GLOO_SOCKET_IFNAME": "eth0",
        "TORCHELASTIC_RUN_ID": "scale",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        "RANK": str(host if size > 1 else 0),
        "WORLD_SIZE": str(size),
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
        "MASTER_ADDR": addresses[0 if size > 1 else host],
        "MASTER_PORT": str(29500 + size),
    }
    command = [
        *("ip", "netns", "exec", f"rrls{host}", "taskset", "-c", str(core)),
        *(sys.executable, __file__, "--host", env_id, "--iterations", str(iterations)),
    ]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | told,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def host(env_id: str, iterations: int) -> None:
    """What a process does that `started_on` has started: iterate for each line that it reads."""
    size = int(os.environ["WORLD_SIZE"])
    config = settings(env_id, "lstm", 32 * size, size, threads=1)
    with keeping_freed_memory():
        if int(os.environ["RANK"]):
            with together(config) as group:
                follow_the_first(group, StopSignals())
        else:
            with training(config) as trainer:
                for _ in sys.stdin:
                    print(json.dumps(times_of(trainer, iterations).whole), flush=True)


def milliseconds(first: subprocess.Popen[str]) -> float:
    """Of an iteration of this host and of one that follows it."""
    ask(first)
    return answer(first)


def ask(first: subprocess.Popen[str]) -> None:
    """Let this host iterate, and one that follows it."""
    assert first.stdin is not None
    first.stdin.write("\n")
    first.stdin.flush()


def answer(first: subprocess.Popen[str]) -> float:
    """Milliseconds of an iteration that was asked for."""
    assert first.stdout is not None
    return float(json.loads(first.stdout.readline()))


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
    parser.add_argument("--only", choices=("gains", "growth", "messages", "projection", *MORE))
    parser.add_argument("--workers", type=int, nargs="+", default=[available_cores()])
    parser.add_argument(
        "--cases", choices=CASES, nargs="+", default=list(CASES)[:5], help="of gains"
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--iterations", type=int, default=4)
    parser.add_argument("--host", metavar="ENV_ID", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.host is not None:
        host(given.host, given.iterations)
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: hosts are taken down
    if given.only == "hosts":
        hosts(given.rounds, given.iterations)
    with keeping_freed_memory():
        if given.only == "mujoco":
            mujoco(given.rounds, given.iterations, available_cores())
        if given.only == "processor":
            processor(given.rounds, given.iterations, available_cores())
        if given.only == "sharing":
            sharing(given.rounds, given.iterations, available_cores())
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
