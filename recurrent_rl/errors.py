"""The one class of errors that stand for a mistake the user can mend: see its docstring."""

from recurrent_rl.agents.errors import UserError

__all__ = ["RaisedError", "ToldError", "UserError", "told_exit"]


class RaisedError(UserError):
    """Raised where the user's own code has raised an error in another worker, or called exit."""


class ToldError(UserError):
    """Raised in the other workers where the first one has a mistake, which it tells."""


def told_exit(error: SystemExit) -> SystemExit:
    """What the other workers raise where a callback of the first one has called exit.

    All leave the program alike: to torchrun it is then no failure.
    """
    return SystemExit(error.code if isinstance(error.code, int) else bool(error.code))
