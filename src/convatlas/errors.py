"""The one error that means "the data or the model is bad", as opposed to "the program is", and one that is none: being asked to stop."""

from __future__ import annotations


class ConvAtlasError(Exception):
    """Something the user gave cannot be used; the message names it and the remedy says what to do.

    The command line prints both and exits with status 1; every other exception is a defect of the program.
    """

    def __init__(self, message: str, *, remedy: str = "") -> None:
        stop = "." if remedy and message[-1:] not in ".,:;?!" else ""
        super().__init__(f"{message}{stop} {remedy}".strip())
        self.message = message
        self.remedy = remedy


class Stopped(Exception):
    """A training was asked to stop, by Ctrl-C or SIGTERM, and has saved where it is: what was called goes on from there when called again.

    The command line says so and exits with status 130.
    """
