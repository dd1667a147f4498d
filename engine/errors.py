"""The errors that the user can mend."""

from __future__ import annotations

__all__ = ["UserError"]


class UserError(ValueError):
    """What the user gave cannot be used; the message is one sentence that says what was given and what is wanted.

    The command line prints the sentence alone and exits with code 2. Anything else that escapes is our mistake and
    keeps its traceback.
    """
