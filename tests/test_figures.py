"""The figures of benchmarks/learning are never overwritten by empty ones."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

LEARNING = Path(__file__).parents[1] / "benchmarks" / "learning"
WITH_ROWS = ("defaults", "discount", "matrix", "probes", "units", "published")
FINDINGS = ("rollouts", "entropy")


def script(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A script of benchmarks/learning, as a module."""
    pytest.importorskip("matplotlib")
    monkeypatch.syspath_prepend(str(LEARNING))
    spec = importlib.util.spec_from_file_location(name, LEARNING / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What saves the figures, into a folder of the test's."""
    module = script("figures", monkeypatch)
    (tmp_path / "docs").mkdir()
    monkeypatch.setattr(module, "ROOT", tmp_path)
    return module


def test_a_figure_of_something_is_saved(figures: Any, tmp_path: Path) -> None:
    figure, ((axis,),) = figures.panels()
    figures.dots(axis, ["a task"], {"a way": [[1.0]]})
    figures.save(figure, "some")
    assert (tmp_path / "docs" / "some.png").exists()


def test_the_figures_of_the_docs_are_as_they_are_saved() -> None:
    """One of another form would be another file when it is drawn again, with nothing changed."""
    image = pytest.importorskip("PIL.Image")
    forms = {}
    for path in (LEARNING.parents[1] / "docs").glob("*.png"):
        with image.open(path) as picture:
            forms[path.name] = picture.mode
    assert {name for name, mode in forms.items() if mode != "P"} == set()


@pytest.mark.parametrize("name", [*WITH_ROWS, *FINDINGS, "study"])
def test_without_runs_the_figure_there_is_stays(
    name: str,
    figures: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    there = tmp_path / "docs" / f"{name}.png"
    there.write_text("as it was")
    module = script("findings" if name in FINDINGS else name, monkeypatch)
    if name == "study":
        monkeypatch.setattr(module, "OUT", tmp_path / "runs")
        module.draw(module.found_runs([module.DEFAULTS, *module.CHANGES], 1, 100))
    else:
        module.draw([])
    assert there.read_text() == "as it was"
    assert f"no runs to draw: docs/{name}.png" in capsys.readouterr().err
