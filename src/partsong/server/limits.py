"""The limits of a key: requests at once and requests a minute, over all processes of the server.

A single process counts in memory. Several processes count in the store that they share, with one small transaction for
each request of a key that has such a limit.

If the store is off, each process counts for itself, and gives a key its share of the limit, at least one request. If
the store fails, requests of such keys are refused: a limit that cannot be checked would not be one.

Requests count by `Key.owner`, so that a key that is made anew under an old name begins without requests. They count
before their body is read.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Protocol

from partsong.errors import StoreError
from partsong.keys import Key
from partsong.server.problems import ProblemError
from partsong.store import Refusal, owed
from partsong.wire.reply import Problem

HOLD = 6.0  # seconds until a slot that is not renewed is free again, as the slots of a process that has died
RENEWED = HOLD / 3  # seconds between two renewals
LOOK = 0.1  # seconds until a second attempt: the release of a slot may not be written yet


class Register(Protocol):
    """The counts of requests that processes share. `Store` implements this protocol and explains its methods."""

    async def take(
        self, slot: int, key: str, *, at_once: int | None, per_minute: int | None, hold: float
    ) -> Refusal | None: ...

    async def keep_places(self, slots: Iterable[tuple[int, str]], hold: float) -> None: ...

    def leave(self, slot: int) -> None: ...


class Limits:
    """Enforces the limits of keys in one process.

    register: the counts that all processes share; `None` (default) if this process counts for itself
    parts: number of processes (default 1), by which limits are divided if this process counts for itself
    """

    def __init__(self, register: Register | None = None, parts: int = 1) -> None:
        self.register, self.parts = register, parts
        self.at_work: dict[str, int] = {}  # requests under way of each key in this process
        self.held: dict[int, str] = {}  # the key of each slot that is held in the register
        self._due: dict[str, float] = {}  # when the earlier requests of a key no longer count, in time of the loop
        self._renewing: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def within(self, key: Key) -> AsyncIterator[None]:
        """Count a request of the key until the block is left. Raises `ProblemError` if the key has reached a limit."""
        slot = None
        if self.register is None:
            self._check(key)
        else:
            slot = secrets.randbits(62)
        self.at_work[key.owner] = self.at_work.get(key.owner, 0) + 1
        try:
            if slot is not None and self.register is not None:
                await self._enter(self.register, key, slot)
            yield
        finally:
            self.at_work[key.owner] -= 1
            if not self.at_work[key.owner]:
                del self.at_work[key.owner]
            if slot is not None and self.register is not None:
                self._leave(self.register, slot)

    async def _enter(self, register: Register, key: Key, slot: int) -> None:
        """Take a slot in the register for a request of the key. Raises `StoreError` if the register fails."""
        try:
            refusal = await self._take(register, key, slot)
            if refusal is not None and refusal.limit == "at_once":
                await asyncio.sleep(LOOK)
                refusal = await self._take(register, key, slot)
        except (asyncio.CancelledError, StoreError):
            register.leave(slot)  # the slot may be taken already or still, and nobody else would release it
            raise
        if refusal is not None:
            raise _refused(key, refusal)
        if key.at_once is None:
            return
        self.held[slot] = key.owner
        if self._renewing is None:
            self._renewing = asyncio.create_task(self._renew(register))

    async def _take(self, register: Register, key: Key, slot: int) -> Refusal | None:
        return await register.take(slot, key.owner, at_once=key.at_once, per_minute=key.requests_per_minute, hold=HOLD)

    def _leave(self, register: Register, slot: int) -> None:
        if self.held.pop(slot, None) is None:
            return
        register.leave(slot)
        if not self.held and self._renewing is not None:
            self._renewing.cancel()
            self._renewing = None

    async def _renew(self, register: Register) -> None:
        """Renew the slots of this process, until cancelled."""
        while True:
            await asyncio.sleep(RENEWED)
            try:
                await register.keep_places(tuple(self.held.items()), HOLD)
            except StoreError:
                continue  # the store tells its failure itself

    def _check(self, key: Key) -> None:
        """Count a request in this process. Raises `ProblemError` if the process's share of a limit is used up."""
        at_work = self.at_work.get(key.owner, 0)
        if key.at_once is not None and at_work >= self._part(key.at_once):
            raise _refused(key, Refusal("at_once", 1.0))
        if key.requests_per_minute is not None:
            now = asyncio.get_running_loop().time()
            due, wait = owed(self._due.get(key.owner, now), now, self._part(key.requests_per_minute))
            if wait:
                raise _refused(key, Refusal("requests_per_minute", wait))
            self._due[key.owner] = due

    def _part(self, limit: int) -> int:
        return max(1, limit // self.parts)


def _refused(key: Key, refusal: Refusal) -> ProblemError:
    what = (
        f"{key.at_once} requests at once"
        if refusal.limit == "at_once"
        else f"{key.requests_per_minute} requests a minute"
    )
    message = f'the key "{key.name}" may make {what}'
    return ProblemError(Problem(429, "rate_limit", message, retry_after=refusal.wait))
