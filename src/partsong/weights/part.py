"""A file that is being fetched: its bytes are in `NAME.part`, and a note beside it says how to resume.

The hash is computed while the bytes are written. Faults of the disk become a `WeightsError` here, with the folder and
the missing room in its message. Any other fault while bytes arrive is therefore the fault of the source.
"""

import asyncio
import errno
import hashlib
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

import msgspec
from msgspec import Struct

from partsong.errors import WeightsError

STEP = 1 << 24  # bytes that are hashed at a time, between which a cancellation is noticed
ELSEWHERE = "set PARTSONG_CACHE to a folder that"

Free = Callable[[Path], int]


class SourceError(Exception):
    """A source does not have the file, or cannot be reached. Another source may have it."""


class Notes(Struct, frozen=True, omit_defaults=True):
    """How to resume a download.

    source: the source, and the version or parts that are asked of it
    done: bytes that have arrived; `None` for all bytes of the part
    etag: the hub's mark of the version that was begun
    wheels: wheels that have been joined to the part
    """

    source: str
    done: int | None = None
    etag: str = ""
    wheels: int = 0


class Part:
    """The bytes of `target` that have arrived: `done` bytes with the hash `sha256`."""

    def __init__(self, target: Path, free: Free | None = None) -> None:
        self.target = target
        self.path = target.with_name(target.name + ".part")
        self._notes = target.with_name(target.name + ".part.json")
        self._free = free or free_bytes
        self._hash = hashlib.sha256()
        self._file: IO[bytes] | None = None
        self.done = 0

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    @property
    def is_open(self) -> bool:
        return self._file is not None

    def arrived(self) -> int:
        """How many bytes are in the file, from any source."""
        try:
            if self._file is not None:
                self._file.flush()
            return self.path.stat().st_size
        except OSError:
            return 0

    def head(self, size: int) -> bytes:
        """The first bytes."""
        assert self._file is not None
        self._file.flush()
        with self.path.open("rb") as file:
            return file.read(size)

    def notes(self, source: str) -> Notes | None:
        """How to resume with this source; `None` if nothing of this source has arrived."""
        try:
            notes = msgspec.json.decode(self._notes.read_bytes(), type=Notes)
        except (OSError, msgspec.MsgspecError):
            return None
        return notes if notes.source == source and self.arrived() >= (notes.done or 0) else None

    async def begin(self, notes: Notes, at: int = 0) -> None:
        """Open the file to write after its first `at` bytes, which are read once for the hash."""
        self.close()
        self._hash, self.done = hashlib.sha256(), 0
        try:
            self._file = self.path.open("r+b" if at else "w+b")
            while self.done < at:
                self.done += await asyncio.to_thread(_hash_some, self._file, self._hash, at - self.done)
            self._file.seek(at)
            self._file.truncate()
            self.note(notes)
        except OSError as fault:
            raise self.trouble(fault) from None

    def write(self, data: bytes) -> None:
        assert self._file is not None
        try:
            self._file.write(data)
        except OSError as fault:
            raise self.trouble(fault, len(data)) from None
        self._hash.update(data)
        self.done += len(data)

    def note(self, notes: Notes) -> None:
        """Write the bytes that have arrived to the disk, and then the note how to resume."""
        try:
            if self._file is not None:
                self._file.flush()
            self._notes.write_bytes(msgspec.json.encode(notes))
        except OSError as fault:
            raise self.trouble(fault) from None

    def make_room(self, needed: int) -> None:
        """Raise `WeightsError` if there is not enough room for that many more bytes."""
        folder = self.path.parent
        if (free := self._free(folder)) < needed:
            raise WeightsError(
                f"{self.target.name}: {in_words(needed)} are needed in {folder}, but only {in_words(free)} are free;"
                f" make room, or {ELSEWHERE} has it"
            )

    def trouble(self, fault: OSError, needed: int = 1) -> WeightsError:
        """The error that tells the user what a fault of the disk means."""
        if fault.errno in (errno.ENOSPC, errno.EDQUOT):
            free = in_words(self._free(self.path.parent))
            return WeightsError(
                f"{self.target.name}: the disk is full: {in_words(self.done)} have arrived in {self.path.parent}, and"
                f" {free} are free; make room and start again, which goes on from there, or {ELSEWHERE} has room"
            )
        return unwritable(self.path.parent, fault)

    def complete(self) -> None:
        """Rename the whole file to `target`."""
        assert self._file is not None
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self.close()
            os.replace(self.path, self.target)
        except OSError as fault:
            raise self.trouble(fault) from None
        self._notes.unlink(missing_ok=True)

    def discard(self) -> None:
        """Delete the bytes that have arrived, and the note."""
        self.close()
        self.path.unlink(missing_ok=True)
        self._notes.unlink(missing_ok=True)

    def close(self) -> None:
        if self._file is not None:
            with suppress(OSError):  # a full disk was reported before
                self._file.close()
            self._file = None


def free_bytes(folder: Path) -> int:
    """How many bytes this user may still write into a folder."""
    return shutil.disk_usage(folder).free


def unwritable(folder: Path, fault: OSError) -> WeightsError:
    return WeightsError(f"{folder} cannot be written to ({fault.strerror}); {ELSEWHERE} can")


def in_words(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size < 10_000_000 else f"{size / 1e6:,.0f} MB"


def _hash_some(file: IO[bytes], digest: "hashlib._Hash", most: int) -> int:
    data = file.read(min(most, STEP))
    if not data:
        raise OSError(errno.EIO, "the file is shorter than it was")
    digest.update(data)
    return len(data)
