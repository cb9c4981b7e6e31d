"""The one class of errors that stand for a mistake the user can mend: see its docstring."""

from recurrent_rl.agents.errors import UserError

__all__ = ["ToldError", "UserError"]


class ToldError(UserError):
    """A mistake that the first of several workers tells, raised in the others."""
