"""How settings are declared and checked: a frozen dataclass, each field with its type and bounds.

    @validated
    @dataclass(frozen=True)
    class Settings:
        units: Annotated[int, at_least(1)] = 128
        schedule: Literal["constant", "linear"] = "linear"

Wherever the values come from (Python, JSON, the command line), `validated` brings each to its
declared type, or refuses it by name. A field holds `bool`, `int`, `float`, `str`, a choice
(`Literal`), a tuple of these, a dictionary by text, another settings class, or None or a choice
beside one of them.

What is taken for what:

- `bool`: True and False, NumPy's too; neither 0 and 1 nor text.
- `int`: whole numbers of 64 bits, also as NumPy numbers and as floats such as 1e6.
- `float`: finite numbers that float32 can hold, also whole ones and NumPy's. For numbers and truths
  alike, arrays and tensors without dimensions do.
- `str`: text that UTF-8 can hold.
- tuples: lists, tuples, ranges and NumPy arrays.
- settings classes: their instances, and dictionaries of their fields.
"""

from recurrent_rl.agents.settings.building import (
    build,
    changed,
)
from recurrent_rl.agents.settings.other_names import OTHER_NAMES, suggestion
from recurrent_rl.agents.settings.reading import parser, validated
from recurrent_rl.agents.settings.refusals import (
    SettingError,
    close_matches,
    did_you_mean,
    refusal,
    shown,
    within,
)
from recurrent_rl.agents.settings.requirements import (
    Must,
    OneOf,
    Read,
    above,
    at_least,
    at_most,
    between,
    from_0_below_1,
    no_repeats,
)
from recurrent_rl.agents.settings.values import (
    LARGEST_INT,
    check_choice,
)

__all__ = [
    "LARGEST_INT",
    "OTHER_NAMES",
    "Must",
    "OneOf",
    "Read",
    "SettingError",
    "above",
    "at_least",
    "at_most",
    "between",
    "build",
    "changed",
    "check_choice",
    "close_matches",
    "did_you_mean",
    "from_0_below_1",
    "no_repeats",
    "parser",
    "refusal",
    "shown",
    "suggestion",
    "validated",
    "within",
]
