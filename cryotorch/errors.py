"""The one exception that users meet."""


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one sentence for a person: what is wrong, which value, what to do. The command line prints
    it without a traceback and exits with code 1.
    """
