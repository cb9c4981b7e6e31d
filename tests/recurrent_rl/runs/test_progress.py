"""Progress and stops as a user at a terminal, or the reader of a log, meets them."""

import os
import signal
import sys
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from recurrent_rl.runs.progress import ProgressBar
from recurrent_rl.signals import StopSignals
from tests.recurrent_rl.unwritable import UNWRITABLE, unwritable


def test_a_log_gets_a_line_now_and_then_and_one_at_the_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with ProgressBar("Training", 1000, "steps", start=200) as bar:
        for done in range(300, 1001, 100):
            bar.update(done, {"return": "0.5"})
        for _ in range(3):  # a benchmark whose last run is being evaluated
            bar.update(1000, {"return": "0.5"})
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("Training: 1,000 of 1,000  return 0.5  steps/s ")


def test_a_log_gets_what_changes_after_the_last_step(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBar("Confirming", 20, "steps") as bar:
        for runs in ("1/2", "1/2", "2/2", "2/2"):
            bar.update(20, {"runs": runs})
    lines = capsys.readouterr().err.strip().splitlines()
    assert [line.split("  ")[1] for line in lines] == ["runs 1/2", "runs 2/2"]


class Display:
    """`IPython.display.display`, and the handle that it returns: the states of each output."""

    def __init__(self) -> None:
        self.outputs: list[list[str]] = []

    def __call__(self, content: dict[str, str], *, raw: bool, display_id: bool) -> "Display":
        assert raw
        assert display_id
        self.outputs.append([content["text/plain"]])
        return self

    def update(self, content: dict[str, str], *, raw: bool) -> None:
        assert raw
        self.outputs[-1].append(content["text/plain"])


def test_a_notebook_gets_one_line_that_is_redrawn(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = type("ZMQInteractiveShell", (), {})  # of a kernel; rich looks at its name
    display = Display()
    monkeypatch.setattr("builtins.get_ipython", shell, raising=False)
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
    monkeypatch.setattr("recurrent_rl.runs.progress.REDRAW_SECONDS", 0.0)
    with ProgressBar("Training", 1000, "steps") as bar:
        bar.update(500, {"return": "-0.123456"})
        bar.update(1000, {"return": "1"})
    ((first, second),) = display.outputs
    assert first.startswith("Training: 500 of 1,000  return -0.123456  steps/s ")
    assert second.startswith("Training: 1,000 of 1,000  return 1  steps/s ")

    with ProgressBar("Training", 10, "steps", visible=False) as bar:
        bar.update(10)
    assert len(display.outputs) == 1
    assert capsys.readouterr() == ("", "")


def test_labels_and_figures_of_any_text_are_shown_as_they_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for is_terminal in (False, True):
        if is_terminal:
            monkeypatch.setattr("rich.console.Console.is_terminal", True)
        with ProgressBar("[bold]x[/bold] [/]", 10, "steps") as bar:
            bar.update(10, {"return": "[/] :smile:"})
        shown = capsys.readouterr().err
        assert "[bold]x[/bold] [/]" in shown
        assert "return [/] :smile:" in shown


def test_an_invisible_bar_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBar("Training", 10, "steps", visible=False) as bar:
        bar.update(10)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("kind", UNWRITABLE)
@pytest.mark.parametrize("is_terminal", [False, True])
def test_progress_that_cannot_be_written_stops_nothing_and_leaves_descriptors_alone(
    kind: str, is_terminal: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("recurrent_rl.runs.progress.LOG_SECONDS", 0.0)
    monkeypatch.setattr("rich.console.Console.is_terminal", is_terminal)
    stream = unwritable(kind)
    with open(tmp_path / "out", "w") as out:
        monkeypatch.setattr("sys.stdout", out)
        monkeypatch.setattr("sys.stderr", stream)
        with ProgressBar("Training", 1000, "steps") as bar:
            bar.update(500)
            bar.say("a note")
            bar.update(1000)
        print("the caller's", file=out)
    assert (tmp_path / "out").read_text() == "the caller's\n"
    stream.close()  # raises where something is left to write


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_first_signal_is_noted_and_a_second_obeyed(
    number: signal.Signals, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    heard: list[int] = []
    before = signal.signal(number, lambda n, _: heard.append(n))
    try:
        with StopSignals() as stop:
            assert not stop
            assert stop.exit_status == 0
            os.kill(os.getpid(), number)
            assert stop
            assert stop.exit_status == status
            assert not heard
            os.kill(os.getpid(), number)
            assert heard == [number]
        os.kill(os.getpid(), number)
        assert heard == [number, number]
    finally:
        signal.signal(number, before)
    assert "once more ends at once" in capsys.readouterr().err


def test_sighup_stays_ignored_where_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_patient_process_notes_what_it_hears_twice(capsys: pytest.CaptureFixture[str]) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda n, _: heard.append(n))
    try:
        with StopSignals(patient=True) as stop:
            with stop:  # as a command does within another
                os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop
            assert not heard
        os.kill(os.getpid(), signal.SIGTERM)
        assert heard == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)
    assert "once more" not in capsys.readouterr().err


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    failures: list[BaseException] = []

    def enter() -> None:
        try:
            with StopSignals() as stop:
                assert not stop
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert not failures
