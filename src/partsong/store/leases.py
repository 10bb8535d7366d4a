"""Renews what this process holds in the store, so that what a process that has died held comes free.

No process has to find out whether another process lives, which is impossible across containers.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from partsong.errors import StoreError

PARTS = 4  # renewals within a lease
K = TypeVar("K")
Renew = Callable[[tuple[K, ...], float], Awaitable[object]]


class Leases(Generic[K]):
    """What this process holds. `lease` is for how many seconds each of it is kept at a time.

    renew: keeps these holds for so many seconds more; `None` to renew nothing
    """

    def __init__(self, renew: Renew[K] | None, lease: float) -> None:
        self.lease = lease
        self._renew = renew
        self._holds: set[K] = set()
        self._renewing: asyncio.Task[None] | None = None

    def __contains__(self, hold: K) -> bool:
        return hold in self._holds

    def add(self, hold: K) -> None:
        """Renew the hold from now on."""
        self._holds.add(hold)
        if self._renewing is None and self._renew is not None:
            self._renewing = asyncio.create_task(self._renew_all(self._renew))

    def remove(self, hold: K) -> None:
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

    async def _renew_all(self, renew: Renew[K]) -> None:
        while True:
            await asyncio.sleep(self.lease / PARTS)
            try:
                await renew(tuple(self._holds), self.lease)
            except StoreError:
                continue  # a hold that lapses meanwhile must find its money anew
