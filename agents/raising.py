"""An error that the user's own code raised: in which line, and in what words it is told."""

from __future__ import annotations

import sysconfig
import traceback
from traceback import FrameSummary

_PYTHONS = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib")})
_INSTALLED = ("site-packages", "dist-packages")
FRAMES = "own_frames"
"""The attribute in which an error of another process holds its frames; a traceback stays there."""


def own_frames(error: BaseException) -> list[FrameSummary]:
    """The user's own code that the error passed through, the outermost call first.

    Own is what is neither of this library, nor Python's, nor installed as a package is. None where
    this library raised the error, though called by the user's code: that may be a fault of ours. A
    syntax error is where Python found it.
    """
    frames, ours = list(getattr(error, FRAMES, ())), False
    for frame, line in traceback.walk_tb(error.__traceback__):
        name, path = str(frame.f_globals.get("__name__", "")), frame.f_code.co_filename
        ours = name.partition(".")[0] == "recurrent_rl"
        if not ours and _is_own(path):
            frames.append(FrameSummary(path, line, frame.f_code.co_name))
    if isinstance(error, SyntaxError) and _is_own(error.filename or "<unknown>"):
        frames.append(FrameSummary(str(error.filename), error.lineno, "<module>"))
    return [] if ours and not hasattr(error, FRAMES) else frames


def _is_own(path: str) -> bool:
    return not path.startswith(("<", *_PYTHONS)) and not any(one in path for one in _INSTALLED)


def keep_frames(error: BaseException) -> None:
    """Let an error take its frames along where it is sent to another process."""
    setattr(error, FRAMES, own_frames(error))


def place(error: BaseException) -> str:
    """In which line of the user's own code it was raised, to end a sentence; else nothing."""
    frames = own_frames(error)
    return f" (line {frames[-1].lineno} of {frames[-1].filename})" if frames else ""


def in_a_sentence(error: BaseException) -> str | None:
    """What the user's own code raised, and where; None where the error is not of such code."""
    if not (where := place(error)):
        return None
    said = str(error.msg if isinstance(error, SyntaxError) else error).strip().rstrip(".")
    return f"Your code raised {type(error).__name__}{said and ': '}{said}{where}."


def in_words(error: BaseException) -> str:
    """What an error says: of the user's own code with its line, else its message or its class."""
    return in_a_sentence(error) or str(error) or type(error).__name__


def own_calls(error: BaseException) -> str:
    """The calls in the user's own code that led there, as a traceback shows them; of one: none."""
    frames = own_frames(error)
    return "".join(traceback.format_list(frames)).rstrip() if len(frames) > 1 else ""
