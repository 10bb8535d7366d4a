"""A PostgreSQL database, written by one thread and read by another, each with one connection.

Writes that arrive while the writer is busy become its next transaction, all together, and all who wait for them are
told at the same time (group commit). Nothing needs a session: no prepared statement, no setting of the session, no lock
of the session, and no LISTEN. So a pooler may give each transaction another connection.

A connection that broke is made anew, once for each transaction. If it broke while the transaction was committed, the
database is asked whether the commit was made, so that nothing counts twice.
"""

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

import msgspec
import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict

from partsong.addresses import shown, without_secrets
from partsong.errors import StoreError
from partsong.store.backend import UnstorableError
from partsong.store.postgres import locks
from partsong.store.postgres.schema import LEAST, MIGRATIONS, OLDEST, SCHEMA
from partsong.store.postgres.transaction import Row, Transaction

T = TypeVar("T")
Job = Callable[[Transaction], T]
LOCK_TIMEOUT = 5.0  # seconds to wait for a lock that another transaction holds
STATEMENT_TIMEOUT = 30.0  # seconds for one statement
IDLE_TIMEOUT = 10.0  # seconds for which a transaction may ask nothing: its process is stopped, and holds locks
TOGETHER = 500  # most writes of one transaction, so that no other one waits long for its locks
ATTEMPTS = 8  # at a transaction that the database ends because of another one
DOUBT = 5.0  # seconds to wait until the database knows whether a commit was made whose connection broke
# What libpq does unless the address says otherwise: a host that vanished is noticed within about 20 seconds.
DEFAULTS = {
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "3",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
    "application_name": "partsong",
}
# The faults of a job itself, such as a number that no column holds. The other jobs of its transaction still count.
_OWN_FAULTS = (ValueError, OverflowError, msgspec.MsgspecError, psycopg.DataError, psycopg.IntegrityError)
_ENDED_FOR_ANOTHER = (errors.SerializationFailure, errors.DeadlockDetected)


class _Write(NamedTuple):
    job: Job[Any]
    locks: tuple[locks.Lock, ...]
    future: "asyncio.Future[Any]"


