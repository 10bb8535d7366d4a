"""A study on disk: outputs and grades line by line, and a manifest that says what study it is.

A line counts once it is whole, whatever ended the process while it was written. A folder belongs to one study: whoever
comes with another one is told what differs, and nothing is touched.
"""

import os
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Struct

from partsong.bench.task import Grade, Output
from partsong.errors import InputError

T = TypeVar("T", bound=Struct)
FREE = ("versions", "max_dollars")  # of a manifest: may change from one start to the next


class Lines(Generic[T]):
    """A file with a value a line, in the order in which they came. `all` are those that are there."""

    def __init__(self, path: Path, kind: type[T]) -> None:
        self.path = path
        self.all: list[T] = []
        decoder = msgspec.json.Decoder(kind)
        end = 0
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            for line in path.read_bytes().splitlines(keepends=True):
                if not line.endswith(b"\n"):
                    break
                self.all.append(decoder.decode(line))
                end += len(line)
            os.ftruncate(self._file, end)
        except OSError as problem:
            raise InputError(f"{path}: cannot be written: {problem.strerror}") from None
        except (msgspec.DecodeError, UnicodeDecodeError) as problem:
            os.close(self._file)
            raise InputError(f"{path}, line {len(self.all) + 1}: cannot be read: {problem}") from None

    def add(self, value: T) -> None:
        """Write a value down. Once this returns, it outlives the process."""
        self.all.append(value)
        line = msgspec.json.encode(value) + b"\n"
        while line:
            line = line[os.write(self._file, line) :]

    def close(self) -> None:
        os.close(self._file)


class Folder:
    """The files of a study, open. Raises `InputError` where the folder has another one, or cannot be written."""

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._claim(manifest)
        except OSError as problem:
            raise InputError(f"{path}: cannot be written: {problem.strerror}") from None
        self.outputs = Lines(path / "outputs.jsonl", Output)
        try:
            self.grades = Lines(path / "grades.jsonl", Grade)
        except InputError:
            self.outputs.close()
            raise

    def _claim(self, manifest: dict[str, Any]) -> None:
        file = self.path / "manifest.json"
        if not file.exists():
            if any(self.path.iterdir()):
                raise InputError(f"{self.path}: has files of something else; name a new folder with --out")
            whole = self.path / "manifest.json.whole"
            whole.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
            whole.replace(file)
            return
        try:
            there = msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError) as problem:
            raise InputError(f"{file}: cannot be read: {problem}") from None
        asked = msgspec.json.decode(msgspec.json.encode(manifest))
        differing = sorted(
            field for field in {*there, *asked} if field not in FREE and there.get(field) != asked.get(field)
        )
        if differing:
            raise InputError(
                f"{self.path}: is the folder of another study, which differs in {', '.join(differing)}; "
                "name another folder with --out"
            )

    def close(self) -> None:
        self.outputs.close()
        self.grades.close()
