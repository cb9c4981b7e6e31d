"""The one exception that stands for a mistake the user can mend."""


class UserError(ValueError):
    """Says what was wrong, what was expected and the fix.

    The command line prints its message and exits with status 2, without a traceback.
    """
