"""Streams that cannot be written to: nothing is raised, and descriptors stay the caller's."""

import os

import pytest

from recurrent_rl.output import say, without_controls
from recurrent_rl.runs.progress import make_console
from tests.recurrent_rl.unwritable import UNWRITABLE, unwritable


def test_lines_go_to_the_stream_that_is_meant(capsys: pytest.CaptureFixture[str]) -> None:
    say()
    say("a", "b")
    say("c", stderr=True)
    assert capsys.readouterr() == ("a\nb\n", "c\n")


@pytest.mark.parametrize("kind", UNWRITABLE)
@pytest.mark.parametrize("stderr", [False, True])
def test_a_stream_that_cannot_be_written_to_keeps_its_descriptor_and_holds_nothing(
    kind: str, stderr: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = unwritable(kind)
    monkeypatch.setattr("sys.stderr" if stderr else "sys.stdout", stream)
    before = None if stream.closed else os.fstat(stream.fileno())
    say("a", stderr=stderr)
    if before is not None:
        assert os.path.samestat(os.fstat(stream.fileno()), before)
        stream.close()  # raises where something is left to write


def test_where_there_is_no_stream_nothing_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr", None)
    say("a", stderr=True)
    assert capsys.readouterr().out == ""


def test_control_characters_of_a_text_reach_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    told = "a\tb\nc\x1b]0;d\x07\r\x9b31m\x7fä"
    shown = "a\tb\nc\\x1b]0;d\\x07\\x0d\\x9b31m\\x7fä"
    assert without_controls(told) == shown
    make_console().print(told, soft_wrap=True)
    make_console(stderr=True).print(told, soft_wrap=True)
    expected = shown.expandtabs(8) + "\n"
    assert capsys.readouterr() == (expected, expected)
