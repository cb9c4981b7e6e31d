"""Do the tests hold a module? Each fault changes one place of it, and its tests must fail.

    python -m tests.mutation                       # all modules of TESTS: two hours of one core
    python -m tests.mutation recurrent_rl/blocks.py --faults 20 --seed 1

The faults of a seed are the same as long as the module is. They are made in a copy of the working
tree. A fault that passes is a line that no test holds, dead code, or no fault at all: read it.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium  # noqa: F401 (loaded once, for all)
import pytest
import safetensors.torch  # noqa: F401
import torch.optim
import torch.utils.tensorboard  # noqa: F401

ROOT = Path(__file__).resolve().parents[1]
RUNS = "tests/recurrent_rl/runs"
SAVED = [
    f"{RUNS}/test_{name}.py"
    for name in ("checkpoint", "forged_checkpoints", "old_files", "resuming", "failures")
]
TESTS: dict[str, list[str]] = {
    "recurrent_rl/blocks.py": ["tests/recurrent_rl/test_blocks.py"],
    "recurrent_rl/runs/checkpoint.py": SAVED,
    "recurrent_rl/runs/checkpoint_file.py": SAVED,
    "recurrent_rl/signals.py": [f"{RUNS}/test_progress.py", "tests/test_signals.py"],
    **{
        f"recurrent_rl/{name}.py": [f"tests/recurrent_rl/{test}.py" for test in tests]
        for name, tests in {
            "ppo": ["test_ppo"],
            "collector": ["test_rollout"],
            "trainer": ["test_trainer", "runs/test_asymmetric"],
            "advantages": ["test_advantages"],
            "episodes": ["test_episodes", "test_rollout", "vector_env/test_info_metrics"],
            "runs/imitation": ["runs/test_imitation"],
        }.items()
    },
    "agents/normalisers.py": ["tests/agents/test_normalisers.py"],
    "recurrent_rl/group.py": ["tests/recurrent_rl/test_group.py", f"{RUNS}/test_launch.py"],
}
"""The tests of a module."""
LIMIT = 600.0
"""Seconds after which tests that hang are ended: they have seen the fault."""

SWAPPED: dict[type[ast.AST], type[Any]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
}
"""What an operator becomes."""


class Fault(NamedTuple):
    """A change of one place."""

    line: int
    shown: str
    """The place before and after."""
    text: str
    """The whole module with it."""


def faults_of(text: str) -> list[Fault]:
    """One fault for each place of a module that can be changed."""
    tree, found = ast.parse(text), []
    for node, change, undo in list(_changes(tree)):
        before = ast.unparse(node)
        change()
        shown = f"{before.splitlines()[0]}  ->  {ast.unparse(node).splitlines()[0]}"
        if isinstance(node, ast.stmt) and not isinstance(node, (ast.If, ast.While)):
            shown = f"{before.splitlines()[0]}  ->  left out"
        found.append(Fault(node.lineno, shown, ast.unparse(tree)))
        undo()
    return found


Change = tuple[Any, Callable[[], None], Callable[[], None]]


def _changes(tree: ast.AST) -> Iterator[Change]:
    """Each place, how to change it, and how to change it back."""
    annotations = {
        id(inner)
        for node in ast.walk(tree)
        for name in ("annotation", "returns")
        if (part := getattr(node, name, None)) is not None
        for inner in ast.walk(part)
    }
    for node in ast.walk(tree):
        if id(node) not in annotations:
            yield from _of_expression(node)
            for name in ("body", "orelse", "finalbody"):
                if isinstance(statements := getattr(node, name, None), list):
                    yield from _of_statements(statements)


def _of_expression(node: ast.AST) -> Iterator[Change]:
    if isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPPED:
        yield _setting(node, "ops", [SWAPPED[type(node.ops[0])](), *node.ops[1:]])
    elif isinstance(node, (ast.BoolOp, ast.BinOp)) and type(node.op) in SWAPPED:
        yield _setting(node, "op", SWAPPED[type(node.op)]())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield _setting(node, "operand", ast.UnaryOp(ast.Not(), node.operand))
    elif isinstance(node, ast.Constant) and isinstance(node.value, (bool, int)):
        is_bool = isinstance(node.value, bool)
        yield _setting(node, "value", not node.value if is_bool else node.value + 1)
    elif isinstance(node, (ast.If, ast.While, ast.IfExp)) and not isinstance(
        node.test, (ast.Compare, ast.BoolOp, ast.UnaryOp)
    ):
        yield _setting(node, "test", ast.UnaryOp(ast.Not(), node.test))


def _of_statements(statements: list[ast.stmt]) -> Iterator[Change]:
    """To leave out a call, or what is kept of an object."""
    for i, one in enumerate(statements):
        targets = one.targets if isinstance(one, ast.Assign) else [getattr(one, "target", None)]
        kept = isinstance(one, (ast.Assign, ast.AugAssign)) and isinstance(
            targets[0], (ast.Attribute, ast.Subscript)
        )
        if kept or (isinstance(one, ast.Expr) and isinstance(one.value, ast.Call)):
            yield (
                one,
                lambda i=i: statements.__setitem__(i, ast.Pass()),  # type: ignore[misc]
                lambda i=i, one=one: statements.__setitem__(i, one),  # type: ignore[misc]
            )


def _setting(node: Any, name: str, value: Any) -> Change:
    before = getattr(node, name)
    return node, lambda: setattr(node, name, value), lambda: setattr(node, name, before)


def copied(folder: Path) -> Path:
    """A copy of the working tree: what git follows, and the compiled kernels."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout
    kernels = [str(path.relative_to(ROOT)) for path in ROOT.glob("agents/kernels/*.so")]
    for name in [*listed.splitlines(), *kernels]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)
    return folder


