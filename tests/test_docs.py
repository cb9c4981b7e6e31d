"""What the pages in docs/ say of the tests is so."""

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROMISES = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`((?:tests/[^`]*::)?test_\w+)`", PROMISES)))


@cache
def defined_tests() -> dict[str, list[tuple[str, ast.FunctionDef]]]:
    """Every test of tests/, by its name, with the file that defines it."""
    found: dict[str, list[tuple[str, ast.FunctionDef]]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                found.setdefault(node.name, []).append((str(path.relative_to(ROOT)), node))
    return found


def named_test(named: str) -> ast.FunctionDef | None:
    """The one test of this name, `test_y`, or `tests/.../test_x.py::test_y` where two have it."""
    path, _, name = named.rpartition("::")
    nodes = [node for at, node in defined_tests().get(name, []) if path in ("", at)]
    return nodes[0] if len(nodes) == 1 else None


def is_slow(test: ast.FunctionDef | None) -> bool:
    """Whether a default run leaves out all of a test."""
    marks = [] if test is None else map(ast.unparse, test.decorator_list)
    return "pytest.mark.slow" in marks


def test_every_test_that_the_promises_name_exists_once() -> None:
    assert len(NAMED) > 300
    assert [named for named in NAMED if named_test(named) is None] == []


def test_every_promise_names_a_test() -> None:
    rows = [line for line in PROMISES.splitlines() if line.startswith("| ")]
    promises = [row for row in rows if row != "| promise | held by |"]
    assert promises
    assert [row for row in promises if not re.search(r"\btest_\w+`", row)] == []


def test_the_promises_say_which_tests_are_slow() -> None:
    marked = set(re.findall(r"`([^`]+)` \(slow\)", PROMISES))
    assert marked == {named for named in NAMED if is_slow(named_test(named))}
