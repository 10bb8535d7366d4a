"""The back ends that the contract is tested on, by name. A new back end is one more row."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from partsong.store.backend import Backend
from partsong.store.sqlite.backend import SQLite

# Each makes a back end, not opened yet, on the database that belongs to a test's folder.
BACKENDS: dict[str, Callable[[Path], Backend]] = {"sqlite": lambda folder: SQLite(folder / "s.db")}
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
