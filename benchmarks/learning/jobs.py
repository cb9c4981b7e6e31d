"""What the benchmarks of learning share: arguments, runs of a suite, doing them, rows."""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurrent_rl.config import TrainConfig
from recurrent_rl.experiments.benchmark import plan, run_all
from recurrent_rl.experiments.job import Job
from recurrent_rl.experiments.results import EvaluatedRun, learning_curve, load_evaluated_run
from recurrent_rl.experiments.suites import SUITES
from recurrent_rl.process import available_cores
from recurrent_rl.runs.evaluation_result import SavedEvaluation
from recurrent_rl.runs.training import train

ROOT = Path(__file__).resolve().parents[2]
POINTS = 100
"""Of a learning curve that is kept."""


def arguments(
    description: str | None, seeds: int, episodes: int | None = None, jobs: int | None = None
) -> argparse.ArgumentParser:
    """The arguments that these scripts share, with their defaults; None: no such option."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=seeds)
    if episodes is not None:
        parser.add_argument("--episodes", type=int, default=episodes)
    if jobs is not None:
        parser.add_argument("--jobs", type=int, default=jobs, help="side by side")
    parser.add_argument("--table", action="store_true", help="of the runs there are")
    return parser


def suite_jobs(
    name: str,
    seeds: int,
    episodes: int,
    memory: str | None = None,
    settings: Mapping[str, Any] | None = None,
    label: str | None = None,
) -> list[Job]:
    """The runs of `recurrent-rl benchmark NAME`, in the folder that it takes by default.

    With all memories of the suite, or with one; with the defaults, or with settings so named.
    """
    suite, out = SUITES[name], ROOT / "runs" / f"benchmark-{name}"
    return plan(
        suite,
        out,
        memories=suite.memories if memory is None else (memory,),
        seeds=seeds,
        episodes=episodes,
        settings=settings or {},
        name=label,
    )


def do(jobs: list[Job]) -> None:
    """Do what is not done yet, one run on each core; failures are told, a stop ends the script."""
    outcome = run_all(jobs, available_cores())
    for run_dir, reason in outcome.failed.items():
        print(f"failed: {run_dir}: {reason}", file=sys.stderr)
    if outcome.stopped_by is not None:
        raise SystemExit(128 + outcome.stopped_by)


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """One JSON object a line; `read_rows` is the inverse."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file that holds one JSON object a line; none where there is no file."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def merged(path: Path, rows: Iterable[dict[str, Any]], *key: str) -> list[dict[str, Any]]:
    """The rows of a file with these, each in place of an older one that is alike in `key`."""
    every = [*read_rows(path), *rows]
    return list({tuple(row[name] for name in key): row for row in every}.values())


def over_training(steps: NDArray[np.int64], returns: NDArray[np.float64]) -> float:
    """The mean return over the steps of training."""
    return float(np.average(returns, weights=np.diff(steps, prepend=0)))


def curve_of(config: TrainConfig) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Steps and mean returns of a training of which nothing else is kept, on one thread."""
    with tempfile.TemporaryDirectory() as folder:
        config = dataclasses.replace(
            config, log_dir=folder, threads=1, eval_episodes=0, memory_interval=None
        )
        return learning_curve(train(config, progress=False).run_dir)


def thinned(run: EvaluatedRun) -> dict[str, list[float]]:
    """A run's learning curve, of at most `POINTS` points, the last among them."""
    every = -(-len(run.steps) // POINTS)
    kept = slice((len(run.steps) - 1) % every, None, every)
    returns = [round(float(mean), 4) for mean in run.returns[kept]]
    return {"steps": run.steps[kept].tolist(), "returns": returns}


def measure_all(
    path: Path,
    measure: Callable[..., dict[str, Any]],
    wanted: Iterable[tuple[Any, ...]],
    of_row: Callable[[dict[str, Any]], tuple[Any, ...]],
    jobs: int,
) -> list[dict[str, Any]]:
    """Call `measure` with each of these arguments, so many side by side; each row goes to the file.

    The calling script is read again in each process. What `of_row` finds in a row that is there is
    not measured again. Returns all rows of the file.
    """
    done = {of_row(row) for row in read_rows(path)}
    todo = [one for one in wanted if one not in done]
    if not todo:
        return read_rows(path)
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for future in as_completed([pool.submit(measure, *one) for one in todo]):
            row = future.result()
            print(row, flush=True)
            with path.open("a") as file:
                file.write(json.dumps(row) + "\n")
    return read_rows(path)


@cache
def commit() -> str:
    """The code that makes a row: the short hash of the commit, with a + where it was changed."""
    command = ["git", "describe", "--always", "--dirty=+", "--abbrev=7", "--exclude=*"]
    return subprocess.check_output(command, cwd=ROOT, text=True).strip()


def row_of(job: Job) -> dict[str, Any]:
    """What is kept of a finished run."""
    run = load_evaluated_run(job.run_dir)
    return {
        "run": job.run_dir.name,
        "code": commit(),
        "evaluation": run.evaluation.to_json(),
        **thinned(run),
    }


def run_of(row: dict[str, Any], job: Job) -> EvaluatedRun:
    """The inverse of `row_of`."""
    evaluation = SavedEvaluation.from_json(row["evaluation"])
    steps, returns = np.array(row["steps"]), np.array(row["returns"])
    return EvaluatedRun(job.run_dir, job.config, evaluation, steps, returns)


def keep(
    jobs: list[Job], path: Path, row_of: Callable[[Job], dict[str, Any]] = row_of
) -> dict[str, dict[str, Any]]:
    """Write the rows of finished runs in place of older ones; returns all rows by their run."""
    rows = merged(path, (row_of(job) for job in jobs if job.done), "run")
    if rows:
        write_rows(path, sorted(rows, key=lambda row: row["run"]))
    return {row["run"]: row for row in rows}
