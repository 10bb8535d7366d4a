"""Renews the holds of this process, so that those of a process that has died come free.

No process has to find out whether another process lives, which is impossible across containers.
"""

import asyncio

from partsong.errors import StoreError
from partsong.store.backend import LEASE, Backend

PARTS = 4  # renewals within a lease


class Leases:
    """The holds of this process. `lease` is for how many seconds each is kept at a time."""

    def __init__(self, backend: Backend | None, lease: float = LEASE) -> None:
        self.lease = lease
        self._backend = backend
        self._holds: set[int] = set()
        self._renewing: asyncio.Task[None] | None = None

    def add(self, hold: int) -> None:
        """Renew the hold from now on."""
        self._holds.add(hold)
        if self._renewing is None and self._backend is not None:
            self._renewing = asyncio.create_task(self._renew(self._backend))

    def remove(self, hold: int) -> None:
        """Renew the hold no longer."""
        self._holds.discard(hold)
        if not self._holds and self._renewing is not None:
            self._renewing.cancel()
            self._renewing = None

    async def close(self) -> None:
        """Renew nothing any longer."""
        self._holds.clear()
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait([self._renewing])
            self._renewing = None

    async def _renew(self, backend: Backend) -> None:
        while True:
            await asyncio.sleep(self.lease / PARTS)
            try:
                await backend.renew(tuple(self._holds), self.lease)
            except StoreError:
                continue  # a hold that lapses meanwhile must find its money anew
