"""Modules that keep the parts they were made of."""

from __future__ import annotations

from typing import Any, NoReturn

from torch import nn

from recurrent_rl.agents.settings import SettingError


class FixedParts(nn.Module):
    """A module whose parts are those it was made of: what replaces one afterwards is refused.

    What computes keeps its parts at hand, and a policy file says by the settings what they are. A
    part that is put in another's place would be ignored by the one and missing from the other.
    """

    _parts_are_fixed = False

    def fix_parts(self) -> None:
        """From now on the parts stay."""
        self._parts_are_fixed = True

    def __setattr__(self, name: str, value: Any) -> None:
        if self._parts_are_fixed and (isinstance(value, nn.Module) or name in self._modules):
            self._refuse(name)
        super().__setattr__(name, value)

    def add_module(self, name: str, module: nn.Module | None) -> None:
        """As of any module, until `fix_parts` was called."""
        if self._parts_are_fixed:
            self._refuse(name)
        super().add_module(name, module)

    def _refuse(self, name: str) -> NoReturn:
        raise SettingError(
            f"{type(self).__name__}.{name} cannot be replaced: the agent's parts are those that "
            "its AgentConfig names, also in its file. Name your own there: AgentConfig(memory=..., "
            "encoder=..., head=...), docs/your-parts.md."
        )


class FixedPartsList(FixedParts, nn.ModuleList):
    """A list of modules that stay, once `fix_parts` was called."""

    def __setitem__(self, index: Any, module: nn.Module) -> None:
        if self._parts_are_fixed:
            self._refuse(str(index))
        super().__setitem__(index, module)

    def __delitem__(self, index: Any) -> None:
        if self._parts_are_fixed:
            self._refuse(str(index))
        super().__delitem__(index)
