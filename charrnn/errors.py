"""What can go wrong through no fault of the program: each error is one line and an exit code.

The line says where, what is wrong and what to do next. Everything else that is raised is a bug (exit code 1).
"""

from __future__ import annotations

from typing import ClassVar


def one_line(message: str) -> str:
    """The message on one line: the name of a file may have line ends in it.

    >>> one_line("a\\nb: no such file")
    'a␊b: no such file'
    """
    return message.replace("\n", "␊").replace("\r", "␍")


class CharRNNError(Exception):
    """Base of all errors a user can cause; ``exit_code`` is what the command line returns."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class UsageError(CharRNNError):
    """An option or a combination of options that cannot be meant."""

    exit_code = 2


class TextError(CharRNNError):
    """A source, a text or a prepared corpus that cannot be used."""

    exit_code = 3


class CheckpointError(CharRNNError):
    """A checkpoint or run that is missing, damaged or does not fit."""

    exit_code = 4


class DivergedError(CharRNNError):
    """Training left the finite numbers, or forgot what it had learnt; ``reason`` is what was seen."""

    exit_code = 5

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class ResourceError(CharRNNError):
    """Out of disk, memory or device."""

    exit_code = 6


class Stopped(CharRNNError):
    """Stopped by SIGTERM (75) or Ctrl-C (130) after saving; the code is the instance's."""

    TERMINATED: ClassVar[int] = 75
    INTERRUPTED: ClassVar[int] = 130

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]
