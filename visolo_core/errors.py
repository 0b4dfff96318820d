"""The exceptions that users of the toolkit see."""


class VisoloError(Exception):
    """Wrong input or wrong use, in one sentence: what was given and what to do.

    The command line prints the sentence without a traceback and exits with status 2.
    """


class NotHereError(VisoloError):
    """A library or a device is missing on this machine; another may be used instead."""
