"""The keys that servers on several hosts share, from their database.

A server knows the keys as they were a second ago at most. A secret that has the form of a key, and is none that the
server knows, waits for a read that begins after its request. So a key that was just added on another host is valid, and
its limits count. While the database cannot be read, the keys that were read last stay
valid. A server that has never read them answers nobody.
"""

import asyncio

from partsong.errors import ConfigurationError, StoreError
from partsong.keys import Key, find_key, has_form, read_keys
from partsong.store import Store

FRESH = 1.0  # seconds for which a removed key may stay valid
PAUSE = 0.1  # seconds between two reads, however many unknown keys cause them
WITHIN = 2.0  # seconds for which a request waits for the keys


class SharedKeys:
    """The keys in a shared database. Implements `KnownKeys`; `refresh` must be awaited before each request."""

    mended = "database can be read"

    def __init__(self, store: Store) -> None:
        self.told = ""
        self._store = store
        self._keys: tuple[Key, ...] | None = None
        self._problem = "the keys have not been read yet"
        self._began = float("-inf")
        self._reading: asyncio.Task[None] | None = None

    def any(self) -> bool:
        return bool(self.all())

    def all(self) -> tuple[Key, ...]:
        if self._keys is None:
            raise ConfigurationError(self._problem)
        return self._keys

    def find(self, secret: str) -> Key | None:
        return find_key(self.all(), secret)

    async def refresh(self, secret: str = "") -> None:
        """Read the keys if they are old, or if no key has this secret, which has the form of a key. Raises nothing."""
        clock = asyncio.get_running_loop().time
        now = clock()
        known = self._keys is not None and (not has_form(secret) or find_key(self._keys, secret) is not None)
        since, until = now - FRESH if known else now, now + WITHIN
        while self._began < since and (left := until - clock()) > 0:
            if self._reading is None:
                self._reading = asyncio.create_task(self._read())
                self._reading.add_done_callback(self._done)
            await asyncio.wait((self._reading,), timeout=left)

    async def close(self) -> None:
        """Give up a read that is under way."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait((self._reading,))

    def _done(self, reading: "asyncio.Task[None]") -> None:
        self._reading = None

    async def _read(self) -> None:
        clock = asyncio.get_running_loop().time
        await asyncio.sleep(max(0.0, self._began + PAUSE - clock()))
        self._began = clock()
        try:
            self._keys = read_keys(await self._store.read_keys(), "the database")
            self.told = ""
        except (StoreError, ConfigurationError) as problem:
            self._problem = str(problem)
