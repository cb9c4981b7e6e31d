r"""Recurrent PPO side by side: this library and others, the same work in turn.

    python benchmarks/peers/peers.py  # everything, then the tables
    python benchmarks/peers/peers.py --setup-only  # only the peers' environments
    python benchmarks/peers/peers.py --table  # the tables of the rows there are
    python benchmarks/peers/peers.py --only recurrent_rl rl_games
    python benchmarks/peers/peers.py --fresh --results runs/peers.jsonl --envs python \
        --groups 64 best --rounds 2 --seconds 8 --return-envs  # the shortest that compares speed

The work: CartPole without velocities, an LSTM of 128 units after 128 tanh units, rollouts of 128
steps, 4 epochs of 4 minibatches; 16 environments, 64, and for each contender as many as make it
fastest. Everyone steps the same Python environment through SyncVectorEnv, then the fastest
environment it can use. What a contender does otherwise stands in its runner, in runners/.

Each peer has a virtual environment of its own under runs/peers/. First, each contender tries one
and two threads (one and two processes with `workers`) and keeps the faster. Then come the speed
rounds: in each, every contender runs once, one after the other. At last the training to a return of
450, with the same learning rates for all.

Each run is one line of benchmarks/results/peers.jsonl; what is there is not run again, so an
interrupted benchmark resumes where it stopped. Run it on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RUNNERS = ROOT / "benchmarks" / "peers" / "runners"
RESULTS = ROOT / "benchmarks" / "results" / "peers.jsonl"
WORK = ROOT / "runs" / "peers"

OURS = "recurrent_rl"
NUM_STEPS = 128
TARGET = 450.0
BEST = "best"
BEST_RETURN_ENVIRONMENTS = 64
"""Environments of the own best in runs to the return: more are faster, but update too seldom."""
SPEED_LIMIT = 600.0
"""Seconds after which a speed run counts as failed."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Contender:
    """One way to use one library."""

    name: str
    runner: str
    """Name of its environment, its requirements and, with `_runner.py`, its runner."""
    variant: str
    environments: dict[str, int]
    """Environments by group: 16, 64, and `best`, where each has the number of its own."""


# The numbers of environments of the own best were the fastest of 64, 256 and 512, or near it.
CONTENDERS = (
    Contender("recurrent-rl", OURS, "default", {"16": 16, "64": 64}),
    Contender("recurrent-rl, best", OURS, "best", {BEST: 512}),
    Contender("recurrent-rl, bfloat16", OURS, "bfloat16", {"64": 64}),
    Contender("recurrent-rl, best, bfloat16", OURS, "best-bfloat16", {BEST: 512}),
    Contender("recurrent-rl, workers", OURS, "workers", {"64": 64}),
    Contender("recurrent-rl, best, workers", OURS, "best-workers", {BEST: 512}),
    Contender("sb3-contrib, default", "sb3_contrib", "default", {"16": 16}),
    Contender("sb3-contrib, one LSTM", "sb3_contrib", "best", {"16": 16, "64": 64, BEST: 256}),
    Contender("rl_games", "rl_games", "default", {"16": 16, "64": 64}),
    Contender("rl_games, best", "rl_games", "best", {BEST: 256}),
    Contender("skrl", "skrl", "default", {"16": 16, "64": 64}),
    Contender("skrl, best", "skrl", "best", {BEST: 512}),
    Contender("rsl_rl", "rsl_rl", "default", {"16": 16, "64": 64}),
    Contender("rsl_rl, best", "rsl_rl", "best", {BEST: 128}),
    Contender("Sample Factory", "sample_factory", "default", {"16": 16, "64": 64}),
    Contender("Sample Factory, best", "sample_factory", "best", {BEST: 256}),
)
GROUPS = ("16", "64", BEST)
ENVS = {
    "python": "Same Python environment for all, through SyncVectorEnv",
    "batch": "Fastest environment each can use",
}


