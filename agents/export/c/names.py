"""What the arrays of a listing are called in C."""

from __future__ import annotations

from collections.abc import Iterable

from recurrent_rl.agents.export.c.text import index
from recurrent_rl.agents.export.listing import Buffer, Listing, View
from recurrent_rl.agents.export.signature import Signature
from recurrent_rl.agents.export.step import START


def struct_fields(signature: Signature) -> list[str]:
    """What the struct holds behind `episode_start`, in its order: the state, then what is shown."""
    after = {*signature.state.values(), "action"}
    return [*signature.state, *(one.name for one in signature.outputs if one.name not in after)]


def given_names(listing: Listing) -> list[str]:
    """The inputs that a step takes as arguments; the others stand in the struct."""
    return [one for one in listing.inputs if one not in {*listing.signature.state, START}]


def kept_as(before: str) -> str:
    """The name of a part of the state in the struct."""
    return before.removesuffix("_in")


class Names:
    """Names of arrays, and of places in them.

    Attributes:
        asked: the arrays whose name was asked for.
    """

    def __init__(self, listing: Listing) -> None:
        self._given: dict[Buffer, str] = {}
        for name, view in listing.inputs.items():
            inside = name in listing.signature.state or name == START
            self._given[view.buffer] = f"state->{kept_as(name)}" if inside else name
        self.asked: set[Buffer] = set()

    def of(self, buffer: Buffer) -> str:
        """The name of an array."""
        self.asked.add(buffer)
        if buffer in self._given:
            return self._given[buffer]
        return f"{'W' if buffer.constant is not None else 't'}_{buffer.name}"

    def read(self, buffer: Buffer) -> str:
        """An array, as what an index can be put behind."""
        name = self.of(buffer)
        return f"(&{name})" if name == f"state->{START}" else name

    def start(self, view: View) -> str:
        """Where the numbers of a view begin."""
        return self.read(view.buffer) + (f" + {view.offset}" if view.offset else "")

    def entry(self, view: View, strides: Iterable[int]) -> str:
        """One number of a view, in loops over i, j, ..."""
        return f"{self.read(view.buffer)}[{index(view.offset, strides, 'ijklmn')}]"
