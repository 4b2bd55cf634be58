"""The one error that a user's input can cause, and the one that another process can."""


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one sentence that names the culprit and says what to do. The command line prints it
    without a traceback and exits with code 2.
    """


class ProcessLostError(RuntimeError):
    """Another process of the same job ended while this one was waiting for it."""