@dataclass(frozen=True)
class Job:
    """One run of a runner."""

    kind: str
    """`calibration`, `speed` or `return`."""
    contender: Contender
    group: str
    env: str
    seed: int = 0
    """Also the round."""
    learning_rate: float = 1e-3
    threads: int | None = None
    """Of a calibration; other runs take what the calibration found."""

    @property
    def num_envs(self) -> int:
        """Number of environments."""
        if self.kind == "return" and self.group == BEST:
            return BEST_RETURN_ENVIRONMENTS
        return self.contender.environments[self.group]

    def settings(self) -> Row:
        """What tells this run from others, as in its row."""
        settings: Row = {
            "kind": self.kind,
            "contender": self.contender.name,
            "group": self.group,
            "num_envs": self.num_envs,
            "env": self.env,
            "seed": self.seed,
            "learning_rate": self.learning_rate,
        }
        return settings | ({"threads": self.threads} if self.kind == "calibration" else {})

    def matches(self, row: Row) -> bool:
        """Whether the row is of this run."""
        return all(row.get(name) == value for name, value in self.settings().items())

    def __str__(self) -> str:
        told = f"{self.contender.name}, {self.num_envs} environments, {self.env} env"
        if self.kind == "calibration":
            return f"calibration, {told}, {self.threads} threads"
        if self.kind == "speed":
            return f"speed, round {self.seed + 1}, {told}"
        return f"return, seed {self.seed}, learning rate {self.learning_rate:g}, {told}"


class RunError(Exception):
    """A run or a set-up failed; says why in one line."""


