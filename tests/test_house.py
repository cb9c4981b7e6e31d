"""Where things live and what a file may hold; who may import whom, `lint-imports` checks."""

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import ONE_PROCESS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
FOLDERS = {
    "recurrent_rl": "recurrent_rl",
    "recurrent_rl.envs": "envs",
    "recurrent_rl.agents": "agents",
}
# Gymnasium imports what stands before the colon, and with that the environments are registered.
ENV_ID = "recurrent_rl.envs:recurrent_rl/RepeatPrevious-Easy-v0"
LINKED = ("envs", "agents")
SOURCES = sorted(path for folder in FOLDERS.values() for path in (ROOT / folder).rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported_names(tree: ast.AST) -> Iterator[str]:
    """Dotted names that the code imports, wherever in the file it does so."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module}.{alias.name}" for alias in node.names)


def is_within(name: str, packages: set[str] | frozenset[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def unsafe_code(source: str) -> list[str]:
    """Ways to run code out of a file or a string that the source uses."""
    tree = ast.parse(source)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    modules = frozenset({"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"})
    found = {name for name in imported_names(tree) if is_within(name, modules)}
    for node in calls:
        called = ast.unparse(node.func)
        if called in {"eval", "exec", "compile", "torch.save"}:
            found.add(called)
        # PyTorch's reader of tensors alone, which another library's weights need.
        if called == "torch.load" and "weights_only=True" not in map(ast.unparse, node.keywords):
            found.add(called)
        if any(keyword.arg == "allow_pickle" for keyword in node.keywords):
            found.add("allow_pickle")
    return sorted(found)


def tracked_files() -> dict[str, str]:
    """Path of each file in git, with its mode."""
    listing = subprocess.run(
        ["git", "ls-files", "--stage", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listing.returncode:
        pytest.skip("not a git checkout")
    entries = (entry.split("\t") for entry in listing.stdout.split("\0") if entry)
    return {path: stage.split()[0] for stage, path in entries}


def test_the_package_list_names_every_folder_that_is_a_package() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    present = {
        ".".join((package, *path.parent.relative_to(ROOT / folder).parts))
        for package, folder in FOLDERS.items()
        for path in (ROOT / folder).glob("**/__init__.py")
    }
    assert set(listed) == present


@pytest.mark.parametrize("package", LINKED)
def test_a_package_at_the_top_is_linked_into_the_other(package: str) -> None:
    link = ROOT / "recurrent_rl" / package
    assert link.is_symlink(), f"{name_of(link)} is no link: clone with core.symlinks=true"
    assert link.readlink() == Path("..", package)
    assert tracked_files()[name_of(link)] == "120000"


def test_no_module_is_a_drawer_for_leftovers() -> None:
    assert [name_of(path) for path in SOURCES if path.stem in {"utils", "util", "helpers"}] == []


def test_no_module_runs_code_from_files_or_strings() -> None:
    wrong = {name_of(path): unsafe_code(path.read_text()) for path in SOURCES}
    assert {path: names for path, names in wrong.items() if names} == {}


def test_weights_of_another_library_are_read_in_one_place() -> None:
    places = [name_of(path) for path in SOURCES if "torch.load(" in path.read_text()]
    assert places == ["agents/sb3/archive.py"]


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "eval('1')",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=safe)",
        "numpy.load(path, allow_pickle=True)",
    ],
)
def test_unsafe_code_is_found(source: str) -> None:
    assert unsafe_code(source)


@pytest.mark.parametrize(
    "code",
    [
        "import recurrent_rl",
        "import recurrent_rl.envs",
        f"import gymnasium; gymnasium.make('{ENV_ID}')",
        f"import gymnasium; gymnasium.make_vec('{ENV_ID}', num_envs=2)",
    ],
)
def test_environments_cost_no_torch_import(code: str, tmp_path: Path) -> None:
    check = "import sys; print(*sorted({'torch', 'recurrent_rl.agents'} & sys.modules.keys()))"
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"{code}\n{check}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == ""


@pytest.mark.parametrize("package", FOLDERS)
def test_every_public_name_resolves_and_keeps_resolving_to_the_same(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__all__
    for name in module.__all__:
        found = getattr(module, name)
        assert not isinstance(found, ModuleType), f"{name} is hidden by the module of its name"
        assert getattr(module, name) == found
    assert set(module.__all__) <= set(dir(module))


def test_modules_that_one_process_runs_are_there() -> None:
    """A name that is no module's any more would let each process build its fixtures."""
    assert [name for name in ONE_PROCESS if not (ROOT / name).is_file()] == []


def test_no_committed_file_names_a_path_or_host_of_one_machine() -> None:
    local = re.compile(r"(?<![\w.~])/(work|tmp|root|home|opt)/|pypi\.org|pythonhosted\.org")
    wrong = []
    for path, mode in tracked_files().items():
        if mode == "120000" or not (ROOT / path).exists():
            continue
        try:
            text = (ROOT / path).read_text(encoding="utf-8")
        except UnicodeDecodeError:  # a picture
            continue
        wrong += [f"{path}: {match[0]}" for match in local.finditer(text)]
    assert wrong == []
