"""Copies the store of one machine, an SQLite file, into the PostgreSQL database that several hosts share.

A copy can be stopped at any time and started again. It adds what the database does not have yet, a few rows at a time,
and never adds a row twice. So the file stays as it is, and may be copied again later.
"""

import socket
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path

from partsong.addresses import fault_of, shown
from partsong.errors import ConfigurationError, StoreError
from partsong.store.portable import Row
from partsong.store.sqlite import leaving
from partsong.store.sqlite.database import Database

ROWS = 200  # most rows that are read, and written, in one transaction
SIZE = 4 << 20  # bytes after which no further row is added to them


@dataclass(slots=True)
class Copied:
    """How far a copy is.

    all_runs, all_calls: how many runs and calls the file has
    runs, calls: how many of them have been looked at
    new_runs, new_calls: how many of these the database did not have
    votes: how many votes have been looked at
    """

    all_runs: int = 0
    all_calls: int = 0
    runs: int = 0
    calls: int = 0
    new_runs: int = 0
    new_calls: int = 0
    votes: int = 0


async def copy_store(source: Path, address: str, copied: Copied) -> None:
    """Copy all runs with their conversations, calls and votes, and the money of each day.

    source: the SQLite file; it is brought to the schema of this version, as by any command that opens the file
    address: the database, as `postgresql://…`
    copied: is told how far the copy is, after each transaction

    Raises `StoreError` if a store cannot be read or written, or if a process that spends money still works with the
    file. Raises `ConfigurationError` if the address is malformed or psycopg is not installed.
    """
    _check(source)
    if (wrong := fault_of(address)) is not None:
        raise ConfigurationError(f"store: {wrong}")
    try:
        from partsong.store.postgres import arriving, database, locks
    except ImportError as problem:
        if (problem.name or "").partition(".")[0] not in ("psycopg", "psycopg_binary"):
            raise
        message = f"{shown(address)}: needs the extra `postgres`: pip install 'partsong[postgres]'"
        raise ConfigurationError(message) from None
    async with AsyncExitStack() as stack:
        file, target = Database(source), database.Database(address)
        for each in (file, target):
            stack.push_async_callback(each.close)
            await each.open()
        money, alive = await file.read(partial(leaving.money, now=time.time()))
        if alive:
            raise StoreError(
                f"{source}: a server or a command works with this store, and spends money; stop it, and copy again"
            )
        counted = await file.read(leaving.count)
        copied.all_runs, copied.all_calls = counted["runs"], counted["calls"]
        # The money comes first: a database that is in use already must know of it before anything is spent there.
        await target.write(partial(arriving.take_money, source=identity(source), rows=money), locks.MONEY)
        after = 0
        while True:
            after, runs = await file.read(partial(leaving.runs, after=after, most=ROWS, size=SIZE))
            if not runs:
                break
            copied.new_runs += await target.write(partial(arriving.take_runs, leaving=runs))
            copied.runs += len(runs)
        last: Row = (b"", b"")
        while rows := await file.read(partial(leaving.conversations, after=last, most=ROWS)):
            await target.write(partial(arriving.take_conversations, rows=rows))
            last = rows[-1]
        after = 0
        while True:
            after, calls = await file.read(partial(leaving.calls, after=after, most=ROWS, size=SIZE))
            if not calls:
                break
            copied.new_calls += await target.write(partial(arriving.take_calls, leaving=calls), locks.USING_PROMPTS)
            copied.calls += len(calls)
        after = 0
        while True:
            after, votes = await file.read(partial(leaving.votes, after=after, most=ROWS))
            if not votes:
                break
            await target.write(partial(arriving.take_votes, rows=votes))
            copied.votes += len(votes)


def _check(source: Path) -> None:
    """Raise `StoreError` for a file that is not there: opening a store makes its file."""
    if not source.is_file():
        raise StoreError(f"{source}: there is no such store")


def identity(source: Path) -> bytes:
    """What tells this file from the stores of other hosts: the name of the host, and the path."""
    return sha256(f"{socket.gethostname()}\0{source.resolve()}".encode("utf-8", "surrogateescape")).digest()
