"""A run whose workers are killed at random ends with the weights of one that nothing disturbs.

    python benchmarks/learning/kills.py  # twenty kills; writes benchmarks/results/kills.md
    python benchmarks/learning/kills.py --kills 3 --steps 40000 --out runs/kills.md

torchrun starts two workers, twice: undisturbed, and so that one of them, drawn at random, gets
`kill -9` up to two seconds after each checkpoint that a restart has led to. Linux only.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

from jobs import ROOT, commit

from recurrent_rl import load_policy
from recurrent_rl.runs.checkpoint_file import read_timesteps
from recurrent_rl.runs.folder import RunFolder

TORCHRUN = "-m torch.distributed.run --standalone --nproc-per-node 2 --max-restarts 1000"
TRAIN = (
    "-m recurrent_rl train recurrent_rl/RepeatPrevious-Easy-v0 --quiet --device cpu --num-envs 16 "
    "--num-steps 52 --hidden-size 32 --checkpoint-interval 1 --eval-episodes 0"
)


class Kill(NamedTuple):
    """One that a worker got."""

    second: float
    """Since torchrun was started."""
    worker: int
    saved: int
    """Steps in the checkpoint that all went on from."""


def started(folder: Path, steps: int) -> subprocess.Popen[bytes]:
    """torchrun, which trains in this new folder."""
    folder.mkdir()
    return subprocess.Popen(
        [sys.executable, *TORCHRUN.split(), *TRAIN.split(), "--total-timesteps", str(steps)],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=(folder / "errors").open("w"),
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )


def ended_well(launcher: subprocess.Popen[bytes], folder: Path) -> Path:
    """The policy, once torchrun has ended."""
    if launcher.wait():
        sys.exit((folder / "errors").read_text())
    (run,) = (folder / "runs").iterdir()
    return RunFolder(run).policy


def kills(launcher: subprocess.Popen[bytes], folder: Path, number: int) -> Iterator[Kill]:
    """Kill a worker so many times, each time after the restart has led to a newer checkpoint."""
    began, chance = time.time(), random.Random(0)
    newest = 0.0
    for _ in range(number):
        checkpoint = next_checkpoint(launcher, folder, newest)
        time.sleep(chance.uniform(0, 2))
        if not (pids := workers_of(launcher)):
            ended_early(folder)
        pid = chance.choice(pids)
        rank = rank_of(pid)
        os.kill(pid, signal.SIGKILL)
        yield Kill(time.time() - began, rank, read_timesteps(checkpoint))
        time.sleep(0.5)  # what the other worker was writing is written
        newest = checkpoint.stat().st_mtime


def next_checkpoint(launcher: subprocess.Popen[bytes], folder: Path, newest: float) -> Path:
    """Wait for a checkpoint that is newer."""
    while launcher.poll() is None:
        for file in folder.glob("runs/*/checkpoint.safetensors"):
            if file.stat().st_mtime > newest:
                return file
        time.sleep(0.02)
    ended_early(folder)


def ended_early(folder: Path) -> NoReturn:
    """End because the run has."""
    print((folder / "errors").read_text(), file=sys.stderr)
    sys.exit("The run ended before its last kill: raise --steps.")


def workers_of(launcher: subprocess.Popen[bytes]) -> list[int]:
    """The processes that torchrun has now."""
    found = subprocess.run(["pgrep", "-P", str(launcher.pid), "-f", "train"], capture_output=True)
    return sorted(int(pid) for pid in found.stdout.split())


def rank_of(pid: int) -> int:
    """That torchrun has given this process."""
    environment = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return int(next(x for x in environment if x.startswith("RANK=")).removeprefix("RANK="))


def digest(policy: Path) -> str:
    """Of the weights and statistics, to the last bit."""
    found = hashlib.sha256()
    for name, x in sorted(load_policy(policy).agent.state_dict().items()):
        found.update(name.encode() + x.numpy().tobytes())
    return found.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=250_000)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "kills.md")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        whole = started(folder / "undisturbed", given.steps)
        undisturbed = digest(ended_well(whole, folder / "undisturbed"))
        launcher = started(folder / "killed", given.steps)
        rows: list[str] = []
        for kill in kills(launcher, folder / "killed", given.kills):
            rows.append(f"| {len(rows) + 1} | {kill.second:.1f} | {kill.worker} | {kill.saved:,} |")
            print(rows[-1], flush=True)
        killed = digest(ended_well(launcher, folder / "killed"))
    lines = [
        "# Workers that are killed at random",
        "",
        "`python benchmarks/learning/kills.py` trains twice with two workers of torchrun, "
        f"{given.steps:,} steps each, and kills a worker of the second run {given.kills} times. "
        f"Code {commit()}.",
        "",
        "| kill | after seconds | of worker | steps that were saved |\n|---|---|---|---|",
        *rows,
        "",
        f"SHA-256 of the final weights, undisturbed: `{undisturbed}`  ",
        f"of the run whose workers were killed: `{killed}`",
        "",
        "**They are the same, bit for bit.**" if killed == undisturbed else "**They differ.**",
        "",
    ]
    given.out.write_text("\n".join(lines))
    print(*lines[-4:], sep="\n")
    if killed != undisturbed:
        sys.exit(1)


if __name__ == "__main__":
    main()
