"""Writes plain output, flushed after each write, and defines the error for output that cannot be written.

A closed pipe (`partsong ask … | head -1`) and a full disk end the run. `ReaderLeft` is raised instead of an `OSError`,
because a provider in the middle of a call would take an `OSError` for a fault of its connection.
"""

from typing import IO, AnyStr, Generic


class ReaderLeft(Exception):
    """The output cannot be written any more. `__cause__` is the `OSError` with the reason."""


class Output(Generic[AnyStr]):
    """A file that is flushed after each write. `write` raises `ReaderLeft` if the file cannot be written."""

    def __init__(self, file: IO[AnyStr]) -> None:
        self.file: IO[AnyStr] = file

    def write(self, text: AnyStr) -> None:
        try:
            self.file.write(text)
            self.file.flush()
        except OSError as problem:
            raise ReaderLeft from problem
