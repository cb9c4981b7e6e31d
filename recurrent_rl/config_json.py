"""The settings of a run as its config.json holds them, also those that older versions wrote.

The file holds the settings as requested and, under the key `RESOLVED`, what was chosen for them.
"""

from __future__ import annotations

from typing import Any

from recurrent_rl.agents.settings import SettingError, shown

SIZES = ("num_envs", "num_steps")
"""What `resolve` chooses where it is None."""

AUTOMATIC: dict[str, Any] = dict.fromkeys((*SIZES, "num_minibatches")) | {"workers": "auto"}
"""The settings that `resolve` chooses, each with the value that asks for it."""

RESOLVED = "resolved"
"""The key in a config.json under which stands what was chosen."""
RESOLVED_FIELDS = (*AUTOMATIC, "reasons")
"""What stands there."""


def requested_and_resolved(fields: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """The fields of the settings as requested, and what was resolved, of a file of any version.

    What a file lacks is at its default: an older version did not know it. Version 0.1 had no
    workers, wrote 0 where None stands now, and sizes that it had chosen among those requested, with
    their names in `chosen`.

    Raises:
        SettingError: `chosen` is none.
    """
    requested = dict(fields)
    resolved = requested.pop(RESOLVED, None)
    chosen = requested.pop("chosen", None)
    for name in ("threads", "memory_interval", *SIZES):
        if type(requested.get(name)) is int and requested[name] == 0:
            requested[name] = None
    sizes = {name: requested.get(name) for name in SIZES}
    is_older = "workers" not in fields  # than this: they always tell both sizes
    if resolved is None and is_older and None not in sizes.values():
        names = [] if chosen is None else chosen
        if not isinstance(names, list) or any(name not in SIZES for name in names):
            raise SettingError(f"chosen is {shown(names)}; it must be a list of {SIZES}")
        reasons = dict.fromkeys(names, "chosen by version 0.1")
        requested |= dict.fromkeys(names)
        resolved = sizes | {"workers": 1, "reasons": reasons}
    return requested, resolved


def checked_resolved(resolved: Any, requested: dict[str, Any]) -> dict[str, Any]:
    """What was resolved, if it is a dictionary of just that.

    Older files tell of no workers, and of minibatches only what was requested, by default 4.

    Raises:
        SettingError: it is none.
    """
    if isinstance(resolved, dict) and "num_minibatches" not in resolved:
        minibatches, reasons = requested.get("num_minibatches"), resolved.get("reasons")
        if minibatches == 4 and isinstance(reasons, dict):
            reasons = reasons | {"num_minibatches": ""}
        resolved = {"workers": 1} | resolved
        resolved |= {"num_minibatches": minibatches, "reasons": reasons}
    if not isinstance(resolved, dict) or set(resolved) != set(RESOLVED_FIELDS):
        raise SettingError(f"it is {shown(resolved)}; it must hold {', '.join(RESOLVED_FIELDS)}")
    return resolved
