"""The one exception that means "the user can mend this"."""


class UserError(Exception):
    """A mistake in what the user gave: one line that says what, where, and what to do.

    Commands print it without a traceback and exit with status 2. Everything else is a bug.
    """
