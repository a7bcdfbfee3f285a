"""The base of every error that a user can mend; its message names the case, the cause and the repair."""

from __future__ import annotations


class UserError(ValueError):
    """Something that the user can mend.  ``exit_code`` is the command line's (2 = wrong usage)."""

    exit_code = 2


class BusyError(UserError):
    """Another process works there at this moment; the same call may do later."""

    exit_code = 4


class UnusableError(UserError):
    """The input holds nothing that can be used."""

    exit_code = 3
