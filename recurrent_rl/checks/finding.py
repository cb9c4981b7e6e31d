"""What a check has found, and the error that tells of faults."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from recurrent_rl.errors import UserError


@dataclass(frozen=True)
class Finding:
    """What `check_env` found in an environment, and how to mend it."""

    severity: Literal["fault", "note"]
    """fault: training would be refused, or would learn from what is not so; note: it works, and
    may not be what was meant."""
    what: str
    """What was seen, and where."""
    fix: str
    """What to do about it."""


class FaultyEnvironmentError(UserError):
    """An environment in which a check has found a fault.

    Attributes:
        findings: all of them, faults first and notes behind them.
    """

    def __init__(self, message: str, findings: Sequence[Finding] = ()) -> None:
        super().__init__(message)
        self.findings = tuple(findings)


class Report:
    """The findings so far: of each topic the first fault that came, else the first note."""

    def __init__(self) -> None:
        self._found: dict[str, Finding] = {}

    def __contains__(self, topic: str) -> bool:
        return topic in self._found

    def fault(self, topic: str, what: str, fix: str) -> None:
        """Add a fault, if there is none on this topic yet."""
        there = self._found.get(topic)
        if there is None or there.severity == "note":
            self._found[topic] = Finding("fault", what, fix)

    def refused(self, topic: str, error: UserError, fix: str = "") -> None:
        """Add what training refuses: in its first sentence what, in the others the fix, if any."""
        # Not at every dot and blank: arrays are written so, as in [0. 1.].
        what, *told = re.split(r"\. (?=[A-Z])", str(error), maxsplit=1)
        self.fault(topic, f"{what.rstrip('.')}.", told[0] if told else fix)

    def note(self, topic: str, what: str, fix: str) -> None:
        """Add a note, if there is nothing on this topic yet."""
        self._found.setdefault(topic, Finding("note", what, fix))

    @property
    def is_faulty(self) -> bool:
        """Whether there is a fault."""
        return any(one.severity == "fault" for one in self._found.values())

    def findings(self) -> tuple[Finding, ...]:
        """All, faults first."""
        return tuple(sorted(self._found.values(), key=lambda one: one.severity))