class Database:
    """A database that `open` opens and `close` closes, for the event loop that opened it.

    All methods raise `StoreError`, which names the database without its password.

    address: the address of the database
    lock: seconds to wait for a lock that another transaction holds
    """

    def __init__(self, address: str, lock: float = LOCK_TIMEOUT) -> None:
        self.shown = shown(address)
        self._address = address
        self._writer, self._reader = _Line(address, lock, "writer"), _Line(address, lock, "reader")
        self._queued: list[_Write] = []
        self._batch: asyncio.Future[list[Any]] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opened = self._closed = False

    async def open(self) -> None:
        """Connect, and bring the schema up to date."""
        self._loop = asyncio.get_running_loop()
        await self._in(self._writer, self._writer.migrate)
        self._opened = True

    def write(self, job: Job[T], *wanted: locks.Lock) -> "asyncio.Future[T]":
        """Queue `job` for the writer's next transaction. The future has the job's result once that is committed.

        wanted: locks under which the job is done

        A job may run twice: if its transaction is ended for another one, or if another job of it fails.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        if (unusable := self._unusable()) is not None:
            future.set_exception(unusable)
            return future
        self._queued.append(_Write(job, wanted, future))
        if self._batch is None:
            self._start()
        return future

    async def read(self, job: Job[T]) -> T:
        """The result of `job`, which the reader's thread does."""
        if (unusable := self._unusable()) is not None:
            raise unusable
        return await self._in(self._reader, lambda: self._reader.read(job))

    async def vacuum(self, tables: Sequence[str]) -> None:
        """Let the database use the room of deleted rows again, and give back to the disk what it can."""
        if (unusable := self._unusable()) is not None:
            raise unusable
        await self._in(self._reader, lambda: self._reader.vacuum(tables))

    async def close(self) -> None:
        """Finish the queued writes and close the connections."""
        try:
            if self._loop is asyncio.get_running_loop():
                await asyncio.sleep(0)  # a caller whose write was just committed may write once more
                while self._batch is not None:
                    await asyncio.wait([self._batch])
                    await asyncio.sleep(0)
        finally:
            self._closed = True
            for line in (self._reader, self._writer):
                await self._in(line, line.close)
                line.thread.shutdown(wait=False)

    def _unusable(self) -> StoreError | None:
        """Why the database cannot be used: it is closed, or another event loop opened it; `None` if it can be used."""
        if self._closed:
            return StoreError(f"{self.shown}: the store is closed")
        if self._loop is not asyncio.get_running_loop():
            # Whoever waits for the threads would wait forever: they answer to the loop in which the store was opened.
            return StoreError(f"{self.shown}: the store was opened in another event loop; open it in this one")
        if not self._opened:
            return StoreError(f"{self.shown}: the store is not open")
        return None

    async def _in(self, line: "_Line", work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(line.thread, work)
        except psycopg.Error as problem:
            # Without the error itself, whose text may hold a part of the address.
            raise explained(problem, self._address) from None

    def _start(self) -> None:
        batch, self._queued = self._queued[:TOGETHER], self._queued[TOGETHER:]
        self._batch = asyncio.get_running_loop().run_in_executor(self._writer.thread, self._perform, batch)
        self._batch.add_done_callback(lambda done: self._finished(batch, done))

    def _finished(self, batch: Sequence[_Write], done: "asyncio.Future[list[Any]]") -> None:
        """Tell everybody whose write was in the batch, and begin the next one. Runs in the event loop."""
        self._batch = None
        if self._queued:
            self._start()
        fault = done.exception()
        for write, outcome in zip(batch, [fault] * len(batch) if fault else done.result(), strict=True):
            if write.future.done():
                continue  # its caller has left
            if isinstance(outcome, BaseException):
                write.future.set_exception(outcome)
            else:
                write.future.set_result(outcome)

    def _perform(self, batch: Sequence[_Write]) -> list[Any]:
        """The outcome of each write: its result, or a `StoreError`. Half a batch at a time if one write is at fault."""
        try:
            return self._writer.commit(
                [write.job for write in batch], [lock for write in batch for lock in write.locks]
            )
        except _OWN_FAULTS as problem:
            if len(batch) == 1:
                return [UnstorableError(f"{self.shown}: this cannot be stored: {problem}")]
            middle = len(batch) // 2
            return self._perform(batch[:middle]) + self._perform(batch[middle:])
        except psycopg.Error as problem:
            return [explained(problem, self._address)] * len(batch)


class _BrokenError(Exception):
    """The connection broke before its transaction was committed, because of `problem`."""

    def __init__(self, problem: psycopg.Error) -> None:
        super().__init__(str(problem))
        self.problem = problem


class _Line:
    """A thread, and the connection that it alone uses."""

    def __init__(self, address: str, lock: float, name: str) -> None:
        self.thread = ThreadPoolExecutor(1, f"partsong-store-{name}")
        self._address = address
        self._connection: psycopg.Connection[Row] | None = None
        self._begin = (
            f"BEGIN; SET LOCAL search_path = {SCHEMA}; SET LOCAL lock_timeout = {int(lock * 1000)}; "
            f"SET LOCAL statement_timeout = {int(STATEMENT_TIMEOUT * 1000)}; "
            f"SET LOCAL idle_in_transaction_session_timeout = {int(IDLE_TIMEOUT * 1000)}"
        )

    def commit(self, jobs: Sequence[Job[Any]], wanted: Iterable[locks.Lock] = ()) -> list[Any]:
        """Do the jobs in one transaction, and return their results."""
        wanted = list(wanted)
        reconnected = False
        for attempt in range(ATTEMPTS):
            try:
                return self._attempt(jobs, wanted)
            except _ENDED_FOR_ANOTHER:
                if attempt == ATTEMPTS - 1:
                    raise
                time.sleep(random.uniform(0, 0.01 * 2**attempt))
            except _BrokenError as broken:
                # A connection may have been idle while the database was started again, or a pooler closed it.
                if reconnected:
                    raise broken.problem from None
                reconnected = True
        raise AssertionError("an attempt returns or raises")

    def read(self, job: Job[T]) -> T:
        """Do one job that writes nothing."""
        try:
            return self._look(job)
        except _BrokenError:
            try:
                return self._look(job)
            except _BrokenError as broken:
                raise broken.problem from None

    def vacuum(self, tables: Sequence[str]) -> None:
        """Let the database use the room of deleted rows again."""
        self._connected().execute(f"VACUUM {', '.join(f'{SCHEMA}.{table}' for table in tables)}".encode())

    def migrate(self) -> None:
        """Bring the schema up to date. Raises `StoreError` if this program cannot use it."""
        connection = self._connected()
        if connection.info.server_version < OLDEST * 10_000:
            found = connection.info.server_version // 10_000
            raise StoreError(f"{shown(self._address)}: is PostgreSQL {found}, but {OLDEST} or newer is needed")
        version, least = self._version()
        if version == 0:
            self.commit([_make], [locks.MIGRATION])
            version, least = self._version()
        if least > len(MIGRATIONS):
            raise StoreError(
                f"{shown(self._address)}: was made by a newer partsong (its schema is {version} and needs a program "
                f"that knows {least}, this one knows {len(MIGRATIONS)}); use that one, or another database"
            )
        while version < len(MIGRATIONS):
            self.commit([_migrate_once], [locks.MIGRATION])
            version, _ = self._version()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _version(self) -> tuple[int, int]:
        return self.read(_version_of)

    def _attempt(self, jobs: Sequence[Job[Any]], wanted: Sequence[locks.Lock]) -> list[Any]:
        transaction, number = self._opened(f"{self._begin}; SELECT pg_current_xact_id()::text")
        outcomes: list[Any] | None = None
        try:
            # In a pipeline the jobs wait for the database only where they need an answer.
            with transaction.connection.pipeline():
                locks.take(transaction, wanted)
                done = [job(transaction) for job in jobs]
                transaction.finish()
            outcomes = done
            transaction.execute("COMMIT")
        except psycopg.OperationalError as problem:
            if not transaction.connection.closed:
                raise
            if outcomes is None or not self._was_committed(number):
                raise _BrokenError(problem) from None
        finally:
            self._end(transaction)
        assert outcomes is not None, "jobs that are committed have results"
        return outcomes

    def _look(self, job: Job[T]) -> T:
        transaction, _ = self._opened(f"{self._begin}; SET TRANSACTION READ ONLY")
        try:
            return job(transaction)
        except psycopg.OperationalError as problem:
            if transaction.connection.closed:
                raise _BrokenError(problem) from None
            raise
        finally:
            self._end(transaction)

    def _was_committed(self, number: str) -> bool:
        """Whether the transaction with this number was committed although its connection broke.

        Raises `psycopg.OperationalError` if the database cannot be asked.
        """
        give_up = time.monotonic() + DOUBT
        while True:
            cursor = self._connected().execute(b"SELECT pg_xact_status(%s::xid8)", (number,))
            found = cursor.fetchone()
            if found is None or found[0] != "in progress" or time.monotonic() > give_up:
                return found is not None and found[0] == "committed"
            time.sleep(0.05)

    def _opened(self, begin: str) -> tuple[Transaction, str]:
        """A new transaction, and the first value of the last statement in `begin`."""
        transaction = Transaction(self._connected())
        try:
            cursor = transaction.execute(begin)
            while cursor.nextset():
                pass
            found = cursor.fetchone() if cursor.description is not None else None
        except psycopg.Error as problem:
            self._end(transaction)
            if transaction.connection.closed:
                raise _BrokenError(problem) from None
            raise
        return transaction, "" if found is None else str(found[0])

    def _end(self, transaction: Transaction) -> None:
        """Roll back what is not committed."""
        connection = transaction.connection
        if not connection.closed and connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            with suppress(psycopg.Error):  # the first fault is the one to report
                connection.execute(b"ROLLBACK")

    def _connected(self) -> "psycopg.Connection[Row]":
        if self._connection is None or self._connection.closed:
            parameters: dict[str, Any] = {**DEFAULTS, **conninfo_to_dict(self._address)}
            # Behind a pooler a statement that is prepared in one transaction is unknown in the next.
            self._connection = psycopg.connect(**parameters, autocommit=True, prepare_threshold=None)
        return self._connection


def _version_of(transaction: Transaction) -> tuple[int, int]:
    """The number of migrations that were made, and the least number that a program must know; 0 in a new database."""
    # Not `to_regclass`: it may answer from a cache that is older than the lock under which this is asked.
    query = (
        "SELECT has_schema_privilege(pg_namespace.oid, 'USAGE') FROM pg_class "
        "JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE nspname = %s AND relname = 'version'"
    )
    if (found := transaction.row(query, (SCHEMA,))) is None:
        return 0, 0
    if not found[0]:  # the database would only say that there is no such table
        raise errors.InsufficientPrivilege(f"permission denied for schema {SCHEMA}")
    row = transaction.row("SELECT number, least FROM version")
    return (0, 0) if row is None else (row[0], row[1])


def _make(transaction: Transaction) -> None:
    """Make the schema and the table of its version, unless another process was faster."""
    if _version_of(transaction) == (0, 0):
        # Whoever may not make schemas in the database may be given one, so it is only made if it is missing.
        if transaction.row("SELECT 1 FROM pg_namespace WHERE nspname = %s", (SCHEMA,)) is None:
            transaction.execute(f"CREATE SCHEMA {SCHEMA}")
        transaction.execute("CREATE TABLE version (number bigint NOT NULL, least bigint NOT NULL)")
        transaction.execute("INSERT INTO version VALUES (0, 0)")
        _migrate_once(transaction)


def _migrate_once(transaction: Transaction) -> None:
    """Make the next migration, unless another process was faster."""
    version, _ = _version_of(transaction)
    if version < len(MIGRATIONS):
        for statement in MIGRATIONS[version]:
            transaction.execute(statement)
        transaction.execute("UPDATE version SET number = %s, least = %s", (version + 1, LEAST[version]))


def explained(problem: psycopg.Error, address: str) -> StoreError:
    """The error that says what happened to the database and what the user can do about it, without the password."""
    name, said = shown(address), without_secrets(" ".join(str(problem).split()), address)
    match problem:
        case errors.LockNotAvailable():
            return StoreError(f"{name}: another process keeps the store locked; end it, or try again")
        case errors.QueryCanceled() | errors.IdleInTransactionSessionTimeout():
            return StoreError(f"{name}: the store took too long to answer ({said})")
        case errors.DiskFull():
            return StoreError(f"{name}: there is no room left for the store; free some on its host")
        case errors.ReadOnlySqlTransaction():
            return StoreError(f"{name}: the store cannot be written: it is a standby, or read-only")
        case errors.InsufficientPrivilege():
            return StoreError(
                f"{name}: the store cannot be used ({said}); let the user own the schema {SCHEMA}, or make it"
            )
        case errors.UndefinedTable() | errors.UndefinedColumn():
            return StoreError(f"{name}: the tables of the store are damaged ({said}); restore them from a backup")
        case psycopg.OperationalError():
            return StoreError(f"{name}: the store cannot be reached ({said}); start it, or correct its address")
    return StoreError(f"{name}: the store failed ({said})")
