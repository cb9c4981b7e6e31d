"""What the training loop costs beside the arithmetic: acting, environments, logging, shared cores.

    python benchmarks/speed/loop.py  # about five minutes; prints Markdown
    python benchmarks/speed/loop.py --only acting profile

Contenders of a comparison run in turn, several rounds, and the ratios are taken within a round.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any, Literal, get_args
from unittest.mock import patch

import gymnasium as gym
import numpy as np
import torch
from rich.console import Console
from rich.progress import track

import recurrent_rl.envs as envs
from recurrent_rl import process, trainer
from recurrent_rl.agents import ActorCritic, AgentConfig, Policy, load_policy
from recurrent_rl.agents.kernels import compiled, frozen_weights, library
from recurrent_rl.agents.kernels.dispatch import VARIABLE, serving
from recurrent_rl.agents.memory.cells import GRU, LSTM, RNN
from recurrent_rl.config import TrainConfig
from recurrent_rl.episodes import EpisodeStatistics
from recurrent_rl.experiments.comparison import markdown
from recurrent_rl.runs.evaluation import evaluate
from recurrent_rl.runs.training import train
from recurrent_rl.trainer import Trainer
from recurrent_rl.vector_env.vectorize import make_vector_env

STDERR = Console(stderr=True)
Precision = Literal["float32", "bfloat16"]
PRECISION_TASKS = (
    ("recurrent_rl/RepeatPrevious-Easy-v0", "gru", 1_000_000),
    ("recurrent_rl/TMaze-v0", "lstm", 500_000),
    ("recurrent_rl/Pendulum-NoVelocity-v0", "gru", 1_000_000),
)
ENV_ID = "recurrent_rl/RepeatPrevious-Easy-v0"
EVERY_PASS: dict[str, Any] = {"target_kl": None}
"""No pass over a rollout is left out, so that all that is compared does the same work."""
ROLLOUT: dict[str, Any] = {"num_envs": 64, "num_steps": 128, **EVERY_PASS}


def best_of(run: Callable[[], Any], calls: int, repeats: int = 7) -> float:
    """The least mean time of a call, over repeats."""
    for _ in range(calls // 10 + 1):
        run()
    means = []
    for _ in range(repeats):
        begin = time.perf_counter()
        for _ in range(calls):
            run()
        means.append((time.perf_counter() - begin) / calls)
    return min(means)


def acting() -> None:
    """One step of an agent with two observed numbers, two actions and the default sizes."""
    print("| memory | `actor.act`, B = 1, us | step in a rollout, B = 16 | B = 64 | B = 256 |")
    print("|---|---|---|---|---|")
    spaces = gym.spaces.Box(-1, 1, (2,), np.float32), gym.spaces.Discrete(2)
    for memory in ("rnn", "gru", "lstm", "gru-rotor", "gru-matrix"):
        agent = ActorCritic(*spaces, AgentConfig(memory=memory, previous_action=False))
        actor = Policy(agent).actor(deterministic=False, seed=0)
        observation = np.zeros(2, np.float32)
        with process.computing(threads=1):
            times = [best_of(lambda a=actor, o=observation: a.act(o), 2000)]  # type: ignore[misc]
        with process.computing():
            for batch in (16, 64, 256):
                with frozen_weights():
                    times.append(best_of(rollout_step(agent, batch), 500))
        print(f"| {memory} | " + " | ".join(f"{1e6 * t:.0f}" for t in times) + " |")


def rollout_step(agent: ActorCritic, batch: int) -> Callable[[], None]:
    """Value, stochastic action and its log-probability, as a rollout takes them."""
    components = {"": torch.zeros(batch, 2)}
    state, start = agent.initial_state(batch), torch.zeros(batch, dtype=torch.bool)
    noise = agent.head.noise((batch,), torch.Generator())

    @torch.no_grad()
    def step() -> None:
        output, _ = agent.step(components, state, start)
        action = output.distribution.sample(noise)
        output.distribution.log_prob(action)

    return step


def environments() -> None:
    """Random actions, drawn beforehand; resets included."""
    print("| environment | million steps/s, 16 environments | 64 | 256 |\n|---|---|---|---|")
    ours = [(i, s) for i, s in sorted(gym.registry.items()) if s.namespace == "recurrent_rl"]
    ids = [i for i, spec in ours if spec.vector_entry_point and "Probe" not in i]
    for env_id in track(ids, "environments", console=STDERR, transient=True):
        speeds = []
        for environments in (16, 64, 256):
            env = gym.make_vec(env_id, environments, vectorization_mode="vector_entry_point")
            env.reset(seed=0)
            actions = [env.action_space.sample() for _ in range(64)]

            def steps(env: Any = env, actions: list[Any] = actions) -> None:
                for action in actions:
                    env.step(action)

            speeds.append(64 * environments / best_of(steps, 30, 5) / 1e6)
            env.close()
        print(f"| {env_id} | " + " | ".join(f"{speed:.1f}" for speed in speeds) + " |")


def logging(rounds: int) -> None:
    """A run of `train` against the same iterations with nothing watched, written or counted."""
    with tempfile.TemporaryDirectory() as folder:
        config = TrainConfig(
            env_id=ENV_ID, log_dir=folder, total_timesteps=60 * 8192, eval_episodes=0, **ROLLOUT
        )
        bare = replace(config, memory_interval=None)

        def watched() -> None:
            train(config)

        def unwatched() -> None:
            with patch.object(EpisodeStatistics, "step", lambda *_: None):
                it = Trainer(bare)
                while not it.done:
                    it.iterate()
                it.close()

        ratios = [seconds(watched) / seconds(unwatched) for _ in range(rounds)]
    print(
        "Logging, episode statistics, progress bar and checkpoints: "
        f"{100 * (median(ratios) - 1):.1f} % of a run (median of {rounds} rounds; "
        f"{shown([100 * (ratio - 1) for ratio in ratios], 1)})."
    )


def sharing(rounds: int) -> None:
    """Training alone and beside a process that keeps one core busy."""
    print("| threads | thousand steps/s alone | beside a busy process | ratio |\n|---|---|---|---|")
    speeds: dict[tuple[int | None, bool], list[float]] = {}
    for _ in track(range(rounds), "sharing", console=STDERR, transient=True):
        for threads in (None, 1, 2):
            for busy in (False, True):
                with busy_process() if busy else nullcontext():
                    speeds.setdefault((threads, busy), []).append(training_speed(threads))
    for threads in (None, 1, 2):
        alone, beside = (median(speeds[threads, busy]) / 1e3 for busy in (False, True))
        name = "default" if threads is None else threads
        print(f"| {name} | {alone:.1f} | {beside:.1f} | {beside / alone:.2f} |")


def training_speed(
    threads: int | None, memory: str = "gru", precision: Precision = "float32"
) -> float:
    """Environment steps a second."""
    it = Trainer(
        TrainConfig(
            env_id=ENV_ID,
            total_timesteps=10**7,
            **ROLLOUT,
            threads=threads,
            precision=precision,
            agent=AgentConfig(memory=memory, previous_action=False),
        )
    )
    it.iterate()
    spent = seconds(lambda: [it.iterate() for _ in range(4)])
    it.close()
    return 4 * it.config.batch_size / spent


def kernels(rounds: int) -> None:
    """Whole iterations with each kernel that serves the cell."""
    print("| memory | kernel | thousand steps/s | x the compiled kernel's time |")
    print("|---|---|---|---|")
    cells = {"lstm": LSTM.cell, "gru": GRU.cell, "rnn": RNN.cell}
    for memory in cells:
        names = [
            *serving(cells[memory], torch.zeros(1)),
            *(["bfloat16"] if library.has_bfloat16() else []),
        ]
        speeds: dict[str, list[float]] = {name: [] for name in names}
        for _ in track(range(rounds), memory, console=STDERR, transient=True):
            for name in names:
                narrow = name == "bfloat16"
                with patch.dict(os.environ, {VARIABLE: "compiled" if narrow else name}):
                    precision: Precision = "bfloat16" if narrow else "float32"
                    speeds[name].append(training_speed(None, memory, precision))
        for name in names:
            ratios = [a / b for a, b in zip(speeds["compiled"], speeds[name], strict=True)]
            label = "compiled, bfloat16" if name == "bfloat16" else name
            print(f"| {memory} | {label} | {median(speeds[name]) / 1e3:.1f} "
                  f"| {median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}] |")  # fmt: skip


def memories(rounds: int) -> None:
    """Whole iterations with the default memory and with a matrix memory, default sizes, in turn."""
    print("| task | gru-rotor, thousand steps/s | gru-matrix | gru-matrix / gru-rotor |")
    print("|---|---|---|---|")
    names = ("gru-rotor", "gru-matrix")
    for task in ("RepeatPrevious-Easy", "RepeatPrevious-Hard", "Autoencode-Hard"):
        its = {
            name: Trainer(
                TrainConfig(
                    f"recurrent_rl/{task}-v0",
                    agent=AgentConfig(memory=name),
                    **EVERY_PASS,
                )
            )
            for name in names
        }
        speeds: dict[str, list[float]] = {name: [] for name in names}
        with process.computing():
            for it in its.values():
                it.iterate()
            for _ in track(range(rounds), task, console=STDERR, transient=True):
                for name, it in its.items():
                    speeds[name].append(it.config.batch_size / seconds(it.iterate))
        for it in its.values():
            it.close()
        rotor, matrix = (speeds[name] for name in names)
        ratios = [b / a for a, b in zip(rotor, matrix, strict=True)]
        print(f"| {task} | {median(rotor) / 1e3:.1f} | {median(matrix) / 1e3:.1f} "
              f"| {median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}] |")  # fmt: skip


def precision(rounds: int) -> None:
    """What bfloat16 costs in return: the same seeds trained in both, as users train."""
    print("| task | memory | precision | seconds | mean return of 500 episodes, by seed |")
    print("|---|---|---|---|---|")
    for env_id, memory, steps in PRECISION_TASKS:
        found: dict[Precision, list[tuple[float, float]]] = {}
        for seed in track(range(rounds), env_id, console=STDERR, transient=True):
            for name in get_args(Precision):
                trained = seconds_and_return(env_id, memory, steps, name, seed)
                found.setdefault(name, []).append(trained)
        for name, of_seeds in found.items():
            times, returns = map(list, zip(*of_seeds, strict=True))
            print(f"| {env_id} | {memory} | {name} | {median(times):.1f} | {shown(returns, 3)} |")


def seconds_and_return(
    env_id: str, memory: str, steps: int, precision: Precision, seed: int
) -> tuple[float, float]:
    """Of one training."""
    with tempfile.TemporaryDirectory() as folder:
        config = TrainConfig(
            env_id=env_id,
            seed=seed,
            total_timesteps=steps,
            precision=precision,
            log_dir=folder,
            eval_episodes=0,
            agent=AgentConfig(memory=memory, previous_action=False),
        )
        result = train(config, progress=False)
        env = make_vector_env(env_id, 50, config.env)
        played = evaluate(load_policy(result.policy_path), env, 500, seed=0)
        env.close()
    return result.seconds, played.mean


def profile() -> None:
    """Where an iteration's time goes, for each of the three cells; parts add up to the whole."""
    columns: dict[str, dict[str, str]] = {}
    for memory in ("rnn", "gru", "lstm"):
        config = TrainConfig(
            env_id=ENV_ID,
            total_timesteps=10**7,
            **ROLLOUT,
            agent=AgentConfig(memory=memory, previous_action=False),
        )
        it = Trainer(config)
        it.iterate()
        spent: dict[str, float] = {}
        iterations = 10
        with (
            timed(spent, it.collector, "collect"),
            timed(spent, it.env, "step"),
            timed(spent, it.agent, "step", "act"),
            timed(spent, trainer, "update"),
            timed(spent, it.optimizer, "step", "optimiser"),
            timed(spent, compiled, "_run", "kernel"),
        ):
            begin = time.perf_counter()
            for _ in range(iterations):
                it.iterate()
            whole = time.perf_counter() - begin
        it.close()
        kernel = spent["kernel"] - spent.get("kernel in act", 0.0)  # that one counts as acting
        parts = {
            "acting": spent["act"],
            "environment": spent["step"],
            "rest of the rollout": spent["collect"] - spent["act"] - spent["step"],
            "kernel in the update": kernel,
            "optimiser": spent["optimiser"],
            "rest of the update": spent["update"] - kernel - spent["optimiser"],
            "other": whole - spent["collect"] - spent["update"],
        }
        columns[memory] = {
            "ms an iteration": f"{1e3 * whole / iterations:.0f}",
            "thousand steps/s": f"{iterations * it.config.batch_size / whole / 1e3:.1f}",
            **{name: f"{part / whole:.0%}" for name, part in parts.items()},
        }
    names = columns["lstm"]
    lines = [[name, *(column[name] for column in columns.values())] for name in names]
    print(markdown(["part", *columns], lines))


