"""The base of every error that a user can cause: the command line prints its one line and exits, without a traceback."""


class SynferError(ValueError):
    """Bad input; the message names in one line what was found and what is known."""
