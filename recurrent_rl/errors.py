"""The one class of errors that stand for a mistake the user can mend: see its docstring."""

from recurrent_rl.agents.errors import UserError

__all__ = ["ToldError", "UserError"]


class ToldError(UserError):
    """Raised in the other workers where the first one has a mistake, which it tells."""