def last_line(log: Path) -> str:
    """The last line with anything on it."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line), "no output")


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# Environments


def python_of(runner: str) -> Path:
    """The interpreter that runs this runner."""
    env = ROOT / ".venv" if runner == OURS else WORK / "envs" / runner
    python = env / "bin" / "python"
    return Path(sys.executable) if runner == OURS and not python.exists() else python


def requirements_of(runner: str) -> list[tuple[Path, list[str]]]:
    """Requirements files with their flags for pip, in the order of installation."""
    folder = RUNNERS / "requirements"
    files: list[tuple[Path, list[str]]] = [(folder / f"{runner}.txt", [])]
    # Packages whose own requirements cannot be met, or are not needed here.
    alone = folder / f"{runner}.no-deps.txt"
    return files + ([(alone, ["--no-deps"])] if alone.exists() else [])


def set_up(runner: str) -> None:
    """Make the peer's environment, unless it is there with these requirements.

    Raises:
        RunError: an installation failed.
    """
    files = requirements_of(runner)
    wanted = "".join(path.read_text() for path, _ in files)
    env = WORK / "envs" / runner
    installed = env / "installed.txt"
    if installed.exists() and installed.read_text() == wanted:
        return
    log = WORK / "logs" / f"setup-{runner}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    pip = [str(env / "bin" / "python"), "-m", "pip", "install"]
    commands = [[sys.executable, "-m", "venv", "--clear", str(env)]]
    commands += [[*pip, *flags, "-r", str(path)] for path, flags in files]
    with log.open("w") as output:
        for command in commands:
            done = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False)
            if done.returncode:
                raise RunError(last_line(log))
    installed.write_text(wanted)


def set_up_all(runners: Iterable[str]) -> dict[str, str]:
    """Make all environments; the reasons of those that failed."""
    failures = {}
    names = [name for name in dict.fromkeys(runners) if name != OURS]
    for i, runner in enumerate(names, 1):
        began = time.monotonic()
        try:
            set_up(runner)
        except RunError as error:
            failures[runner] = f"set-up: {error}"
        said = failures.get(runner, f"ready, {time.monotonic() - began:.0f} s")
        tell(f"[{i}/{len(names)}] environment of {runner}: {said}")
    return failures


# Runs


def run(job: Job, steps: int, threads: int, limit: float, stop_at: float | None) -> list[Row]:
    """Run a runner: the lines it prints. Past the time limit it is ended.

    Raises:
        RunError: it failed.
    """
    contender = job.contender
    command = [str(python_of(contender.runner)), str(RUNNERS / f"{contender.runner}_runner.py")]
    for name, value in {
        "variant": contender.variant,
        "num-envs": job.num_envs,
        "env": job.env,
        "steps": steps,
        "learning-rate": job.learning_rate,
        "seed": job.seed,
        "threads": threads,
        **({} if stop_at is None else {"stop-at-return": stop_at}),
    }.items():
        command += [f"--{name}", str(value)]
    lines, in_time = execute(contender.runner, command, limit)
    if not in_time and stop_at is None:
        raise RunError(f"not done after {limit:.0f} s")
    return lines


def execute(runner: str, command: list[str], limit: float) -> tuple[list[Row], bool]:
    """Run a command of this runner's: the lines it prints, and whether it kept the time limit.

    Past the limit it is ended.

    Raises:
        RunError: it failed.
    """
    log = WORK / "logs" / f"{runner}.log"
    cwd = WORK / "cwd" / runner  # some peers leave files where they run
    log.parent.mkdir(parents=True, exist_ok=True)
    cwd.mkdir(parents=True, exist_ok=True)
    lines: list[Row] = []
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    with log.open("w") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=cwd, env=environment
        )
        timer = threading.Timer(limit, process.kill)
        timer.start()
        try:
            assert process.stdout is not None
            lines.extend(json.loads(line) for line in process.stdout if line.endswith("\n"))
            code = process.wait()
        finally:
            in_time = timer.is_alive()
            timer.cancel()
            process.kill()
            process.wait()
    if code and in_time:
        raise RunError(last_line(log))
    return lines, in_time


def steps_per_second(iterations: list[Row]) -> float:
    """Speed without the first iterations, which also warm up."""
    first = iterations[min(2, len(iterations) // 3)]
    last = iterations[-1]
    return float((last["steps"] - first["steps"]) / (last["seconds"] - first["seconds"]))


def measure(job: Job, rows: list[Row], args: argparse.Namespace) -> Row:
    """Do a job: its row.

    Raises:
        RunError: the run failed.
    """
    rollout = NUM_STEPS * job.num_envs
    if job.kind == "calibration":
        assert job.threads is not None
        steps, threads = 4 * rollout, job.threads
    else:
        best = max(calibrations(job, rows), key=lambda row: row["steps_per_second"])
        # Five iterations at least, the first ones to warm up.
        rollouts = max(5, round(best["steps_per_second"] * args.seconds / rollout))
        steps, threads = args.steps or rollouts * rollout, best["threads"]
    if job.kind == "return":
        lines = run(job, args.max_steps, threads, args.max_seconds, TARGET)
    else:
        lines = run(job, steps, threads, SPEED_LIMIT, None)
    iterations = [line for line in lines if "steps" in line]
    ends = [line for line in lines if "peak_memory_mb" in line]
    if job.kind != "return" and (len(iterations) < 2 or not ends):
        raise RunError("too few iterations to tell the speed")
    row = job.settings() | {"threads": threads, **(ends[-1] if ends else {})}
    last = iterations[-1] if iterations else {"steps": 0, "seconds": 0.0, "mean_return": None}
    row |= {"steps": last["steps"], "seconds": last["seconds"]}
    if job.kind == "return":
        mean = last["mean_return"]
        return row | {"mean_return": mean, "reached": mean is not None and mean >= TARGET}
    return row | {"steps_per_second": round(steps_per_second(iterations), 1)}


def calibrations(job: Job, rows: list[Row]) -> list[Row]:
    """Those of this contender, this group and this environment."""
    cell = (job.contender.name, job.group, job.env)
    return [
        row
        for row in rows
        if row["kind"] == "calibration" and (row["contender"], row["group"], row["env"]) == cell
    ]


def plan(args: argparse.Namespace, contenders: list[Contender]) -> list[Job]:
    """All jobs in their order: rounds outermost, contenders in turn."""
    cells = [
        (contender, group, env)
        for env in args.envs
        for group in args.groups
        for contender in contenders
        if group in contender.environments
    ]
    thread_counts = sorted({1, min(2, os.cpu_count() or 1)})
    jobs = [Job("calibration", *cell, threads=n) for cell in cells for n in thread_counts]
    jobs += [Job("speed", *cell, seed=i) for i in range(args.rounds) for cell in cells]
    for seed in range(args.rounds):
        for rate in args.learning_rates:
            jobs += [
                Job("return", *cell, seed=seed, learning_rate=rate)
                for cell in cells
                if cell[2] in args.return_envs and cell[1] in args.return_groups
            ]
    return jobs


def run_all(
    jobs: list[Job], rows: list[Row], failures: dict[str, str], args: argparse.Namespace
) -> None:
    """Do what is not done yet, and append each row to the file as soon as it is there."""
    todo = [job for job in jobs if not any(job.matches(row) for row in rows)]
    began = time.monotonic()
    for count, job in enumerate(todo, 1):
        if job.contender.runner in failures:
            continue
        if job.kind != "calibration" and not calibrations(job, rows):
            continue  # they failed, which is told
        try:
            row = measure(job, rows, args)
        except RunError as error:
            failures[str(job)] = str(error)
            tell(f"[{count}/{len(todo)}] {job}: failed: {error}")
            continue
        rows.append(row)
        with args.results.open("a") as file:
            file.write(json.dumps(row) + "\n")
        if job.kind == "return":
            end = f"{TARGET:g} after" if row["reached"] else "not reached in"
            said = f"{end} {row['steps']:,} steps, {row['seconds']:.0f} s"
        else:
            said = f"{row['steps_per_second']:,.0f} steps/s"
        left = (time.monotonic() - began) / count * (len(todo) - count) / 60
        tell(f"[{count}/{len(todo)}] {job}: {said}; about {left:.0f} min left")


# Tables


def spread(values: list[float], form: Callable[[float], str]) -> str:
    """Median and range."""
    middle = form(statistics.median(values))
    return f"{middle} [{form(min(values))}, {form(max(values))}]" if len(values) > 1 else middle


def time_to_target(rows: list[Row]) -> str:
    """Seconds to the return at the best rate: most seeds that reach it, then the least median."""
    by_rate: dict[float, list[Row]] = {}
    for row in rows:
        by_rate.setdefault(row["learning_rate"], []).append(row)
    scored = []
    for rate, runs in by_rate.items():
        seconds = [row["seconds"] for row in runs if row["reached"]]
        if seconds:
            scored.append((-len(seconds) / len(runs), statistics.median(seconds), rate))
    if not scored:
        return f"not reached in {max(row['seconds'] for row in rows):.0f} s" if rows else ""
    _, _, rate = min(scored)
    runs = by_rate[rate]
    seconds = [row["seconds"] for row in runs if row["reached"]]
    told = f"{spread(seconds, lambda x: f'{x:.3g}')} at {rate:g}"
    return told if len(seconds) == len(runs) else f"{told}, {len(seconds)} of {len(runs)} runs"


def told_of(count: int, rounds: int) -> str:
    """That some rounds failed, where some did."""
    return "" if count == rounds else f" ({count} of {rounds} rounds)"


def table(rows: list[Row], env: str) -> str:
    """Markdown: what is known of each contender in this kind of environment."""
    lines = [
        "| environments | contender | threads | steps/s | steps/s / ours | s to 450, at rate | "
        "peak MB |",
        "|---|---|---|---|---|---|---|",
    ]
    of_env = [row for row in rows if row["env"] == env]
    ours = {
        contender.name
        for contender in CONTENDERS
        if contender.runner == OURS and contender.variant in ("default", "best")
    }
    for group in GROUPS:
        of_group = [row for row in of_env if row["group"] == group]
        speeds = [row for row in of_group if row["kind"] == "speed"]
        base = {row["seed"]: row["steps_per_second"] for row in speeds if row["contender"] in ours}
        rounds = len({row["seed"] for row in speeds})
        for contender in CONTENDERS:
            own = [row for row in speeds if row["contender"] == contender.name]
            returns = [
                row
                for row in of_group
                if row["kind"] == "return" and row["contender"] == contender.name
            ]
            if not own and not returns:
                continue
            fast = [row["steps_per_second"] for row in own]
            ratios = [
                row["steps_per_second"] / base[row["seed"]] for row in own if row["seed"] in base
            ]
            environments = str(contender.environments.get(group, group))
            cells = [
                f"{environments} (own best)" if group == BEST else environments,
                contender.name,
                "/".join(sorted({str(row["threads"]) for row in own})),
                f"{statistics.median(fast):,.0f}{told_of(len(fast), rounds)}" if fast else "",
                spread(ratios, lambda x: f"{x:.2f}") if ratios else "",
                time_to_target(returns),
                f"{statistics.median(row['peak_memory_mb'] for row in own):.0f}" if own else "",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def print_tables(rows: list[Row]) -> None:
    for env, title in ENVS.items():
        if any(row["env"] == env for row in rows):
            print(f"### {title}\n\n{table(rows, env)}\n")
    versions = {
        f"{name} {number}" for row in rows for name, number in row.get("versions", {}).items()
    }
    if versions:
        print("Versions:", ", ".join(sorted(versions)) + ".")
    print(
        "Steps/s: median over rounds. Ratio: in the same round, median [least, most]. "
        "Seconds: at the contender's best rate, its own best with "
        f"{BEST_RETURN_ENVIRONMENTS} environments."
    )


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = list(dict.fromkeys(contender.runner for contender in CONTENDERS))
    parser.add_argument("--only", nargs="+", choices=names, help="these libraries only")
    parser.add_argument("--envs", nargs="+", choices=list(ENVS), default=list(ENVS))
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=list(GROUPS))
    parser.add_argument("--rounds", type=int, default=3, help="of speed, and seeds of returns")
    parser.add_argument("--seconds", type=float, default=15.0, help="about so long a speed run")
    parser.add_argument("--steps", type=int, help="of a speed run, instead of --seconds")
    parser.add_argument("--learning-rates", nargs="+", type=float, default=[3e-4, 1e-3, 3e-3])
    parser.add_argument(
        "--return-envs", nargs="*", choices=list(ENVS), default=["batch"], help="none: no returns"
    )
    parser.add_argument("--return-groups", nargs="+", choices=GROUPS, default=list(GROUPS))
    parser.add_argument("--max-steps", type=int, default=500_000, help="of a run to 450")
    parser.add_argument("--max-seconds", type=float, default=120.0, help="of a run to 450")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file of the rows")
    parser.add_argument("--setup-only", action="store_true", help="only make the environments")
    parser.add_argument("--table", action="store_true", help="only print the tables")
    parser.add_argument("--fresh", action="store_true", help="forget the rows there are")
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error("--rounds must be at least 1.")
    return args


def main() -> None:
    args = parse_args()
    if args.fresh and not (args.table or args.setup_only):
        args.results.unlink(missing_ok=True)
    text = args.results.read_text() if args.results.exists() else ""
    rows: list[Row] = [json.loads(line) for line in text.splitlines()]
    if args.table:
        print_tables(rows)
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the runner ends too
    contenders = [one for one in CONTENDERS if not args.only or one.runner in args.only]
    try:
        failures = set_up_all(contender.runner for contender in contenders)
        if not args.setup_only:
            args.results.parent.mkdir(parents=True, exist_ok=True)
            run_all(plan(args, contenders), rows, failures, args)
    except KeyboardInterrupt:
        tell("Stopped. The rows so far are kept; the same command resumes from here.")
        sys.exit(130)
    if not args.setup_only:
        print_tables(rows)
    for name, reason in failures.items():
        tell(f"Failed: {name}: {reason}")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
