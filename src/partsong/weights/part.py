"""A partial download: the bytes that have arrived are in `NAME.part`, and `NAME.part.json` says how to resume.

The hash is computed while the bytes are written. Errors of the disk become a `WeightsError` here, whose message names
the folder and its free space. Any other error during a download is therefore an error of the source.
"""

import asyncio
import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import msgspec
from msgspec import Struct

from partsong.errors import WeightsError

STEP = 1 << 24  # bytes that are hashed at a time; a cancellation takes effect between two steps
ELSEWHERE = "set PARTSONG_CACHE to a folder that"

Free = Callable[[Path], int]


class SourceError(Exception):
    """Raised if a source cannot be reached, or does not have the right file. The next source is then tried."""


class Notes(Struct, frozen=True, omit_defaults=True):
    """How to resume a download; the content of `NAME.part.json`.

    source: identifies the source: repository, revision and file on the hub, or the list of wheels
    done: bytes of `NAME.part` that are valid; `None` (default) for all of them
    etag: ETag of the file on the hub when the download began; "" for none
    wheels: number of wheels whose parts have been appended; 0 by default
    """

    source: str
    done: int | None = None
    etag: str = ""
    wheels: int = 0


class Part:
    """The bytes of a file that have arrived.

    target: path of the file when it is complete
    path: path of the partial file
    done: bytes that were written and hashed
    """

    def __init__(self, target: Path, free: Free | None = None) -> None:
        """Prepare; nothing is written. `free`: returns the free bytes of a folder; by default the disk's free space."""
        self.target = target
        self.path = target.with_name(target.name + ".part")
        self._notes = target.with_name(target.name + ".part.json")
        self._free = free or free_bytes
        self._hash = hashlib.sha256()
        self._file: IO[bytes] | None = None
        self.done = 0

    @property
    def sha256(self) -> str:
        """The SHA-256 of the first `done` bytes, in hexadecimal digits."""
        return self._hash.hexdigest()

    @property
    def is_open(self) -> bool:
        return self._file is not None

    def arrived(self) -> int:
        """Return the size of the partial file in bytes; 0 if there is none. The bytes may be of any source."""
        try:
            if self._file is not None:
                self._file.flush()
            return self.path.stat().st_size
        except OSError:
            return 0

    def head(self, size: int) -> bytes:
        """Return the first `size` bytes of the partial file, which must be open."""
        assert self._file is not None
        self._file.flush()
        with self.path.open("rb") as file:
            return file.read(size)

    def notes(self, source: str) -> Notes | None:
        """Return how to resume a download from `source` (see `Notes.source`); `None` if nothing of it has arrived."""
        try:
            notes = msgspec.json.decode(self._notes.read_bytes(), type=Notes)
        except (OSError, msgspec.MsgspecError):
            return None
        return notes if notes.source == source and self.arrived() >= (notes.done or 0) else None

    async def begin(self, notes: Notes, at: int = 0) -> None:
        """Open the partial file for writing after its first `at` bytes (0 by default), and write the notes.

        The first `at` bytes are read for the hash, and all later bytes are cut off. Raises `WeightsError` if the disk
        fails.
        """
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
        """Append bytes. Raises `WeightsError` if the disk is full or fails."""
        assert self._file is not None
        try:
            self._file.write(data)
        except OSError as fault:
            raise self.trouble(fault, len(data)) from None
        self._hash.update(data)
        self.done += len(data)

    def note(self, notes: Notes) -> None:
        """Flush the bytes that have arrived, and then write the notes. Raises `WeightsError` if the disk fails."""
        try:
            if self._file is not None:
                self._file.flush()
            self._notes.write_bytes(msgspec.json.encode(notes))
        except OSError as fault:
            raise self.trouble(fault) from None

    def make_room(self, needed: int) -> None:
        """Raise `WeightsError` if the folder has less than `needed` bytes of free space."""
        folder = self.path.parent
        if (free := self._free(folder)) < needed:
            raise WeightsError(
                f"{self.target.name}: {in_words(needed)} are needed in {folder}, but only {in_words(free)} are free;"
                f" make room, or {ELSEWHERE} has it"
            )

    def trouble(self, fault: OSError, needed: int = 1) -> WeightsError:
        """Return the `WeightsError` that explains an error of the disk to the user."""
        if fault.errno in (errno.ENOSPC, errno.EDQUOT):
            free = in_words(self._free(self.path.parent))
            return WeightsError(
                f"{self.target.name}: the disk is full: {in_words(self.done)} have arrived in {self.path.parent}, and"
                f" {free} are free; make room and start again, which goes on from there, or {ELSEWHERE} has room"
            )
        return unwritable(self.path.parent, fault)

    def complete(self) -> None:
        """Rename the partial file, which must be complete, to `target`, and delete the notes."""
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
        """Delete the partial file and the notes."""
        self.close()
        self.path.unlink(missing_ok=True)
        self._notes.unlink(missing_ok=True)

    def close(self) -> None:
        if self._file is not None:
            with suppress(OSError):  # a full disk was reported before
                self._file.close()
            self._file = None


async def finish(work: Coroutine[Any, Any, None]) -> None:
    """Wait until `work`, which runs in a thread, has ended, even if this task is cancelled.

    The thread cannot be stopped, and uses the partial file.
    """
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    finally:
        await asyncio.wait([task])


def free_bytes(folder: Path) -> int:
    """Return the bytes that this user may still write into a folder."""
    return shutil.disk_usage(folder).free


def unwritable(folder: Path, fault: OSError) -> WeightsError:
    """Return the error for a folder that cannot be written to. `fault`: the reason."""
    return WeightsError(f"{folder} cannot be written to ({fault.strerror}); {ELSEWHERE} can")


def in_words(size: int) -> str:
    """Return a number of bytes as text for people, in MB of a million bytes."""
    return f"{size / 1e6:,.1f} MB" if size < 10_000_000 else f"{size / 1e6:,.0f} MB"


def _hash_some(file: IO[bytes], digest: "hashlib._Hash", most: int) -> int:
    data = file.read(min(most, STEP))
    if not data:
        raise OSError(errno.EIO, "the file is shorter than it was")
    digest.update(data)
    return len(data)
