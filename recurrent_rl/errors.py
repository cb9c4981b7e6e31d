"""The one class of errors that stand for a mistake the user can mend: see its docstring."""

import traceback

from recurrent_rl.agents.errors import UserError
from recurrent_rl.agents.raising import in_a_sentence

__all__ = ["RaisedError", "ToldError", "UserError", "for_others", "told_exit"]


class RaisedError(UserError):
    """Raised where the user's own code has raised an error in another worker, or called exit."""


class ToldError(UserError):
    """Raised in the other workers where the first one has a mistake, which it tells."""


def told_exit(error: SystemExit) -> SystemExit:
    """What the other workers raise where a callback of the first one has called exit.

    All leave the program alike: to torchrun it is then no failure.
    """
    return SystemExit(error.code if isinstance(error.code, int) else bool(error.code))


def for_others(error: Exception, worker: str) -> UserError:
    """What other workers raise of an error: the user's mistake in a sentence, a fault in full.

    `worker` is the one that met it.
    """
    if isinstance(error, UserError):
        return (RaisedError if isinstance(error, RaisedError) else UserError)(f"{worker}: {error}")
    if (sentence := in_a_sentence(error)) is not None:
        return RaisedError(f"{worker}: {sentence}")
    return UserError(f"{worker}: {''.join(traceback.format_exception(error))}")
