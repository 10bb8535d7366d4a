"""A file of JSON lines, one for each value, to which values are appended as they come.

A last line without a line end was being written when the process died. Such a line is removed.
"""

import os
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Generic, TypeVar

import msgspec
from msgspec import Struct

from partsong.errors import InputError
from partsong.files import append, kind_of, open_to_append, target_of, write_file

T = TypeVar("T", bound=Struct)


class Lines(Generic[T]):
    """The values of the file, in the order in which they were added.

    path: the file; created when the first value is added
    kind: type of the values
    key: returns the key of a value; without a key, all values are kept

    A later value replaces an earlier value with the same key, for example after a failed answer was tried again. `all`
    has the later value at once. The earlier line leaves the file when the file is closed. Raises `InputError` if the
    file cannot be read, or if a line is not a value of the type.
    """

    def __init__(self, path: Path, kind: type[T], key: Callable[[T], Hashable] | None = None) -> None:
        self.path, self._key = path, key
        self._values: dict[Hashable, T] = {}
        self._written = end = 0
        self._file: int | None = None
        decoder = msgspec.json.Decoder(kind)
        try:
            there = kind_of(path) != "new" and target_of(path).read_bytes()
            for line in there.splitlines(keepends=True) if there else ():
                if not line.endswith(b"\n"):
                    os.truncate(path, end)
                    break
                self._take(decoder.decode(line))
                end += len(line)
        except OSError as problem:
            raise InputError(f"{path}: cannot be read and written: {problem.strerror}") from None
        except (msgspec.DecodeError, UnicodeDecodeError) as problem:
            raise InputError(f"{path}, line {self._written + 1}: cannot be read: {problem}") from None

    @property
    def all(self) -> list[T]:
        """All values, in the order in which they were added."""
        return list(self._values.values())

    def add(self, value: T) -> None:
        """Add a value, and append its line to the file at once, so that the value outlives the process."""
        if self._file is None:
            self._file = open_to_append(self.path)
        self._take(value)
        append(self._file, self.path, msgspec.json.encode(value) + b"\n")

    def close(self) -> None:
        """Close the file, and write it anew without the values that were replaced."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        if self._written > len(self._values):
            write_file(self.path, b"".join(msgspec.json.encode(value) + b"\n" for value in self._values.values()))
            self._written = len(self._values)

    def _take(self, value: T) -> None:
        key = self._written if self._key is None else self._key(value)
        self._written += 1
        self._values.pop(key, None)
        self._values[key] = value
