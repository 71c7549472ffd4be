"""Errors that are the user's to mend: one message, no traceback, an exit code. All others are faults of ours."""


class RhoflowError(Exception):
    """The work could not be finished; the message names what stands in the way and the remedy."""

    exit_code = 1


class RequestError(RhoflowError):
    """The request is wrong: a bad recipe, source, path or option; nothing has been computed."""

    exit_code = 2


class StoreError(RhoflowError):
    """The store cannot be used as asked; the message says which store, what is wrong and the remedy."""
