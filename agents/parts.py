"""Parts of an agent by name: the library's own, and those that others write.

A part of one's own is named as it was registered, or as `module:Class`. What Python code or the
command line names is imported. What a policy file names is not: it may come from anyone, and so it
can only name what was registered or named in this process before.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from torch import Tensor, nn

from recurrent_rl.agents.importing import class_path, imported, is_class_path, name_of
from recurrent_rl.agents.settings import Must, SettingError, check_choice, refusal, shown

Part = TypeVar("Part", bound=nn.Module)
Own = TypeVar("Own", bound=type[nn.Module])

if TYPE_CHECKING:
    Base = TypeVar("Base", bound=nn.Module, covariant=True)
    Name = TypeVar("Name", bound="str | None")

    class NameOf(Generic[Base, Name]):
        """For type checkers: a setting that is given as a name or a class, and holds the name."""

        def __get__(self, instance: Any, owner: Any) -> Name: ...
        def __set__(self, instance: Any, value: Name | type[Base]) -> None: ...


_NAME = re.compile(r"[A-Za-z][\w.-]*")

OF_ONES_OWN = Must(
    "one of your own: registered by a module that is imported first (on the command line --import "
    "MODULE), or module:Class",
    is_class_path,
)
"""For `OneOf`: the setting may also name a class that is registered nowhere."""


class Parts(dict[str, Callable[..., Part]], Generic[Part]):
    """The parts of one kind by name: those of the library, and those that were registered.

    Args:
        kind: in a word: "memory". It is also the setting's name.
        built_in: the library's own.
        fault: what a class lacks to be one, as the end of a sentence about it; None: nothing.
    """

    def __init__(
        self,
        kind: str,
        built_in: Mapping[str, Callable[..., Part]],
        fault: Callable[[type], str | None],
    ) -> None:
        super().__init__(built_in)
        self.kind = kind
        self._built_in = frozenset(built_in)
        self._fault = fault
        self._by_path: dict[str, Callable[..., Part]] = {}

    def register(self, name: str) -> Callable[[Own], Own]:
        """A decorator that gives a class this name.

        Raises:
            SettingError: the name is none, is the library's or another class's, or the class lacks
                something.
        """
        example = f'@register_{self.kind}("my-{self.kind}")'
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise SettingError(
                refusal(
                    f"The name of the {self.kind}",
                    name,
                    f"a letter, then letters, digits, dots, dashes and underscores: {example}",
                )
            )
        if name in self._built_in:
            raise SettingError(f"{name} is a {self.kind} of the library's own; take another name.")

        def register(part: Own) -> Own:
            self.take(name, part)
            return part

        return register

    def take(self, name: str, part: Any) -> None:
        """Let a class be found under a name; also under its own path, so that a file may name it.

        A class that is defined anew, in a notebook's cell or by a reload, takes the old one's
        place.

        Raises:
            SettingError: another class has the name, or the class lacks something.
        """
        self.check(part)
        there: Any = self.find(name)
        if there is not None and there is not part and class_path(there) != class_path(part):
            raise SettingError(
                f"The {self.kind} {name!r} is {class_path(there)} already; give "
                f"{class_path(part)} another name."
            )
        if is_class_path(name):
            self._by_path[name] = part
        else:
            self[name] = part
        self._by_path[class_path(part)] = part

    def find(self, name: str) -> Callable[..., Part] | None:
        """The part of this name if it is known in this process; nothing is imported."""
        return self.get(name) or self._by_path.get(name)

    def named(self, name: str) -> Callable[..., Part]:
        """The part of this name; the module of `module:Class` is imported.

        Raises:
            SettingError: there is none, it cannot be imported, or it lacks something.
        """
        check_choice(self.kind, name, self, OF_ONES_OWN)
        if (part := self.find(name)) is None:
            self.take(name, imported(name, self.kind))
            part = self.find(name)
            assert part is not None
        return part

    def name_of_class(self, setting: str, value: Any) -> Any:
        """Read a setting that is given as a class: the name that the settings record of it.

        That is its name in the library, `module:Class` where another process can import it, or the
        name that it is registered by. What is no class is left as it is.

        Raises:
            SettingError: there is no such name, the class lacks something, or an instance is given.
        """
        if isinstance(value, nn.Module):
            own = class_path(type(value))
            raise SettingError(f"{setting} is an instance of {own}; give the class itself.")
        if not isinstance(value, type):
            return value
        registered = next((name for name, part in self.items() if part is value), None)
        if registered in self._built_in:
            return registered
        self.check(value)
        path = name_of(value)
        if path is not None:
            self.take(path, value)
        if path is None and registered is None:
            raise SettingError(
                f"{setting} is the class {class_path(value)}, which another process cannot import: "
                "a run could not be resumed. Move it to the top level of a module, and import it "
                f'from there; or put @recurrent_rl.register_{self.kind}("my-{self.kind}") on it.'
            )
        return path or registered

    def is_own(self, name: str | None) -> bool:
        """Whether this names a part of one's own, not of the library's."""
        return name is not None and name not in self._built_in

    def check(self, part: Any) -> None:
        """Refuse what is no such part.

        Raises:
            SettingError: it is no class, or lacks something.
        """
        if fault := self.fault(part):
            name = class_path(part) if isinstance(part, type) else shown(part)
            raise SettingError(
                f"{name} cannot be a part of the kind {self.kind}: {fault}. docs/your-parts.md has "
                "the contract."
            )

    def fault(self, part: Any) -> str | None:
        """What a class lacks to be one of these; None: nothing."""
        return self._fault(part) if isinstance(part, type) else "it is no class"


def takes(part: type, arguments: tuple[str, ...]) -> str | None:
    """What is wrong with a class that is to be made of so many arguments; None: nothing."""
    try:
        inspect.signature(part).bind(*arguments)
    except (TypeError, ValueError) as error:
        return f"it must be made as {part.__name__}({', '.join(arguments)}) ({error})"
    return None


def form_of(x: Any) -> str:
    """What a part of one's own gave, in a message: a tensor's type and shape, else its class."""
    return f"{x.dtype} {list(x.shape)}" if isinstance(x, Tensor) else type(x).__name__


def output_size_of(part: nn.Module, kind: str) -> int:
    """What a part of one's own says of the size of its outputs.

    Raises:
        SettingError: it says nothing, or no size.
    """
    size = getattr(part, "output_size", None)
    if type(size) is not int or size < 1:
        raise SettingError(
            f"The {kind} {class_path(type(part))} has output_size {shown(size)}; it must be a "
            "whole number of at least 1, set in __init__."
        )
    return size
