"""The one exception that means "the user can mend this", and how every command ends."""

import sys
from collections.abc import Callable
from functools import wraps


class UserError(Exception):
    """A mistake in what the user gave: one line that says what, where, and what to do.

    Commands print it without a traceback and exit with status 2. Everything else is a bug.
    """


def command(main: Callable[[list[str] | None], int]) -> Callable[..., int]:
    """A command's `main(arguments)` that ends as all commands do: a UserError in one line and with status 2, Ctrl-C
    with 130. A bug keeps its traceback."""

    @wraps(main)
    def ended(arguments: list[str] | None = None) -> int:
        try:
            return main(arguments)
        except UserError as error:
            # Names of files may hold bytes that are no text.
            print(f"error: {error}".encode("utf-8", "backslashreplace").decode(), file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("interrupted; the same command again goes on with what is not done", file=sys.stderr)
            return 130

    return ended
