"""What the pages in docs/ say of the tests is so."""

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROMISES = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`([^`]*\btest_[^`]*)`", PROMISES)))


@cache
def defined_in(path: str) -> dict[str, ast.FunctionDef]:
    """The tests that a file of tests/ defines, by name; none where there is no such file."""
    if not (path.startswith("tests/") and (ROOT / path).is_file()):
        return {}
    nodes = ast.parse((ROOT / path).read_text(encoding="utf-8")).body
    found = {node.name: node for node in nodes if isinstance(node, ast.FunctionDef)}
    return {name: node for name, node in found.items() if name.startswith("test_")}


def named_test(named: str) -> ast.FunctionDef | None:
    """The test of this name, `tests/.../test_x.py::test_y`."""
    path, _, name = named.partition("::")
    return defined_in(path).get(name)


def is_slow(test: ast.FunctionDef | None) -> bool:
    """Whether a default run leaves out all of a test."""
    marks = [] if test is None else map(ast.unparse, test.decorator_list)
    return "pytest.mark.slow" in marks


def test_every_test_that_the_promises_name_exists() -> None:
    assert len(NAMED) > 100
    assert [named for named in NAMED if named_test(named) is None] == []


def test_every_promise_names_a_test() -> None:
    rows = [line for line in PROMISES.splitlines() if line.startswith("| ")]
    promises = [row for row in rows if row != "| promise | held by |"]
    assert promises
    assert [row for row in promises if not re.search(r"::test_\w+`", row)] == []


def test_the_promises_say_which_tests_are_slow() -> None:
    marked = set(re.findall(r"`([^`]+)` \(slow\)", PROMISES))
    assert marked == {named for named in NAMED if is_slow(named_test(named))}
