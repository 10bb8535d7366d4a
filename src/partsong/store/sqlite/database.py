"""One SQLite file, written by one thread and read by another, so that the event loop never waits for the disk.

Writes that arrive while the writer is busy become its next transaction, all together, and all who wait for them are
told at the same time (group commit). A committed write outlives the process, however the process dies. A power cut may
lose the last moments (WAL, `synchronous=NORMAL`), but never leaves half a transaction.
"""

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from partsong.errors import StoreError
from partsong.store.backend import UnstorableError
from partsong.store.sqlite.schema import APPLICATION, MIGRATIONS

T = TypeVar("T")
P = TypeVar("P")
Job = Callable[[sqlite3.Connection], T]
LOCK_TIMEOUT = 5.0  # seconds to wait for another process that is writing
PAGES = 4000  # of 4 KiB, that one transaction gives back to the disk
# The faults of a job itself, such as a text that is not valid Unicode. The other jobs of its transaction still count.
_OWN_FAULTS = (ValueError, OverflowError, msgspec.MsgspecError, sqlite3.IntegrityError, sqlite3.DataError)


class Database:
    """A file that `open` opens and `close` closes, for the event loop that opened it.

    All methods raise `StoreError`, which names the file. `lock` is how many seconds another process may keep the file
    locked.
    """

    def __init__(self, path: Path, lock: float = LOCK_TIMEOUT) -> None:
        self.path, self.lock = path, lock
        self._writer = ThreadPoolExecutor(1, "partsong-store-writer")
        self._reader = ThreadPoolExecutor(1, "partsong-store-reader")
        self._packer = ThreadPoolExecutor(1, "partsong-store-packer")
        self._packing: set[asyncio.Future[Any]] = set()  # of writes whose value is being made into bytes
        self._writing: sqlite3.Connection | None = None
        self._reading: sqlite3.Connection | None = None
        self._queued: list[tuple[Job[Any], asyncio.Future[Any]]] = []
        self._batch: asyncio.Future[list[Any]] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    async def open(self) -> None:
        """Open the file, or make a new one, and bring its schema up to date."""
        self._loop = asyncio.get_running_loop()
        self._writing = await self._in(self._writer, self._open)

    def write(self, job: Job[T]) -> "asyncio.Future[T]":
        """Queue `job` for the writer's next transaction. The future has the job's result once that is committed.

        A job may run twice: if another job of its transaction fails, the transaction is repeated job by job.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        if (unusable := self._unusable()) is not None:
            future.set_exception(unusable)
            return future
        self._queued.append((job, future))
        if self._batch is None:
            self._start()
        return future

    def write_packed(self, pack: Callable[[], P], job: Callable[[sqlite3.Connection, P], T]) -> "asyncio.Future[T]":
        """Queue `job` with the result of `pack`, which a thread of its own works out meanwhile.

        So a value of many megabytes, which takes a second to deflate, does not hold up the writes of others. Jobs that
        are queued in this way keep their order.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        if (unusable := self._unusable()) is not None:
            future.set_exception(unusable)
            return future
        self._packing.add(future)
        packing = asyncio.get_running_loop().run_in_executor(self._packer, pack)
        packing.add_done_callback(partial(self._packed, job, future))
        return future

    def is_packing(self, written: "asyncio.Future[Any]") -> bool:
        """Whether a write still waits for its bytes to be made."""
        return written in self._packing

    def _packed(
        self, job: Callable[[sqlite3.Connection, P], T], future: "asyncio.Future[T]", packing: "asyncio.Future[P]"
    ) -> None:
        self._packing.discard(future)
        fault = packing.exception()
        if fault is None:
            packed = packing.result()
            self._queued.append((lambda connection: job(connection, packed), future))
            if self._batch is None:
                self._start()
        elif not future.done():
            own = isinstance(fault, _OWN_FAULTS)
            future.set_exception(UnstorableError(f"{self.path}: this cannot be stored: {fault}") if own else fault)

    async def read(self, job: Job[T]) -> T:
        """The result of `job`, which the reader's thread does."""
        if (unusable := self._unusable()) is not None:
            raise unusable
        return await self._in(self._reader, lambda: job(self._open_reading()))

    async def shrink(self) -> None:
        """Move everything from the log into the file and cut both down to what they need."""
        if (unusable := self._unusable()) is not None:
            raise unusable
        await self._in(self._writer, lambda: self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())

    async def free_pages(self) -> None:
        """Take the free pages out of the file, some at a time, so that other processes may write in between."""
        while await self.write(_free_some_pages):
            pass

    def size(self) -> int:
        """Bytes on the disk: the file and its log."""
        files = (self.path, self.path.with_name(self.path.name + "-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    async def close(self) -> None:
        """Finish the queued writes and close the file."""
        try:
            if self._loop is asyncio.get_running_loop():
                await asyncio.sleep(0)  # a caller whose write was just committed may write once more
                while self._batch is not None or self._packing:
                    await (asyncio.sleep(0.01) if self._batch is None else asyncio.wait([self._batch]))
                    await asyncio.sleep(0)
        finally:
            self._closed = True
            # A connection is closed in its thread, after the jobs that are still waiting there.
            self._packer.shutdown(wait=False)
            for thread, close in ((self._reader, self._close_reading), (self._writer, self._close_writing)):
                await self._in(thread, close)
                thread.shutdown(wait=False)

    def _unusable(self) -> StoreError | None:
        """Why the database cannot be used: it is closed, or another event loop opened it; `None` if it can be used."""
        if self._closed:
            return StoreError(f"{self.path}: the store is closed")
        if self._loop is not asyncio.get_running_loop():
            # Whoever waits for the threads would wait forever: they answer to the loop in which the store was opened.
            return StoreError(f"{self.path}: the store was opened in another event loop; open it in this one")
        if self._writing is None:
            return StoreError(f"{self.path}: the store is not open")
        return None

    @property
    def _connection(self) -> sqlite3.Connection:
        assert self._writing is not None, "the store is not open"
        return self._writing

    def _open_reading(self) -> sqlite3.Connection:
        if self._reading is None:
            self._reading = sqlite3.connect(self.path, timeout=self.lock, check_same_thread=False)
            self._reading.execute("PRAGMA query_only = ON")
        return self._reading

    def _close_reading(self) -> None:
        if self._reading is not None:
            self._reading.close()

    def _close_writing(self) -> None:
        if self._writing is not None:
            self._writing.close()

    async def _in(self, thread: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(thread, work)
        except sqlite3.Error as problem:
            raise explained(problem, self.path) from problem

    def _start(self) -> None:
        batch, self._queued = self._queued, []
        loop = asyncio.get_running_loop()
        self._batch = loop.run_in_executor(self._writer, self._perform, [job for job, _ in batch])
        self._batch.add_done_callback(lambda done: self._finished(batch, done))

    def _finished(
        self, batch: Sequence[tuple[Job[Any], asyncio.Future[Any]]], done: "asyncio.Future[list[Any]]"
    ) -> None:
        self._batch = None
        if self._queued:
            self._start()
        fault = done.exception()
        for (_, future), outcome in zip(batch, [fault] * len(batch) if fault else done.result(), strict=True):
            if future.done():
                continue  # its caller has left
            if isinstance(outcome, BaseException):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

    def _perform(self, jobs: Sequence[Job[Any]]) -> list[Any]:
        """The outcome of each job: its result, or a `StoreError`."""
        try:
            return self._commit(jobs)
        except _OWN_FAULTS as problem:
            if len(jobs) > 1:
                return [outcome for job in jobs for outcome in self._perform([job])]
            return [UnstorableError(f"{self.path}: this cannot be stored: {problem}")]
        except sqlite3.Error as problem:
            return [explained(problem, self.path)] * len(jobs)

    def _commit(self, jobs: Sequence[Job[Any]]) -> list[Any]:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            outcomes = [job(connection) for job in jobs]
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                with suppress(sqlite3.Error):  # the first fault is the one to report
                    connection.execute("ROLLBACK")
        return outcomes

    def _open(self) -> sqlite3.Connection:
        _make(self.path)
        connection = sqlite3.connect(
            self.path, timeout=self.lock, isolation_level=None, check_same_thread=False, cached_statements=64
        )
        try:
            _configure(connection, self.lock, new=_check(connection, self.path) == 0)
            _migrate(connection, self.path)
        except BaseException:
            connection.close()
            raise
        return connection


def _make(path: Path) -> None:
    """Make the file and the folders above it, for this user alone."""
    try:
        for folder in reversed(path.parents):
            if not folder.exists():
                folder.mkdir(mode=0o700, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as problem:
        raise StoreError(
            f"{path}: the store cannot be opened for writing: {problem.strerror}; "
            "allow it, choose another file, or turn the store off"
        ) from None


def _check(connection: sqlite3.Connection, path: Path) -> int:
    """The version of the file's schema; 0 for a new file. Raises `StoreError` for a file that is not our own."""
    # Another process may make the file's first tables, and sign the file, between any two of these statements. So the
    # tables are looked for first: tables of our own that are seen here have been signed.
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    found: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if tables and application != APPLICATION:
        raise StoreError(f"{path}: is another program's database; choose another file")
    if found > len(MIGRATIONS):
        raise StoreError(
            f"{path}: was written by a newer partsong (its schema is {found}, this one knows {len(MIGRATIONS)}); "
            "use that one, or another file"
        )
    return found


def _configure(connection: sqlite3.Connection, lock: float, *, new: bool) -> None:
    if new:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # has no effect after the first table
    give_up = time.monotonic() + lock
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            break
        except sqlite3.OperationalError as problem:
            # Another process is opening a new file as well. SQLite itself does not wait for that.
            if not problem.sqlite_errorname.startswith("SQLITE_BUSY") or time.monotonic() > give_up:
                raise
            time.sleep(0.02)
    connection.execute("PRAGMA synchronous = NORMAL")


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring the schema up to date, each migration in a transaction of its own."""
    while _check(connection, path) < len(MIGRATIONS):
        connection.execute("BEGIN IMMEDIATE")
        try:
            if (version := _check(connection, path)) < len(MIGRATIONS):  # another process may have been faster
                for statement in MIGRATIONS[version]:
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {version + 1}")
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")


def explained(problem: sqlite3.Error, path: Path) -> StoreError:
    """The error that says what happened to the file and what the user can do about it."""
    name = getattr(problem, "sqlite_errorname", None) or ""
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return StoreError(f"{path}: another process keeps the store locked; end it, or choose another file")
    if name == "SQLITE_FULL":
        return StoreError(f"{path}: there is no room left for the store; free some, or turn the store off")
    if name in ("SQLITE_NOTADB", "SQLITE_FORMAT") or name.startswith("SQLITE_CORRUPT"):
        return StoreError(f"{path}: the store is damaged ({problem}); move the file away, and a new one is made")
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH")):
        return StoreError(
            f"{path}: the store cannot be written ({problem}); allow it, choose another file, or turn the store off"
        )
    return StoreError(f"{path}: the store failed ({problem}); choose another file, or turn the store off")


def _free_some_pages(connection: sqlite3.Connection) -> int:
    """Give some free pages of the file back to the disk, and return how many free pages are left."""
    connection.execute(f"PRAGMA incremental_vacuum({PAGES})").fetchall()
    left: int = connection.execute("PRAGMA freelist_count").fetchone()[0]
    return left
