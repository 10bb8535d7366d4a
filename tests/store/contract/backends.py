"""The back ends that the contract is tested on, by name. A new back end is one more row."""

import os
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from partsong.store.backend import Backend
from partsong.store.sqlite.backend import SQLite
from tests import postgres

POOLER = "PARTSONG_TEST_POOLER"  # environment variable with the port of a pooler before that server
SERVER = "PARTSONG_TEST_POSTGRES"  # environment variable with the port of the tests' server


def _sqlite(folder: Path) -> Backend:
    return SQLite(folder / "s.db")


def _postgres(folder: Path) -> Backend:
    from partsong.store.postgres.backend import Postgres

    server, name = postgres.Cluster(folder, int(os.environ[SERVER])), f"test{zlib.crc32(str(folder).encode())}"
    server.database(name)
    return Postgres(server.address(name, port=int(os.environ.get(POOLER) or server.port)))


# Each makes a back end, not opened yet, on the database that belongs to a test's folder.
BACKENDS: dict[str, Callable[[Path], Backend]] = {"sqlite": _sqlite, "postgres": _postgres, "pooler": _postgres}
Opening = Callable[[], AbstractAsyncContextManager[Backend]]


@asynccontextmanager
async def opened(name: str, folder: Path) -> AsyncIterator[Backend]:
    """The back end, open until the block is left."""
    backend = BACKENDS[name](folder)
    try:
        await backend.open()
        yield backend
    finally:
        await backend.close()
