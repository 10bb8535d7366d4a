"""Where printed words go when it is not a terminal that is drawn on, and what happens when nobody reads them.

A reader who has left (`partsong ask … | head -1`) ends the run, and so does a full disk. That is an exception of its
own and not an `OSError`, which a model that is writing at that moment would take for a fault of its connection.
"""

from typing import IO, AnyStr, Generic


class ReaderLeft(Exception):
    """What is printed cannot be written any more; the cause is the `OSError` that says why."""


class Output(Generic[AnyStr]):
    """A file that is flushed after each write. Raises `ReaderLeft` once nobody reads it."""

    def __init__(self, file: IO[AnyStr]) -> None:
        self.file: IO[AnyStr] = file

    def write(self, text: AnyStr) -> None:
        try:
            self.file.write(text)
            self.file.flush()
        except OSError as problem:
            raise ReaderLeft from problem