def fail(folder: Path, tests: list[str]) -> bool:
    """Whether these tests do not pass there."""
    child = os.fork()  # with torch in memory, whose import takes longer than many a test
    if not child:
        os._exit(_passed(folder, tests))
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status != 0
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def _passed(folder: Path, tests: list[str]) -> int:
    """0 where they pass; in a process of its own, which imports from the folder alone."""
    os.setsid()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    os.chdir(folder)
    os.environ["PYTHONPATH"] = str(folder)
    sys.path[:] = [str(folder), *(path for path in sys.path if path not in ("", str(ROOT)))]
    for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
        del sys.modules[name]
    try:
        return int(pytest.main(["-q", "-x", "-n", "0", "-p", "no:cacheprovider", *tests]))
    except BaseException:
        return 1


def passing(folder: Path, name: str, count: int, seed: int) -> list[Fault]:
    """Of so many faults of a module, drawn by a seed, those that its tests let pass."""
    path, text = folder / name, (ROOT / name).read_text()
    faults = faults_of(text)
    drawn = random.Random(seed).sample(faults, min(count, len(faults)))
    found = []
    for number, fault in enumerate(sorted(drawn), 1):
        began = time.monotonic()
        path.write_text(fault.text)
        seen = fail(folder, TESTS[name])
        seconds = time.monotonic() - began
        verdict = "seen" if seen else "PASSED"
        print(
            f"{name}:{fault.line} {number}/{len(drawn)} {verdict} ({seconds:.0f} s): {fault.shown}"
        )
        sys.stdout.flush()
        if not seen:
            found.append(fault)
    path.write_text(text)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("modules", nargs="*", choices=[[], *TESTS], metavar="module")
    parser.add_argument("--faults", type=int, default=12, help="of each module")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        copy = copied(Path(folder))
        for name in given.modules or TESTS:
            if fail(copy, TESTS[name]):
                raise SystemExit(f"{name}: its tests fail without a fault.")
            found = passing(copy, name, given.faults, given.seed)
            print(f"{name}: {len(found)} of {given.faults} faults passed", flush=True)


if __name__ == "__main__":
    main()