@contextmanager
def timed(
    spent: dict[str, float], owner: Any, name: str, label: str | None = None
) -> Iterator[None]:
    """Adds up the seconds spent in `owner.name`."""
    function, label = getattr(owner, name), label or name
    spent[label] = 0.0

    def run(*args: Any, **kwargs: Any) -> Any:
        begin = time.perf_counter()
        before = spent.get("kernel", 0.0)
        result = function(*args, **kwargs)
        spent[label] += time.perf_counter() - begin
        if label == "act":
            inside = spent.get("kernel", 0.0) - before
            spent["kernel in act"] = spent.get("kernel in act", 0.0) + inside
        return result

    with patch.object(owner, name, run):
        yield


def seconds(run: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def median(values: list[float]) -> float:
    return statistics.median(values)


def shown(values: list[float], digits: int) -> str:
    return ", ".join(f"{value:.{digits}f}" for value in values)


def spin() -> None:
    while True:
        pass


@contextmanager
def busy_process() -> Iterator[None]:
    process = multiprocessing.get_context("spawn").Process(target=spin, daemon=True)
    process.start()
    time.sleep(1.0)
    yield
    process.kill()
    process.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    sections = ["acting", "environments", "profile", "kernels", "memories", "logging", "sharing"]
    sections += ["precision"]
    parser.add_argument("--only", nargs="+", choices=sections, default=sections)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    envs.register_envs()
    with process.keeping_freed_memory():  # as in a run, for bare trainers too
        for section in arguments.only:
            print(f"\n## {section}\n")
            function = globals()[section]
            function(arguments.rounds) if section in sections[3:] else function()


if __name__ == "__main__":
    main()
