"""The one exception that users of the toolkit are meant to see."""


class VisoloError(Exception):
    """Wrong input or wrong use, told in one sentence: what was given, what to do.

    The command line prints the sentence without a traceback and exits with status 2.
    """


class NotHereError(VisoloError):
    """A library or a device is missing on this machine; another may do in its place."""
