"""What the pages in docs/ say of the tests is so."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROMISES = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")
PROMISED_BY = (ROOT / "docs" / "promised-by.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`((?:tests/[^`]*::)?test_\w+)`", PROMISED_BY)))
NOT_PROMISED = "What is not promised"


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


def items(page: str) -> dict[str, list[str]]:
    """What a page lists under each of its headings."""
    sections = (part.partition("\n") for part in page.split("\n## ")[1:])
    return {name: re.findall(r"^- (.*)$", text, re.MULTILINE) for name, _, text in sections}


PROMISED, HELD = items(PROMISES), items(PROMISED_BY)


def beginning(line: str) -> str:
    """The words of the promise that a line with tests begins with."""
    bold = re.fullmatch(r"\*\*(.+)\*\* `.*", line)
    assert bold is not None, line
    return bold[1]


def test_the_promises_and_their_tests_have_the_same_headings() -> None:
    assert len(PROMISED) > 20
    assert set(HELD) == set(PROMISED)


@pytest.mark.parametrize("heading", sorted(PROMISED.keys() - {NOT_PROMISED}))
def test_every_promise_has_one_line_with_tests_in_the_order_of_promises(heading: str) -> None:
    promises = PROMISED[heading]
    begun = [
        [promise for promise in promises if promise.startswith(beginning(line))]
        for line in HELD[heading]
    ]
    assert begun == [[promise] for promise in promises]


def test_what_is_not_promised_is_found_by_the_lines_that_test_it() -> None:
    for line in HELD[NOT_PROMISED]:
        begun = [one for one in PROMISED[NOT_PROMISED] if one.startswith(beginning(line))]
        assert len(begun) == 1, line


def test_every_line_names_a_test_and_no_promise_does() -> None:
    lines = [line for held in HELD.values() for line in held]
    assert [line for line in lines if not re.search(r"\btest_\w+`", line)] == []
    assert "`test_" not in PROMISES


def test_the_tests_of_promises_that_are_slow_are_marked() -> None:
    marked = set(re.findall(r"`([^`]+)` \(slow\)", PROMISED_BY))
    assert marked == {named for named in NAMED if is_slow(named_test(named))}
